"""The outbox as senders see it: claim a batch by a lease, record each step, settle. Used by `actions.deliver_due` only.

Leases and waits go by the database's clock, whatever the senders' clocks say.
"""

import contextlib
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import InterfaceError, OperationalError, connection

from notifications.emails import KINDS, Letter
from notifications.models import MailServer, Notification, State

LEASE = timedelta(seconds=60)  # longer than a task may run
PATIENCE = 15.0  # seconds for which a sender waits for a database that went away
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=5), timedelta(seconds=60)


@dataclass(frozen=True)
class Fate:
    """What became of a claimed email."""

    state: State
    code: int | None = None
    words: str = ""
    wait: timedelta = timedelta()  # until the next try
    possible_duplicate: bool = False
    counts: bool = True  # whether it was an attempt at all


@dataclass
class Batch:
    """The emails that a sender claimed, and what became of them so far."""

    notifications: list[Notification]
    fates: dict[int, Fate] = field(default_factory=dict)
    sending: int | None = None  # the one whose row says SENDING

    @property
    def lease(self) -> datetime | None:
        return self.notifications[0].not_before if self.notifications else None

    def intend(self, notification: Notification, letter: Letter) -> bool:
        """Record the fate of the email before, and that this one goes out now; return False when the lease is lost.

        Does not wait for the disk: an end of any process of the console loses nothing of it, and `settle` is for the rest.
        """
        with connection.cursor() as cursor:
            cursor.execute(
                _INTEND,
                {
                    **_as_lists({number: fate for number, fate in self.fates.items() if number == self.sending}),
                    "lease": self.lease,
                    "id": notification.id,
                    "to": letter.to,
                    "language": letter.language,
                    "subject": letter.subject,
                    "message_id": letter.message_id,
                },
            )
            self.sending = notification.id if cursor.rowcount else None
        return self.sending is not None

    def put_off(self, code: int | None, words: str, wait: timedelta) -> None:
        """Let every email that has no fate yet wait: the server is not available."""
        for notification in self.notifications:
            self.fates.setdefault(notification.id, Fate(State.DEFERRED, code, words, wait, counts=False))

    def settle(self) -> None:
        """Record every fate for good and give back what was not tried.

        What a crash of the database made it forget is told again: we wait for its return.
        """
        until = time.monotonic() + PATIENCE
        # The one being sent without a known fate stays as it is: its lease ends, and it counts as a possible duplicate.
        untried = [n.id for n in self.notifications if n.id != self.sending]
        fates = {**dict.fromkeys(untried, Fate(State.QUEUED, counts=False)), **self.fates}
        while fates:
            try:
                with connection.cursor() as cursor:
                    cursor.execute(_SETTLE, {**_as_lists(fates), "lease": self.lease})
                return
            except (OperationalError, InterfaceError):
                if connection.in_atomic_block or time.monotonic() > until:
                    raise
                connection.close()
                time.sleep(0.5)


@contextlib.contextmanager
def claimed(limit: int, now: datetime) -> Iterator[Batch]:
    """Yield the next batch of what is due, lower lanes first, with its attempts counted; settle it at the end.

    A claim whose lease ended is due again. If its email was just being sent, it may have arrived: it is flagged and sent once
    more, and becomes UNKNOWN when that happens again.
    """
    lanes = sorted({kind.lane for kind in KINDS.values()})
    found = list(Notification.objects.raw(_CLAIM, {"lanes": lanes, "now": now, "limit": limit, "lease": LEASE}))
    batch = Batch(sorted((n for n in found if n.state == State.CLAIMED), key=lambda n: (n.lane, n.id)))
    try:
        yield batch
    finally:
        batch.settle()


@contextlib.contextmanager
def place_among_senders(places: int) -> Iterator[bool]:
    """Yield whether there is a place for one more sender; a sender that dies loses its own with its connection."""
    with connection.cursor() as cursor:
        taken = None
        for place in range(places):
            cursor.execute("SELECT pg_try_advisory_lock(hashtext('notifications_sender'), %s)", [place])
            if cursor.fetchone()[0]:
                taken = place
                break
    try:
        yield taken is not None
    finally:
        if taken is not None:
            with contextlib.suppress(OperationalError, InterfaceError), connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(hashtext('notifications_sender'), %s)", [taken])


