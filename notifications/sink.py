"""The built-in mail sink: an SMTP server that delivers nothing and stores everything, for the page Test inbox."""

import asyncio
import contextlib
import logging
import re
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session
from django.db import DatabaseError, connection, transaction

from notifications.models import SinkMessage

logger = logging.getLogger(__name__)
_CONFIDENTIAL = re.compile(rb"^Message-ID:\s*<(?:account|invitation)\.", re.IGNORECASE | re.MULTILINE)


async def serve(host: str, port: int, ready: Callable[[int], None]) -> None:
    """Receive messages until SIGTERM or SIGINT; `ready` is called with the port as soon as it is open."""
    loop, stopped, sink = asyncio.get_running_loop(), asyncio.Event(), Sink()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    storing = asyncio.create_task(sink.store())
    server = await loop.create_server(
        lambda: SMTP(sink, hostname="mail-sink", ident="mail sink", enable_SMTPUTF8=True), host, port
    )
    ready(server.sockets[0].getsockname()[1])
    await stopped.wait()
    server.close()
    storing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await storing


class Sink:
    """What aiosmtpd asks: a message is acknowledged once it is committed; those that arrive meanwhile go together."""

    def __init__(self) -> None:
        self._arrived = asyncio.Event()
        self._waiting: list[tuple[Envelope, asyncio.Future[str]]] = []
        self._database = ThreadPoolExecutor(1)  # Django's connections belong to a thread
        self._until_trim = 0

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """Say that several commands may come at once: they are read one after the other anyway."""
        session.host_name = hostname
        return [responses[0], "250-PIPELINING", *responses[1:]]

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Store the message and return the reply."""
        reply: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append((envelope, reply))
        self._arrived.set()
        return await reply

    async def store(self) -> None:
        """Store what arrives, for ever."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            batch, self._waiting = self._waiting, []
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._database, self._insert, [envelope for envelope, _reply in batch])
            for _envelope, reply in batch:
                if not reply.done():  # Its sender may be gone.
                    reply.set_result(answer)

    def _insert(self, envelopes: Sequence[Envelope]) -> str:
        rows: list[Any] = [
            (
                e.mail_from or "",
                [r.lower() for r in e.rcpt_tos],
                e.original_content,
                bool(_CONFIDENTIAL.search(e.original_content or b"")),
            )
            for e in envelopes
        ]
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                # The machine's own end may lose the last half second; that of this process nothing.
                cursor.execute("SET LOCAL synchronous_commit = off")
                cursor.executemany(
                    "INSERT INTO notifications_sinkmessage (sender, recipients, raw, confidential) VALUES (%s, %s, %s, %s)", rows
                )
                self._until_trim -= len(rows)
                if self._until_trim <= 0:
                    self._until_trim = SinkMessage.KEPT // 10
                    cursor.execute(
                        "DELETE FROM notifications_sinkmessage WHERE id <= (SELECT max(id) FROM notifications_sinkmessage) - %s",
                        [SinkMessage.KEPT],
                    )
        except Exception as error:  # whatever it is, the next messages are to be stored
            connection.close()
            logger.warning("messages are not stored: %s", error, exc_info=not isinstance(error, DatabaseError))
            return "451 4.3.0 The messages cannot be stored now, try again later"
        return "250 2.0.0 Stored"
