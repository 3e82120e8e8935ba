"""Real mail servers for tests, and what they received: `smtp_script` misbehaves on demand, `mail_sink` is the console's own.

Take the fixtures by importing them in a folder's conftest.py.
"""

import socketserver
import ssl
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from tests.database import Database
from tests.processes import Process, free_port

SHORT_TIMEOUT = 1.0


@dataclass(frozen=True)
class Received:
    """A message as a server received it."""

    sender: str
    recipients: list[str]
    raw: bytes

    @property
    def message(self) -> EmailMessage:
        parsed = message_from_bytes(self.raw, policy=policy.default)
        assert isinstance(parsed, EmailMessage)
        return parsed

    @property
    def text(self) -> str:
        return self._part("plain")

    @property
    def html(self) -> str:
        return self._part("html")

    def _part(self, subtype: Any) -> str:
        body = self.message.get_body((subtype,))
        return body.get_content().replace("\r\n", "\n") if body else ""


@dataclass
class ScriptedServer:
    """An SMTP server in this process. What it does to which address is in `rules`:

    "HANG", "DROP BEFORE DATA", "DROP AFTER DATA" (the message is received), "DROP ONCE AFTER DATA", or a reply such as
    "550 5.1.1 No such user".
    """

    rules: dict[str, str] = field(default_factory=dict)
    greeting: str = "220 ready"  # "HANG", "DROP" or a reply
    mail_reply: str = "250 ok"
    data_reply: str = "250 accepted"
    pipelining: bool = True  # whether it says that it takes several commands at once; it always does
    login: tuple[str, str] | None = None  # the name and password without which it takes nothing
    mechanisms: str = "PLAIN LOGIN"  # by which one signs in
    per_connection: int | None = None  # so many emails, then it closes
    waits_for_nobody: bool = False  # asks for a content even when it refused the recipient
    delay: float = 0.0  # before each reply to a message
    keeps: int | None = None  # so many bytes of each message; None: all
    messages: list[Received] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        script = self

        class Conversation(socketserver.StreamRequestHandler):
            disable_nagle_algorithm = True

            def handle(self) -> None:
                script.connections += 1
                script.talk(self)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", 0), Conversation)
        self._stopped = threading.Event()
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Stop; who still talks to it is let go."""
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()

    def speak_tls(self, context: ssl.SSLContext) -> None:
        """Speak TLS from the start with whoever comes from now on."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def to(self, address: str) -> list[Received]:
        """Return what was received for this address."""
        return [message for message in self.messages if address in message.recipients]

    def talk(self, at: socketserver.StreamRequestHandler) -> None:
        def say(reply: str) -> None:
            at.wfile.write(f"{reply}\r\n".encode())

        def follows(rule: str) -> bool:
            """Return whether the conversation goes on after this rule."""
            if rule == "HANG":
                self._stopped.wait(30)
            elif not rule.startswith("DROP"):
                say(rule)
                return not rule.startswith("421")
            return False

        def signs_in(mechanism: str, response: str) -> bool:
            given = [b64decode(response).decode()]
            if mechanism == "LOGIN":
                say("334 UGFzc3dvcmQ6")
                given.append(b64decode(at.rfile.readline()).decode())
            else:
                given = given[0].split("\0")[1:]
            say("235 2.7.0 welcome" if tuple(given) == self.login else "535 5.7.8 Username and password not accepted")
            return tuple(given) == self.login

        if not follows(self.greeting):
            return
        sender, recipients, taken, may_send = "", list[str](), 0, self.login is None
        while line := at.rfile.readline().decode().strip():
            verb, _space, rest = line.partition(" ")
            address = rest[rest.find("<") + 1 : rest.find(">")]
            rule = self.rules.get(recipients[-1] if recipients else address, "")
            match verb.upper():
                case "EHLO":
                    extensions = ["PIPELINING"] * self.pipelining + [f"AUTH {self.mechanisms}"] * (self.login is not None)
                    *first, last = ["here", *extensions]
                    say("".join(f"250-{extension}\r\n" for extension in first) + f"250 {last}")
                case "AUTH":
                    may_send = signs_in(*rest.split())
                case "RSET":
                    recipients = []
                    say("250 ok")
                case "MAIL":
                    sender, recipients = address, []
                    if taken == self.per_connection:
                        say("421 4.7.0 Too many messages in one connection")
                        return
                    if not follows(self.mail_reply if may_send else "530 5.7.0 Authentication required"):
                        return
                case "RCPT":
                    if rule[:1].isdigit() or rule == "HANG":
                        if not follows(rule):
                            return
                    else:
                        recipients.append(address)
                        say("250 ok")
                case "DATA":
                    if rule == "DROP BEFORE DATA":
                        return
                    if not recipients and not self.waits_for_nobody:
                        say("503 5.5.1 Who is to get it?")
                        continue
                    say("354 go on")
                    content = b""
                    for part in iter(at.rfile.readline, b".\r\n"):
                        if not part:  # Who sent it is gone.
                            return
                        content += part[1:] if part.startswith(b"..") else part
                    time.sleep(self.delay)
                    if not recipients:
                        say("554 5.5.1 No valid recipients")
                        continue
                    if not self.data_reply.startswith("250"):
                        if not follows(self.data_reply):
                            return
                        continue
                    self.messages.append(Received(sender, recipients, content[: self.keeps]))
                    taken += 1
                    if rule == "DROP ONCE AFTER DATA":
                        del self.rules[recipients[0]]
                    if rule.endswith("AFTER DATA"):
                        return
                    say(self.data_reply)
                case "QUIT":
                    say("221 bye")
                    return
                case _:
                    say("502 what?")


class Sink(Process):
    """The console's own mail sink, as a process on the test's database."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.port = int(port)
        super().__init__("mail_sink", [sys.executable, "manage.py", "mail_sink", "--port", port], folder)

    def received(self) -> list[Received]:
        """Return every message that it stored, oldest first."""
        from notifications.models import SinkMessage

        return [Received(m.sender, m.recipients, bytes(m.raw)) for m in SinkMessage.objects.order_by("id")]


def deliver_to(settings: Any, monkeypatch: pytest.MonkeyPatch, port: int, timeout: float = SHORT_TIMEOUT) -> None:
    """Make this process and its subprocesses send to the server on this port."""
    options = {"host": "127.0.0.1", "port": port, "timeout": timeout}
    settings.MAILERS = {"default": {"BACKEND": "django.core.mail.backends.smtp.EmailBackend", "OPTIONS": options}}
    monkeypatch.setenv("EMAIL_HOST", "127.0.0.1")
    monkeypatch.setenv("EMAIL_PORT", str(port))


@pytest.fixture
def smtp_script(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    """Give the test a mail server that does what the test says."""
    server = ScriptedServer()
    deliver_to(settings, monkeypatch, server.port)
    yield server
    server.close()


@pytest.fixture
def mail_sink(committed_db: Database, settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Sink]:
    """Give the test the console's own mail sink, on its database."""
    with Sink(tmp_path) as sink:
        deliver_to(settings, monkeypatch, sink.port, timeout=15)
        yield sink
