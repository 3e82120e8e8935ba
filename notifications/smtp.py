"""The conversation with the mail server, told apart as finely as an outbox needs: whose fault, and may it have gone out?

`smtplib.sendmail` cannot say whether a connection was lost before or after the end of the message, so the steps are taken here.
"""

import contextlib
import smtplib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.core.mail import mailers

from notifications.emails import Letter


@dataclass(frozen=True)
class Answer:
    """What the server answered to one email."""

    code: int
    words: str

    @property
    def accepted(self) -> bool:
        return 200 <= self.code < 300

    @property
    def refused(self) -> bool:
        """Whether asking again is pointless."""
        return self.code >= 500


class ServerUnavailableError(Exception):
    """The server cannot be reached, or takes nothing from us now: all emails have to wait."""

    def __init__(self, words: str, code: int | None = None) -> None:
        super().__init__(words)
        self.words, self.code = words, code


class ConnectionLostError(Exception):
    """The connection broke during an email. When `unclear`, it was sent whole and may have been accepted."""

    def __init__(self, words: str, *, unclear: bool) -> None:
        super().__init__(words)
        self.words, self.unclear = words, unclear


@contextlib.contextmanager
def connected() -> Iterator[smtplib.SMTP]:
    """Yield a connection to the mail server of the settings. Raises ServerUnavailableError."""
    mailer: Any = mailers.default
    try:
        mailer.open()
        server: smtplib.SMTP = mailer.connection
        server.ehlo_or_helo_if_needed()
    except smtplib.SMTPResponseException as error:
        raise ServerUnavailableError(_words(error.smtp_error), error.smtp_code) from error
    except OSError as error:  # smtplib's other exceptions, timeouts and TLS errors are OSErrors
        raise ServerUnavailableError(str(error) or type(error).__name__) from error
    # An email is written in two parts, and the second must not wait for the first one's acknowledgement.
    server.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # type: ignore[union-attr]
    try:
        yield server
    finally:
        with contextlib.suppress(OSError):
            mailer.close()


def send(server: smtplib.SMTP, letter: Letter) -> Answer:
    """Send one email and return the server's answer. Raises ServerUnavailableError or ConnectionLostError."""
    unclear = False
    try:
        answer = _answer(*server.mail(letter.sender))
        if not answer.accepted:  # That is about us, not about the reader.
            raise ServerUnavailableError(answer.words, answer.code)
        answer = _answer(*server.rcpt(letter.to))
        if not answer.accepted:
            _start_over(server)
            return answer
        server.putcmd("data")
        answer = _answer(*server.getreply())
        if answer.code != 354:
            _start_over(server)
            return answer
        server.send(_dotted(letter.content))
        unclear = True
        server.send(b".\r\n")
        return _answer(*server.getreply())
    except OSError as error:
        raise ConnectionLostError(str(error) or type(error).__name__, unclear=unclear) from error


def _start_over(server: smtplib.SMTP) -> None:
    # A connection that breaks now does not change the answer that we have; who sends the next email sees it is closed.
    with contextlib.suppress(OSError):
        server.rset()


def _answer(code: int, words: bytes) -> Answer:
    if code == 421:  # It closes the connection.
        raise ServerUnavailableError(_words(words), code)
    if code == -1:
        raise OSError("the server's answer is not SMTP")
    return Answer(code, _words(words))


def _words(words: bytes | str) -> str:
    text = words if isinstance(words, str) else words.decode("utf-8", "replace")
    return " ".join(text.replace("\x00", "").split())[:500]


def _dotted(content: bytes) -> bytes:
    """Return the content as it travels: a line that begins with a dot gets another one."""
    content = content.replace(b"\r\n.", b"\r\n..")
    return content if content.endswith(b"\r\n") else content + b"\r\n"
