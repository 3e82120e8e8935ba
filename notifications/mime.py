"""Emails as bytes: a message encoded once with gaps in it, and what goes into the gaps.

A gap lies between soft line breaks of the quoted-printable encoding, so whatever is put in neither breaks nor joins a line.
Encoded means as it travels: a line that begins with a dot gets another one (RFC 5321, 4.5.2), once for all who are sent it.
"""

import binascii
from base64 import encodebytes
from collections.abc import Mapping
from dataclasses import dataclass
from email.header import Header
from email.utils import formataddr
from functools import lru_cache
from itertools import groupby

from notifications.placeholders import Pieces, Value, one_line

# In quoted-printable "=" is followed by two digits or the end of a line: no part can hold these.
PARTS, RELATED = "=_parts", "=_related"
LOGO_ID = "logo@console"


@dataclass(frozen=True)
class Gap:
    """A place for a value."""

    name: str
    in_html: bool


@dataclass(frozen=True)
class Body:
    """What comes after the headers of the letter, encoded: bytes and gaps."""

    content: tuple[bytes | Gap, ...]

    def filled(self, values: Mapping[str, Value]) -> "Body":
        """Return the body with the values put in; gaps without a value stay. What is between the gaps is shared, not copied."""
        return Body(
            tuple(
                _by_lines(values[part.name][part.in_html]) if isinstance(part, Gap) and part.name in values else part
                for part in self.content
            )
        )

    def joined(self) -> "Body":
        """Return the body with as few parts as there can be."""
        runs = groupby(self.content, key=lambda part: isinstance(part, bytes))
        return Body(tuple(part for is_bytes, run in runs for part in ([b"".join(run)] if is_bytes else run)))  # type: ignore[arg-type]

    def as_bytes(self, values: Mapping[str, Value]) -> bytes:
        """Return the body with all of its gaps filled. Raises KeyError when a value is missing."""
        encoded = {name: (quoted(value.text), quoted(value.html)) for name, value in values.items()}
        return b"".join([part if isinstance(part, bytes) else encoded[part.name][part.in_html] for part in self.content])


def body_of(text: Pieces, html: Pieces | None, logo: bytes | None = None) -> Body:
    """Return the encoded body of an email: its text, or text and HTML, the logo beside the HTML."""
    plain: list[bytes | Gap] = [_head("text/plain"), *_content(text, in_html=False)]
    if html is None:
        return Body((b"MIME-Version: 1.0\r\n", *plain))
    rich: list[bytes | Gap] = [_head("text/html"), *_content(html, in_html=True)]
    if logo is not None:
        rich = [
            f'Content-Type: multipart/related; type="text/html"; boundary="{RELATED}"\r\n\r\n--{RELATED}\r\n'.encode(),
            *rich,
            f"\r\n--{RELATED}\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\nContent-ID: <{LOGO_ID}>\r\n"
            f"Content-Disposition: inline\r\n\r\n{encodebytes(logo).decode()}--{RELATED}--\r\n".replace("\n", "\r\n")
            .replace("\r\r\n", "\r\n")
            .encode(),
        ]
    start = f'MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary="{PARTS}"\r\n\r\n--{PARTS}\r\n'.encode()
    between, end = f"\r\n--{PARTS}\r\n".encode(), f"\r\n--{PARTS}--\r\n".encode()
    return Body((start, *plain, between, *rich, end))


def quoted(text: str) -> bytes:
    """Return the text as quoted-printable between soft line breaks, so that it fits in anywhere."""
    return b"=\r\n" + _quoted_printable(text) + b"=\r\n"


@lru_cache(maxsize=1_000)
def header(name: str, value: str) -> bytes:
    """Return a header line. What could begin another one is taken out of the value."""
    value = one_line(value)
    written = Header(value, None if value.isascii() else "utf-8", maxlinelen=76, header_name=name).encode(linesep="\r\n")
    return f"{name}: {written}\r\n".encode()


@lru_cache(maxsize=1_000)
def address_header(name: str, address: str, person: str = "") -> bytes:
    """Return a header line with an address, and whose it is."""
    return f"{name}: {formataddr((one_line(person), one_line(address)))}\r\n".encode()


def _head(kind: str) -> bytes:
    return f'Content-Type: {kind}; charset="utf-8"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n'.encode()


def _content(pieces: Pieces, *, in_html: bool) -> list[bytes | Gap]:
    found: list[bytes | Gap] = [_quoted_printable(pieces.literals[0])]
    for name, literal in zip(pieces.names, pieces.literals[1:], strict=True):
        found += [Gap(name, in_html), _quoted_printable(literal)]
    return found


def _by_lines(text: str) -> bytes:
    """Return the same as `quoted`, for what is told to many: most of its lines were encoded before."""
    return b"=\r\n" + b"\r\n".join(map(_line, text.split("\n"))) + b"=\r\n"


@lru_cache(maxsize=5_000)
def _line(text: str) -> bytes:
    return _quoted_printable(text)


def _quoted_printable(text: str) -> bytes:
    encoded = b"\n" + binascii.b2a_qp(text.encode()).replace(b"\r\n", b"\n")
    return encoded.replace(b"\n.", b"\n..").replace(b"\n", b"\r\n")[2:]
