"""A file of people as a spreadsheet program saves it: its encoding, its delimiter, its columns and its lines."""

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, Self

from django.utils.translation import gettext as _

COLUMNS = ("email", "first_name", "last_name", "language", "time_zone", "groups", "role", "products")
# Written without spaces, signs and capitals: "E-mail", "First Name", "time_zone" are all understood.
_SPELLINGS = {name.replace("_", ""): name for name in COLUMNS} | {
    "emailaddress": "email",
    "timezone": "time_zone",
    "firstname": "first_name",
    "lastname": "last_name",
    "group": "groups",
    "usergroup": "groups",
    "usergroups": "groups",
    "product": "products",
}
_DELIMITERS = ",;\t|"
_BYTE_ORDER_MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}


class InvalidFile(ValueError):
    """The file as a whole cannot be read as a list of people."""


class Record(NamedTuple):
    """One person's line; more than one line when a quoted cell holds line breaks."""

    first_line: int
    last_line: int
    cells: list[str]
    problem: str  # why the line has no cells that could be used


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A readable file of people. Bytes that are not of its encoding arrive as lone surrogates (`surrogateescape`)."""

    path: Path
    encoding: str
    delimiter: str
    columns: tuple[str, ...]
    header_lines: int

    @classmethod
    def at(cls, path: Path, *, encoding: str = "", delimiter: str = "") -> Self:
        """Return the sheet, its encoding and delimiter found out when not given. Raises InvalidFile."""
        encoding = encoding or _encoding_of(path)
        with _lines_of(path, encoding) as lines:
            header = list(_logical_line(lines))
        if not header:
            raise InvalidFile(_("The file is empty: its first line has to name the columns."))
        if "\x00" in header[0]:
            raise InvalidFile(_("The file is not in the encoding %(encoding)s; utf-16 perhaps?") % {"encoding": encoding})
        delimiter = {"tab": "\t", "\\t": "\t"}.get(delimiter, delimiter) or max(
            _DELIMITERS, key=lambda each: sum(_column(name) in COLUMNS for name in _cells(header, each))
        )
        if len(delimiter) != 1 or delimiter in '"\r\n ':
            raise InvalidFile(_("A delimiter is one character, such as “,” or “;”, or “tab”."))
        return cls(
            path=path,
            encoding=encoding,
            delimiter=delimiter,
            columns=_known(_cells(header, delimiter)),
            header_lines=len(header),
        )

    def records(self) -> Iterator[Record]:
        """Yield the people, line by line; empty lines are passed over."""
        with _lines_of(self.path, self.encoding) as lines:
            reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
            next(reader)
            while True:
                first_line, cells, problem = reader.line_num + 1, [], ""
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    problem = _("This line cannot be read: %(error)s.") % {"error": error}
                if len(cells) != len(self.columns) and any(cells):
                    problem = _("This line has %(count)s columns, the header has %(expected)s.") % {
                        "count": len(cells),
                        "expected": len(self.columns),
                    }
                if problem or any(cells):
                    yield Record(first_line, reader.line_num, cells, problem)

    def copy_lines(self, ranges: Iterable[tuple[int, int]], to: Path) -> None:
        """Write the header and these ranges of lines, in ascending order, to another file, exactly as they are here."""
        wanted = iter([(1, self.header_lines), *ranges])
        first, last = next(wanted)
        with (
            _lines_of(self.path, self.encoding) as lines,
            to.open("w", encoding=self.encoding, errors="surrogateescape", newline="") as copy,
        ):
            for number, line in enumerate(lines, start=1):
                while number > last:
                    first, last = next(wanted, (1 << 62, 1 << 62))
                if number >= first:
                    copy.write(line)


@contextmanager
def _lines_of(path: Path, encoding: str) -> Iterator[IO[str]]:
    try:
        with path.open(encoding=encoding, errors="surrogateescape", newline="") as lines:
            yield lines
    except LookupError as error:
        raise InvalidFile(_("There is no encoding “%(encoding)s”.") % {"encoding": encoding}) from error
    except UnicodeError as error:
        raise InvalidFile(_("The file is not in the encoding %(encoding)s.") % {"encoding": encoding}) from error


def _encoding_of(path: Path) -> str:
    """Return what the file says it is; else UTF-8, unless not one of its accented lines is that."""
    with path.open("rb") as file:
        start = file.read(4)
        for mark, encoding in _BYTE_ORDER_MARKS.items():
            if start.startswith(mark):
                return encoding
        file.seek(0)
        utf_8 = other = 0
        for line in file:
            if not line.isascii():
                try:
                    line.decode()
                    utf_8 += 1
                except UnicodeDecodeError:
                    other += 1
    return "cp1252" if other and not utf_8 else "utf-8"


def _logical_line(lines: Iterable[str]) -> Iterator[str]:
    quotes = 0
    for line in lines:
        yield line
        quotes += line.count('"')
        if quotes % 2 == 0:
            return


def _cells(header: list[str], delimiter: str) -> list[str]:
    try:
        return next(csv.reader(header, delimiter=delimiter), [])
    except csv.Error as error:
        raise InvalidFile(_("The first line cannot be read: %(error)s.") % {"error": error}) from error


def _column(name: str) -> str:
    return _SPELLINGS.get("".join(filter(str.isalpha, name)).lower(), "")


def _known(names: list[str]) -> tuple[str, ...]:
    columns = tuple(_column(name) for name in names)
    for name, column in zip(names, columns, strict=True):
        if not column:
            raise InvalidFile(
                _("There is no column “%(name)s”; those known are: %(known)s.")
                % {"name": name.strip()[:80], "known": ", ".join(each.replace("_", " ") for each in COLUMNS)}
            )
        if columns.count(column) > 1:
            raise InvalidFile(_("The column “%(name)s” is there twice.") % {"name": name.strip()})
    if "email" not in columns:
        raise InvalidFile(_("There is no column “email”: it tells who a user is."))
    return columns
