"""The built-in mail sink: an SMTP server that delivers nothing and stores everything, for the page Test inbox.

It knows as much of SMTP as a client needs who sends plain messages, and reads a message whole instead of line by line.
"""

import asyncio
import contextlib
import logging
import re
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

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


async def serve(host: str, port: int, ready: Callable[[int], None]) -> None:
    """Receive messages until SIGTERM or SIGINT; `ready` is called with the port as soon as it is open."""
    loop, stopped, sink = asyncio.get_running_loop(), asyncio.Event(), Sink()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    storing = asyncio.create_task(sink.store())
    server = await asyncio.start_server(sink.converse, host, port, limit=LARGEST)
    ready(server.sockets[0].getsockname()[1])
    await stopped.wait()
    server.close()
    storing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await storing


def is_confidential(content: bytes) -> bool:
    """Return whether a message of ours, as its Message-ID tells, lets its reader into somebody's account."""
    found = _KIND.search(content)
    kind = KINDS.get(found[1].decode().upper()) if found else None
    return kind is not None and kind.lets_in


@dataclass(frozen=True)
class Arrived:
    """A message as it was received."""

    sender: str
    recipients: list[str]
    content: bytes


class Sink:
    """Takes messages and stores them: one is acknowledged once it is committed; those that arrive meanwhile go together."""

    def __init__(self) -> None:
        self._arrived = asyncio.Event()
        self._waiting: list[tuple[Arrived, asyncio.Future[bytes]]] = []
        self._database = ThreadPoolExecutor(1)  # Django's connections belong to a thread
        self._until_trim = 0

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk to a client until it leaves."""
        sender, recipients, verb = "", list[str](), b""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            writer.write(b"220 mail-sink\r\n")
            while verb != b"QUIT" and (line := await reader.readline()):
                verb = line[:4].upper()
                reply = REPLIES.get(verb, b"502 5.5.1 That is not understood here")
                if verb in (b"MAIL", b"RCPT"):
                    found = _ADDRESS.search(line)
                    address = found[1].decode(errors="replace") if found else ""
                    sender, recipients = (address, []) if verb == b"MAIL" else (sender, [*recipients, address.lower()])
                elif verb == b"DATA":
                    reply = b"503 5.5.1 For whom?"
                    if recipients:
                        writer.write(b"354 Go on\r\n")
                        reply = await self._receive(Arrived(sender, recipients, await _content(reader)))
                        recipients = []
                writer.write(reply + b"\r\n")
        writer.close()

    async def store(self) -> None:
        """Store what arrives, for ever."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            batch, self._waiting = self._waiting, []
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._database, self._insert, [message for message, _reply in batch])
            for _message, reply in batch:
                if not reply.done():  # Its sender may be gone.
                    reply.set_result(answer)

    async def _receive(self, message: Arrived) -> bytes:
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append((message, reply))
        self._arrived.set()
        return await reply

    def _insert(self, messages: Sequence[Arrived]) -> bytes:
        rows = [(m.sender, m.recipients, m.content, is_confidential(m.content)) for m in messages]
        try:
            if connection.connection is None:
                with connection.cursor() as cursor:
                    # The machine's own end may lose the last half second; that of this process nothing.
                    cursor.execute("SET synchronous_commit = off")
            with connection.wrap_database_errors, connection.connection.cursor() as cursor:
                # Not Django's own cursor, which would write the contents into the text of the statement.
                cursor.executemany(_STORE, rows)
            self._until_trim -= len(rows)
            if self._until_trim <= 0:
                self._until_trim = SinkMessage.KEPT // 10
                with connection.cursor() as cursor:
                    cursor.execute(_TRIM, [SinkMessage.KEPT])
        except Exception as error:  # whatever it is, the next messages are to be stored
            connection.close()
            logger.warning("messages are not stored: %s", error, exc_info=not isinstance(error, DatabaseError))
            return b"451 4.3.0 The messages cannot be stored now, try again later"
        return b"250 2.0.0 Stored"


_STORE = "INSERT INTO notifications_sinkmessage (sender, recipients, raw, confidential) VALUES (%s, %s, %b, %s)"
_TRIM = "DELETE FROM notifications_sinkmessage WHERE id <= (SELECT max(id) FROM notifications_sinkmessage) - %s"


async def _content(reader: asyncio.StreamReader) -> bytes:
    """Return the message that is coming, without what its transport added."""
    content = b""
    while content != b".\r\n" and not content.endswith(b"\r\n.\r\n"):
        content += await reader.readuntil(b".\r\n")
    content = content[:-3].replace(b"\r\n..", b"\r\n.")
    return content[1:] if content.startswith(b"..") else content
