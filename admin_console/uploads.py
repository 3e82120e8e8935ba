"""The console takes no files, but for a small logo into memory: an upload is refused before a byte of it reaches the disk."""

from typing import Any, NoReturn

from django.core.exceptions import RequestDataTooBig
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.files.uploadhandler import FileUploadHandler
from django.http import HttpRequest


class NoUploads(FileUploadHandler):
    """Refuses the first file of a request; the answer is 400."""

    def new_file(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise RequestDataTooBig, whatever the file."""
        raise RequestDataTooBig("The console takes no files.")

    def receive_data_chunk(self, raw_data: bytes, start: int) -> NoReturn:
        """Raise, for no file was begun."""
        raise AssertionError

    def file_complete(self, file_size: int) -> None:
        """Return no file."""


class OneSmallFile(FileUploadHandler):
    """Keeps one file of at most so many bytes in memory; of what is larger, one byte more, by which it is recognised."""

    def __init__(self, request: HttpRequest, *, most: int) -> None:
        super().__init__(request)
        self.most, self.content = most, bytearray()

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        """Begin the file. Raises RequestDataTooBig at a second one."""
        super().new_file(*args, **kwargs)
        if self.content:
            raise RequestDataTooBig("Only one file is taken.")

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        """Keep what there is room for."""
        self.content += raw_data[: self.most + 1 - len(self.content)]

    def file_complete(self, file_size: int) -> SimpleUploadedFile:
        """Return the file."""
        return SimpleUploadedFile(self.file_name or "file", bytes(self.content), self.content_type or "")