def is_paused(now: datetime) -> bool:
    """Return whether nobody is to try the mail server now, because it was not available a moment ago."""
    return MailServer.objects.filter(next_try_at__gt=now).exists()


def pause(words: str, now: datetime) -> timedelta:
    """Remember that the mail server is not available; return how long everybody waits, longer each time."""
    server, _new = MailServer.objects.get_or_create(id=1)
    wait: timedelta = min(FIRST_PAUSE * 2 ** min(server.failures, 10), LONGEST_PAUSE) * random.uniform(0.8, 1.2)  # noqa: S311
    server.down_since = server.down_since or now
    server.failures, server.next_try_at, server.last_words = server.failures + 1, now + wait, words
    server.save()
    return wait


def resume() -> None:
    """Remember that the mail server works."""
    MailServer.objects.filter(down_since__isnull=False).update(down_since=None, failures=0, next_try_at=None)


def _as_lists(fates: dict[int, Fate]) -> dict[str, list[object]]:
    return {
        "ids": list(fates),
        "states": [fate.state.value for fate in fates.values()],
        "codes": [fate.code for fate in fates.values()],
        "words": [fate.words for fate in fates.values()],
        "waits": [fate.wait for fate in fates.values()],
        "duplicates": [fate.possible_duplicate for fate in fates.values()],
        "counts": [fate.counts for fate in fates.values()],
    }


# One scan of the index per lane, which ends as soon as there are enough. The lease's end serves as the claim's name.
_CLAIM = """
UPDATE notifications_notification n SET
    attempts = n.attempts + 1,
    not_before = statement_timestamp() + %(lease)s,
    state = CASE WHEN n.state = 'SENDING' AND n.possible_duplicate THEN 'UNKNOWN' ELSE 'CLAIMED' END,
    possible_duplicate = n.possible_duplicate OR n.state = 'SENDING'
WHERE n.id = ANY (ARRAY(
    SELECT due.id FROM unnest(%(lanes)s::smallint[]) lanes (lane) CROSS JOIN LATERAL (
        SELECT o.id FROM notifications_notification o
        WHERE o.lane = lanes.lane AND o.state IN ('QUEUED', 'CLAIMED', 'SENDING', 'DEFERRED')
            AND o.not_before <= greatest(%(now)s, statement_timestamp())
            AND (o.state IN ('QUEUED', 'DEFERRED') OR o.not_before <= statement_timestamp())
        ORDER BY o.not_before, o.id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ) due LIMIT %(limit)s
)) RETURNING n.*
"""

_RECORD = """
UPDATE notifications_notification n SET
    state = f.state,
    attempts = n.attempts - CASE WHEN f.counts THEN 0 ELSE 1 END,
    not_before = statement_timestamp() + f.wait,
    possible_duplicate = n.possible_duplicate OR f.possible_duplicate,
    sent_at = CASE WHEN f.state = 'SENT' THEN statement_timestamp() END,
    last_code = CASE WHEN f.state = 'QUEUED' THEN n.last_code ELSE f.code END,
    last_words = CASE WHEN f.state = 'QUEUED' THEN n.last_words ELSE f.words END,
    message = CASE WHEN f.state IN ('QUEUED', 'DEFERRED') THEN n.message END
FROM unnest(%(ids)s::bigint[], %(states)s::text[], %(codes)s::smallint[], %(words)s::text[], %(waits)s::interval[],
    %(duplicates)s::boolean[], %(counts)s::boolean[]) f (id, state, code, words, wait, possible_duplicate, counts)
WHERE n.id = f.id AND n.state IN ('CLAIMED', 'SENDING') AND n.not_before = %(lease)s
"""
_SETTLE = _RECORD
_INTEND = f"""
WITH before AS ({_RECORD})
UPDATE notifications_notification n SET
    state = 'SENDING', to_address = %(to)s, language = %(language)s, subject = %(subject)s, message_id = %(message_id)s
FROM (SELECT set_config('synchronous_commit', 'off', true)) without_waiting
WHERE n.id = %(id)s AND n.state = 'CLAIMED' AND n.not_before = %(lease)s
"""
