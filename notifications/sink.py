"""The built-in mail sink: an SMTP server that delivers nothing and stores everything, for the page Test inbox.

It knows as much of SMTP as a client needs who sends plain messages. Each client has a thread and a database session; a message is
read whole instead of line by line, and acknowledged once it is committed.
"""

import contextlib
import logging
import re
import signal
import socketserver
import threading
from collections.abc import Callable

import psycopg
from django.db import DatabaseError, connection

from notifications.emails import KINDS
from notifications.models import SinkMessage

logger = logging.getLogger(__name__)
_KIND = re.compile(rb"^Message-ID:\s*<([a-z_]+)\.", re.IGNORECASE | re.MULTILINE)
_ADDRESS = re.compile(rb"<([^>]*)>")
LARGEST = 32 * 2**20  # bytes of a message
REPLIES = {
    b"EHLO": b"250-mail-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE %d" % LARGEST,
    b"HELO": b"250 mail-sink",
    b"MAIL": b"250 2.1.0 Ok",
    b"RCPT": b"250 2.1.5 Ok",
    b"RSET": b"250 2.0.0 Ok",
    b"NOOP": b"250 2.0.0 Ok",
    b"QUIT": b"221 2.0.0 Bye",
}


def serve(host: str, port: int, ready: Callable[[int], None]) -> None:
    """Receive messages until SIGTERM or SIGINT; `ready` is called with the port as soon as it is open."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with _Server((host, port), _Conversation) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ready(server.server_address[1])
        stopped.wait()
        server.shutdown()


def is_confidential(content: bytes) -> bool:
    """Return whether a message of ours, as its Message-ID tells, lets its reader into somebody's account."""
    found = _KIND.search(content)
    kind = KINDS.get(found[1].decode().upper()) if found else None
    return kind is not None and kind.lets_in


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 100


class _Conversation(socketserver.BaseRequestHandler):
    """Talks to a client until it leaves, and stores what it sends."""

    def setup(self) -> None:
        self._unread, self._unsaid, self._until_trim = b"", b"", 0

    def handle(self) -> None:
        self._say(b"220 mail-sink")
        sender, recipients, verb = "", list[str](), b""
        with contextlib.suppress(OSError, EOFError):
            while verb != b"QUIT":
                line = self._next(b"\n")
                verb = line[:4].upper()
                reply = REPLIES.get(verb, b"502 5.5.1 That is not understood here")
                if verb in (b"MAIL", b"RCPT"):
                    found = _ADDRESS.search(line)
                    address = found[1].decode(errors="replace") if found else ""
                    sender, recipients = (address, []) if verb == b"MAIL" else (sender, [*recipients, address.lower()])
                elif verb == b"DATA":
                    reply = b"503 5.5.1 For whom?"
                    if recipients:
                        self._say(b"354 Go on")
                        reply, recipients = self._store(sender, recipients, self._content()), []
                self._say(reply)
            self.request.sendall(self._unsaid)

    def finish(self) -> None:
        connection.close()

    def _content(self) -> bytes:
        """Return the message that is coming, without what its transport added."""
        self._unread = b"\r\n" + self._unread  # An empty one ends with its first line.
        return self._next(b"\r\n.\r\n").replace(b"\r\n..", b"\r\n.")[2:] + b"\r\n"

    def _next(self, end: bytes) -> bytes:
        """Return what comes until `end`; before waiting for it, say what is to be said. Raises EOFError."""
        while (length := self._unread.find(end)) < 0:
            if self._unsaid:
                self.request.sendall(self._unsaid)
                self._unsaid = b""
            more = self.request.recv(65_536)
            if not more or len(self._unread) > LARGEST:
                raise EOFError
            self._unread += more
        found, self._unread = self._unread[:length], self._unread[length + len(end) :]
        return found

    def _say(self, reply: bytes) -> None:
        self._unsaid += reply + b"\r\n"

    def _store(self, sender: str, recipients: list[str], content: bytes) -> bytes:
        """Store a message, and return the reply to it."""
        try:
            if connection.connection is None:
                with connection.cursor() as cursor:
                    # The machine's own end may lose the last half second; that of this process nothing.
                    cursor.execute("SET synchronous_commit = off")
            with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
                # Not Django's own cursor, which would write the content into the text of the statement.
                cursor.execute(_STORE, (sender, recipients, content, is_confidential(content)), prepare=True)
            self._until_trim -= 1
            if self._until_trim < 0:
                self._until_trim = SinkMessage.KEPT // 10
                with connection.cursor() as cursor:
                    cursor.execute(_TRIM, [SinkMessage.KEPT])
        except Exception as error:  # whatever it is, the next messages are to be stored
            connection.close()
            logger.warning("a message is not stored: %s", error, exc_info=not isinstance(error, DatabaseError))
            return b"451 4.3.0 The message cannot be stored now, try again later"
        return b"250 2.0.0 Stored"


_STORE = "INSERT INTO notifications_sinkmessage (sender, recipients, raw, confidential) VALUES (%s, %s, %b, %s)"
_TRIM = "DELETE FROM notifications_sinkmessage WHERE id <= (SELECT max(id) FROM notifications_sinkmessage) - %s"
