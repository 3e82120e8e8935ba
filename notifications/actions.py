"""What is done with emails: owe them, send what is due, try a failed one again.

Each row tells how far its email came, and every step is recorded before the next one is taken. So whatever dies when, an email
is sent at least once, and only the one that a dead sender was just handing over can arrive twice (it is flagged).
"""

import random
import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import connection
from django.db.models import Q
from django.utils import translation
from django.utils.translation import gettext as _

from notifications import emails, outbox, smtp
from notifications.emails import Letter
from notifications.models import RETRYABLE, Notification, State
from notifications.outbox import Batch, Fate
from users.models import Capability, User
from users.queries import can

BATCH = 500
SENDERS = 1  # at once, of the worker's two processes: however many emails wait, a bulk change goes on beside them
BUDGET = 10.0  # seconds after which a batch starts no further email
CONNECTIONS = 4  # of one batch
FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=1), timedelta(hours=4)  # of an email that the server deferred
MOST_ATTEMPTS = 24  # with those waits: about three days


def queue(kind: str, source: str, params: Mapping[str, Any], *, anew: bool = False) -> int:
    """Owe the emails of a kind that a SELECT of (user_id, about) names; return how many were not owed before.

    One statement, part of the caller's transaction; `params` are named. A literal % in `source` is written %%. Who knows that
    all of them are new says so: to look costs half as much again. After the commit wake a sender (tasks.ring), or let the sweep.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            INSERT INTO notifications_notification (user_id, kind, about, lane)
            SELECT user_id, %(_kind)s, about, %(_lane)s FROM ({source}) owed (user_id, about) ORDER BY user_id
            {"" if anew else "ON CONFLICT (user_id, kind, about) DO NOTHING"}
            """,  # the caller's own SELECT
            {**params, "_kind": kind, "_lane": emails.KINDS[kind].lane},
        )
        return int(cursor.rowcount)


def queue_message(*, user: User, subject: str, text: str, html: str, now: datetime) -> int:
    """Owe a user this very message, in the language that is active now; return its notification's id.

    For what cannot be composed later, such as a password reset. The text is erased as soon as the email's fate is final.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval(pg_get_serial_sequence('notifications_notification', 'id'))")
        (number,) = cursor.fetchone()
    Notification.objects.create(
        id=number,
        user=user,
        kind=emails.ACCOUNT,
        about=number,  # nothing but itself
        lane=emails.KINDS[emails.ACCOUNT].lane,
        language=(translation.get_language() or "en")[:2],
        message={"subject": subject, "text": text, "html": html},
        not_before=now,
        owed_at=now,
    )
    return int(number)


def retry(*, actor: User, ids: Sequence[int], now: datetime) -> int:
    """Queue these emails again, as far as they failed, expired or ended unknown; return how many.

    Raises PermissionDenied. A message whose text is erased stays as it is: it has to be asked for again.
    """
    if not can(actor, Capability.MANAGE_USERS):
        raise PermissionDenied(_("Your role does not include trying emails again."))
    found = Notification.objects.filter(~Q(kind=emails.ACCOUNT), id__in=ids, state__in=RETRYABLE)
    return found.update(state=State.QUEUED, attempts=0, not_before=now)


def deliver_due(*, now: datetime, limit: int = BATCH) -> bool:
    """Claim and send one batch of what is due; return whether to come back at once for more.

    No transaction spans a conversation with the mail server. Does nothing while the server is paused or enough others send.
    """
    with outbox.place_among_senders(SENDERS) as place:
        if not place or outbox.is_paused(now):
            return False
        with outbox.claimed(limit, now) as batch:
            letters = _compose(batch, now)
            try:
                _send(batch, letters)
            except smtp.ServerUnavailableError as error:
                batch.put_off(error.code, error.words, outbox.pause(error.words, now))
                return False
            if batch.sending:
                outbox.resume()
        return len(batch.notifications) == limit or len(batch.fates) < len(batch.notifications)


def _compose(batch: Batch, now: datetime) -> deque[tuple[Notification, Letter]]:
    """Return what is to be sent, in order; what cannot be sent has failed."""
    built, letters = emails.build(batch.notifications, now=now), deque[tuple[Notification, Letter]]()
    for notification in batch.notifications:
        letter = built[notification.id]
        if notification.attempts > MOST_ATTEMPTS:
            batch.fates[notification.id] = Fate(State.EXPIRED, words="Its senders ended without an answer, again and again.")
        elif isinstance(letter, Letter):
            letters.append((notification, letter))
        else:
            batch.fates[notification.id] = Fate(State.FAILED, words=str(letter))
    return letters


def _send(batch: Batch, letters: deque[tuple[Notification, Letter]]) -> None:
    """Send the letters over one connection, or a few when it breaks. Raises ServerUnavailableError; then the rest has no fate."""
    until, words = float("inf"), ""
    for _connection in range(CONNECTIONS):
        if not letters or time.monotonic() > until:
            return
        with smtp.connected() as server:
            until = min(until, time.monotonic() + BUDGET)
            while letters and time.monotonic() < until and server.sock is not None:
                notification, letter = letters.popleft()
                if not batch.intend(notification, letter):
                    return
                try:
                    batch.fates[notification.id] = _fate(notification, smtp.send(server, letter))
                except smtp.ConnectionLostError as error:
                    batch.fates[notification.id] = _fate_when_lost(notification, error)
                    words = error.words
                    break
    if letters and words:
        raise smtp.ServerUnavailableError(words)


def _fate(notification: Notification, answer: smtp.Answer) -> Fate:
    if answer.accepted:
        return Fate(State.SENT, answer.code, answer.words)
    if answer.refused:
        return Fate(State.FAILED, answer.code, answer.words)
    return _later(notification, answer.code, answer.words)


def _fate_when_lost(notification: Notification, error: smtp.ConnectionLostError) -> Fate:
    if error.unclear and notification.possible_duplicate:
        return Fate(State.UNKNOWN, words=error.words)
    return _later(notification, None, error.words, possible_duplicate=error.unclear)


def _later(notification: Notification, code: int | None, words: str, *, possible_duplicate: bool = False) -> Fate:
    """Return the fate of waiting, twice as long after each attempt; after the last one it is over."""
    if notification.attempts >= MOST_ATTEMPTS:
        return Fate(State.EXPIRED, code, words, possible_duplicate=possible_duplicate)
    wait = min(FIRST_WAIT * 2 ** (notification.attempts - 1), LONGEST_WAIT) * random.uniform(0.8, 1.2)  # noqa: S311
    return Fate(State.DEFERRED, code, words, wait, possible_duplicate)
