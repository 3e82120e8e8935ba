"""The console takes no files: an upload is refused before a byte of it reaches the disk."""

from typing import Any, NoReturn

from django.core.exceptions import RequestDataTooBig
from django.core.files.uploadhandler import FileUploadHandler


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
