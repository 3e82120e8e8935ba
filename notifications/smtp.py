"""The conversation with the mail server, told apart as finely as an outbox needs: whose fault, and may it have gone out?

`smtplib.sendmail` cannot say whether a connection was lost before or after the end of the message, so the steps are taken here.
Where the server offers it (RFC 2920), the next email is announced in one go with the content of the one before: one way there and
back for each. A content is handed over only after the caller agreed to it, so never two are under way.
"""

import contextlib
import smtplib
import socket
import ssl
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, BinaryIO, NamedTuple

from django.core.mail import mailers

from notifications.emails import Letter

CLOSES = 421  # the reply of a server that closes the connection
THROTTLING = frozenset({CLOSES, 450, 451, 454})
LONGEST_LINE = 8_192
NOT_SMTP = "the server's answer is not SMTP"


class Answer(NamedTuple):
    """What the server answered to one email."""

    code: int
    words: str
    about_address: bool = False  # said when it was told the recipient

    @property
    def accepted(self) -> bool:
        return 200 <= self.code < 300

    @property
    def refused(self) -> bool:
        """Whether asking again is pointless."""
        return self.code >= 500

    @property
    def throttles(self) -> bool:
        """Whether it may ask us to slow down."""
        return self.code in THROTTLING


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


class Conversation:
    """An open connection to the mail server: for each email `offer` it, then `hand_over` its content."""

    def __init__(self, server: smtplib.SMTP) -> None:
        assert server.sock is not None
        self._server, self._socket = server, server.sock
        self._replies: BinaryIO = server.file or server.sock.makefile("rb")
        server.file = self._replies
        self._pipelining = server.has_extn("pipelining")
        self._announced: Letter | None = None  # with the content before it; its replies are still to come
        self._expects_content = False
        self.has_taken = False  # whether it accepted an email

    @property
    def is_open(self) -> bool:
        """Whether it can still be used."""
        return self._server.sock is not None

    @property
    def has_announced(self) -> bool:
        """Whether the email that follows is announced already."""
        return self._announced is not None

    def offer(self, letter: Letter) -> Answer | None:
        """Announce an email; return None when the server waits for its content, else why it does not.

        Raises ServerUnavailableError or ConnectionLostError.
        """
        try:
            answers = self._announce(letter)
            refusal = next((answer for answer in answers if not (answer.accepted or answer.code == 354)), None)
            self._expects_content = answers[-1].code == 354
            if refusal is None:
                return None
            if refusal is answers[0]:  # That is about us, not about the reader.
                raise ServerUnavailableError(refusal.words, refusal.code)
            self._start_over()
            return refusal
        except OSError as error:
            raise self._lost(error, unclear=False) from error

    def hand_over(self, letter: Letter, following: Letter | None = None) -> Answer:
        """Give the content of the email just offered, and announce the one that surely follows; return the server's answer.

        Raises ServerUnavailableError or ConnectionLostError.
        """
        content = letter.content + (b".\r\n" if letter.content.endswith(b"\r\n") else b"\r\n.\r\n")
        ahead = following if self._pipelining else None
        data = memoryview(content + (b"".join(_envelope(ahead)) if ahead else b""))
        written = 0
        try:
            while written < len(data):
                written += self._socket.send(data[written:])
            answer = self._reply()
        except OSError as error:
            raise self._lost(error, unclear=written >= len(content)) from error
        self._expects_content, self._announced = False, ahead
        self.has_taken = self.has_taken or answer.accepted
        return answer

    def close_unless_idle(self) -> None:
        """Hang up when the server waits for a content, which it then forgets: whatever we said next would be taken for it."""
        if self._expects_content or self._announced:
            self._server.close()

    def _announce(self, letter: Letter) -> list[Answer]:
        if self._pipelining:
            if self._announced is not letter:
                self._socket.sendall(b"".join(_envelope(letter)))
            self._announced = None
            return [self._reply(), self._reply(about_address=True), self._reply()]
        answers = list[Answer]()
        for number, command in enumerate(_envelope(letter)):
            self._socket.sendall(command)
            answers.append(self._reply(about_address=number == 1))
            if not answers[-1].accepted:
                break
        return answers

    def _start_over(self) -> None:
        # A connection that breaks now does not change the answer that we have; who sends the next email sees it is closed.
        try:
            if self._expects_content:  # It refused the recipient and waits for a content all the same (RFC 2920, 3.1).
                self._socket.sendall(b".\r\n")
                self._reply()
            self._expects_content = False
            self._socket.sendall(b"RSET\r\n")
            self._reply()
        except (OSError, ServerUnavailableError):
            self._server.close()

    def _reply(self, *, about_address: bool = False) -> Answer:
        reply, more = b"", True
        while more:
            line = self._replies.readline(LONGEST_LINE)
            if not line.endswith(b"\n"):
                raise OSError("Connection unexpectedly closed" if not line else NOT_SMTP)
            reply, more = reply + line, line[3:4] == b"-"
        answer = _answer(reply, about_address)
        if answer.code == CLOSES:
            self._server.close()
            raise ServerUnavailableError(answer.words, answer.code)
        return answer

    def _lost(self, error: OSError, *, unclear: bool) -> ConnectionLostError:
        self._server.close()
        return ConnectionLostError(_why(error), unclear=unclear)


@contextlib.contextmanager
def connected() -> Iterator[Conversation]:
    """Yield a connection to the mail server of the settings. Raises ServerUnavailableError."""
    mailer: Any = mailers.default
    try:
        mailer.open()
        server: smtplib.SMTP = mailer.connection
        server.ehlo_or_helo_if_needed()
    except smtplib.SMTPResponseException as error:
        raise ServerUnavailableError(_words(error.smtp_error), error.smtp_code) from error
    except OSError as error:  # smtplib's other exceptions, timeouts and TLS errors are OSErrors
        raise ServerUnavailableError(_why(error)) from error
    # What we write must not wait for the acknowledgement of what we wrote before.
    server.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # type: ignore[union-attr]
    conversation = Conversation(server)
    try:
        yield conversation
    finally:
        with contextlib.suppress(OSError):
            conversation.close_unless_idle()
            mailer.close()


def _envelope(letter: Letter) -> tuple[bytes, bytes, bytes]:
    return f"MAIL FROM:<{letter.sender}>\r\n".encode(), f"RCPT TO:<{letter.to}>\r\n".encode(), b"DATA\r\n"


@lru_cache(maxsize=1_000)  # most replies are always the same
def _answer(reply: bytes, about_address: bool) -> Answer:
    """Return what a reply says, of one line or several. Raises OSError when it is none."""
    lines = reply.splitlines()
    if not lines[-1][:3].isdigit():
        raise OSError(NOT_SMTP)
    return Answer(int(lines[-1][:3]), _words(b" ".join(line[4:] for line in lines)), about_address)


def _why(error: OSError) -> str:
    """Return what went wrong with a connection, as an admin reads it."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"The mail server's certificate is not trusted: {error.verify_message}."
        case ssl.SSLError():
            return f"The connection to the mail server could not be secured: {error.reason or error}."
        case TimeoutError():
            return "The mail server did not answer in time."
        case _:
            return _words(error.strerror or str(error)) or "The connection to the mail server was lost."


def _words(words: bytes | str) -> str:
    text = words if isinstance(words, str) else words.decode("utf-8", "replace")
    return " ".join(text.replace("\x00", "").split())[:500]
