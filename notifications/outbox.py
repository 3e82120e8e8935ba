"""The outbox as senders see it: claim a batch, record each step, settle. Used by `actions.deliver_due` only.

A sender takes a place, which is a lock of its database session, so a dead sender's place is free at once. It writes into a Claim
what it claims, and before it hands over an email the number of that one. Whoever finds the claim of a dead sender knows from that
number which emails were accepted, which were not tried, and which one may or may not have gone out.

Leases and waits go by the database's clock, whatever the senders' clocks say.
"""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from weakref import WeakSet

import psycopg
from django.db import InterfaceError, OperationalError, connection, transaction
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn

from notifications.emails import KINDS, Letter
from notifications.models import Claim, Claimed, ClaimedEmails, State

LEASE = timedelta(seconds=60)  # longer than a task may run
PATIENCE = 15.0  # seconds for which a sender waits for a database that went away
TELL_EVERY = 2.0  # seconds after which fates are recorded before the batch ends


class Fate(NamedTuple):
    """What became of a claimed email."""

    state: State
    code: int | None = None
    words: str = ""
    wait: timedelta = timedelta()  # until the next try
    possible_duplicate: bool = False
    counts: bool = True  # whether it was an attempt at all
    to: str | None = None  # where it would have gone, of one that is not tried


@dataclass
class Batch:
    """The emails that a sender claimed, and what became of them so far."""

    claim: int
    size: int  # how many were claimed
    notifications: list[Claimed]  # those to send: others may be told by them
    leads: set[int] = field(default_factory=set)  # those that others are told by
    fates: dict[int, Fate] = field(default_factory=dict)
    sending: Claimed | None = None  # the one whose content is handed over
    _letters: Mapping[int, dict[str, object]] = field(default_factory=dict)  # what there is to remember of each
    _unrecorded: dict[int, Fate] = field(default_factory=dict)
    _is_plain: bool = True  # nothing but SENT is unrecorded
    _recorded_at: float = field(default_factory=time.monotonic)
    _session: Any = None  # libpq's own, for `intend`

    def prepare(self, letters: Mapping[int, Letter]) -> None:
        """Record what has a fate already, and what is to be sent: to whom, under which subject and Message-ID."""
        self._letters = {number: _description(letter) for number, letter in letters.items()}
        self._record()
        ClaimedEmails.objects.filter(claim=self.claim).update(letters=self._letters)
        with connection.cursor() as cursor:
            # Until the batch is settled no commit waits for the disk: the end of any process of ours loses nothing by that.
            cursor.execute("SET synchronous_commit = off")
        self._session = _prepared(connection.connection)

    def intend(self, notification: Claimed) -> bool:
        """Record that the content of this email goes out now, after all fates so far; return False when the claim is lost."""
        # All before this one count as accepted, so any other fate is recorded first.
        if not self._is_plain or time.monotonic() - self._recorded_at > TELL_EVERY:
            self._record()
        noted = self._session.exec_prepared(_NOTE, [b"%d" % notification.id, b"%d" % self.claim])
        if noted.status != ExecStatus.COMMAND_OK:
            raise OperationalError(noted.get_error_message())
        self.sending = notification if noted.command_tuples else None
        return self.sending is not None

    def decide(self, notification: Claimed, fate: Fate) -> None:
        """Take note of what became of an email."""
        self.fates[notification.id] = self._unrecorded[notification.id] = fate
        self._is_plain = self._is_plain and fate.state == State.SENT

    def put_off(self, code: int | None, words: str, wait: timedelta) -> None:
        """Let every email that has no fate yet wait: the server is not available."""
        for notification in self.notifications:
            if notification.id not in self.fates:
                self.decide(notification, Fate(State.DEFERRED, code, words, wait, counts=False))

    def settle(self) -> None:
        """Record every fate for good and give back what was not tried.

        What a crash of the database made it forget is told again: we wait for its return.
        """
        until = time.monotonic() + PATIENCE
        if self.sending and self.sending.id not in self.fates:
            self.decide(self.sending, ambiguous(self.sending))
        untried = dict.fromkeys((n.id for n in self.notifications), Fate(State.QUEUED, counts=False))
        while True:
            try:
                with transaction.atomic(), connection.cursor() as cursor:
                    cursor.execute("RESET synchronous_commit")
                    if Claim.objects.filter(id=self.claim).delete()[0]:
                        self._write(untried | self.fates)
                return
            except (OperationalError, InterfaceError):
                if connection.in_atomic_block or time.monotonic() > until:
                    raise
                connection.close()
                time.sleep(0.5)

    def _record(self) -> None:
        """Record the fates that are not recorded yet, unless the claim is lost."""
        with transaction.atomic():
            if self._unrecorded and Claim.objects.select_for_update().filter(id=self.claim).values_list("id"):
                self._write(self._unrecorded)
        self._unrecorded, self._is_plain, self._recorded_at = {}, True, time.monotonic()

    def _write(self, fates: Mapping[int, Fate]) -> None:
        told = [
            {
                "id": number,
                "state": fate.state.value,
                "code": fate.code,
                "words": fate.words,
                "wait": fate.wait.total_seconds(),
                "possible_duplicate": fate.possible_duplicate,
                "counts": fate.counts,
                "to_address": fate.to,
                **self._letters.get(number, {}),
            }
            for number, fate in fates.items()
        ]
        with connection.cursor() as cursor:
            # As JSON, for psycopg writes arrays of hundreds of texts ten times as slowly.
            cursor.execute(_WRITE, {"fates": json.dumps(told), "lease": self.notifications[0].lease})
        share_fate(self.leads & fates.keys())


def ambiguous(notification: Claimed) -> Fate:
    """Return the fate of an email that may have gone out: it is sent once more, with its Message-ID, and only once."""
    state = State.UNKNOWN if notification.possible_duplicate else State.QUEUED
    return Fate(state, words="Its sender ended while it handed this over.", possible_duplicate=True)


@contextlib.contextmanager
def claimed(place: int, limit: int, now: datetime) -> Iterator[Batch]:
    """Yield the next batch of what is due, lower lanes first, with its attempts counted; settle it at the end.

    Where several emails of a user wait that may be told as one, the batch has one that tells of all.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        lanes = sorted({kind.lane for kind in KINDS.values()})
        asked: Any = {"lanes": lanes, "now": now, "limit": limit, "lease": LEASE, "place": place}
        cursor.execute(_CLAIM, asked)
        rows = cursor.fetchall()
        found = [Claimed._make((*told, message and json.loads(message))) for _claim, *told, message in rows]
        batch = Batch(rows[0][0] if rows else 0, len(found), found)
        _gather(batch)
    try:
        yield batch
    finally:
        if found:
            batch.settle()


def take_over() -> None:
    """Settle what dead senders had claimed: their places are free, or their leases have ended.

    What was accepted is sent, what was not tried waits again. The one that was being handed over is flagged and sent once more,
    or ends UNKNOWN when that happened before.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        # In one statement the claims, which their senders change no more from then on; in the next what they tell of the emails.
        cursor.execute(_ABANDONED)
        for claim, ids, sending, letters, lease in cursor.fetchall():
            cursor.execute(_TAKE_OVER, {"ids": ids, "sending": sending, "letters": letters, "lease": lease})
            share_fate(set(ids))
            cursor.execute("DELETE FROM notifications_claim WHERE id = %s", [claim])


@contextlib.contextmanager
def place_among_senders(places: int) -> Iterator[int | None]:
    """Yield a place for one more sender, or None; a sender that dies loses its own with its connection."""
    with connection.cursor() as cursor:
        taken = None
        for place in range(places):
            cursor.execute("SELECT pg_try_advisory_lock(hashtext('notifications_sender'), %s)", [place])
            if cursor.fetchone()[0]:
                taken = place
                break
    try:
        yield taken
    finally:
        if taken is not None:
            try:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_advisory_unlock(hashtext('notifications_sender'), %s)", [taken])
            except (OperationalError, InterfaceError):
                connection.close()  # The place is free with its end.


def share_fate(leaders: set[int]) -> None:
    """Let the emails that are told by these share their fate."""
    if leaders:
        with connection.cursor() as cursor:
            cursor.execute(_SHARE, [list(leaders)])


def _gather(batch: Batch) -> None:
    """Find the waiting emails that those of the batch can tell too, and take them out of it.

    What may have gone out already stays by itself: nothing is added to what it told.
    """
    merging = [n for n in batch.notifications if (kind := KINDS.get(n.kind)) and kind.merges]
    if not merging:
        return
    ours, fixed = {n.id for n in merging}, {n.id for n in merging if n.possible_duplicate}
    leaders = {(n.user_id, n.kind): n.id for n in merging if n.id not in fixed}  # of several, the newest
    told_by = {n.id: leaders[n.user_id, n.kind] for n in merging if n.id not in fixed and n.id not in leaders.values()}
    with connection.cursor() as cursor:
        users = f"{{{','.join({str(n.user_id) for n in merging})}}}"
        cursor.execute(_WAITING, [users, list({n.kind for n in merging})])
        others = dict[int, int]()
        for number, user, kind, is_fixed, leader in cursor.fetchall():
            if leader in ours:  # told earlier, and shares its fate whoever looks at it now
                batch.leads.add(leader)
            if leader not in fixed and not is_fixed and (user, kind) in leaders:
                others[number] = leaders[user, kind]
        if others:
            cursor.execute(_STILL_WAITING, [list(others)])
            told_by |= {number: others[number] for (number,) in cursor.fetchall()}
        if told_by:
            cursor.execute(_TELL, [list(told_by), list(told_by.values())])
    gathering = set(told_by.values())
    batch.leads |= gathering
    batch.notifications = [n for n in batch.notifications if n.id not in told_by]
    share_fate(gathering)


def _prepared(session: psycopg.Connection) -> PGconn:
    """Return libpq's connection of a database session that has the note prepared.

    There is one for each email. Django's cursor writes its parameters into the text, so the server parses and plans each of them;
    psycopg's own takes three times as much of the client's time.
    """
    if session not in _knowing:
        prepared = session.pgconn.prepare(_NOTE, _INTEND)
        if prepared.status != ExecStatus.COMMAND_OK:
            raise OperationalError(prepared.get_error_message())
        _knowing.add(session)
    return session.pgconn


_NOTE = b"notifications_intend"
_INTEND = b"UPDATE notifications_claim SET sending = $1 WHERE id = $2"
_knowing = WeakSet[psycopg.Connection]()  # sessions that have it prepared


def _description(letter: Letter) -> dict[str, object]:
    return {
        "to_address": letter.to,
        "language": letter.language,
        "subject": letter.subject,
        "message_id": letter.message_id,
        "version": letter.version,
    }


# One scan of the index per lane, which ends as soon as there are enough. The lease's end tells one claim of an email from the
# next: what a sender records early may be claimed by another one before its own batch ends.
_CLAIM = """
WITH taken AS (
    UPDATE notifications_notification n SET
        attempts = n.attempts + 1, not_before = statement_timestamp() + %(lease)s, state = 'CLAIMED'
    WHERE n.id = ANY (ARRAY(
        SELECT due.id FROM unnest(%(lanes)s::smallint[]) lanes (lane) CROSS JOIN LATERAL (
            SELECT o.id FROM notifications_notification o
            WHERE o.lane = lanes.lane AND o.state IN ('QUEUED', 'DEFERRED') AND o.told_by_id IS NULL
                AND o.not_before <= greatest(%(now)s, statement_timestamp())
            ORDER BY o.not_before, o.id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
        ) due LIMIT %(limit)s
    )) RETURNING n.id, user_id, kind, about, lane, attempts, possible_duplicate, language, message_id, not_before, message
), claim AS (
    INSERT INTO notifications_claim (place, ends_at)
    SELECT %(place)s, statement_timestamp() + %(lease)s WHERE EXISTS (SELECT FROM taken) RETURNING id
), emails AS (
    INSERT INTO notifications_claimedemails (claim_id, ids)
    SELECT claim.id, array_agg(taken.id ORDER BY lane, taken.id) FROM taken, claim GROUP BY claim.id
)
SELECT claim.id, taken.id, user_id, kind, about, attempts, possible_duplicate, language, message_id, not_before, message
FROM taken, claim ORDER BY lane, taken.id
"""
_WAITING = """
SELECT id, user_id, kind, possible_duplicate, told_by_id FROM notifications_notification
WHERE user_id = ANY(%s::int[]) AND kind = ANY(%s) AND state IN ('QUEUED', 'DEFERRED')
"""
# Not those that another sender claims or gathers at this moment.
_STILL_WAITING = """
SELECT id FROM notifications_notification
WHERE id = ANY(%s) AND state IN ('QUEUED', 'DEFERRED') AND NOT possible_duplicate FOR UPDATE SKIP LOCKED
"""
_TELL = """
UPDATE notifications_notification n SET told_by_id = told.leader FROM unnest(%s::bigint[], %s::bigint[]) told (id, leader)
WHERE n.id = told.id
"""
_SHARE = """
UPDATE notifications_notification n SET
    state = l.state, attempts = l.attempts, not_before = l.not_before, possible_duplicate = l.possible_duplicate,
    sent_at = l.sent_at, last_code = l.last_code, last_words = l.last_words,
    to_address = l.to_address, language = l.language, subject = l.subject, message_id = l.message_id, version = l.version
FROM notifications_notification l
WHERE l.id = ANY(%s) AND n.user_id = l.user_id AND n.kind = l.kind AND n.told_by_id = l.id
"""
_WRITE = """
UPDATE notifications_notification n SET
    state = f.state,
    attempts = n.attempts - CASE WHEN f.counts THEN 0 ELSE 1 END,
    not_before = statement_timestamp() + make_interval(secs => f.wait),
    possible_duplicate = n.possible_duplicate OR f.possible_duplicate,
    sent_at = CASE WHEN f.state = 'SENT' THEN statement_timestamp() END,
    last_code = CASE WHEN f.state = 'QUEUED' THEN n.last_code ELSE f.code END,
    last_words = CASE WHEN f.state = 'QUEUED' AND f.words = '' THEN n.last_words ELSE f.words END,
    message = CASE WHEN f.state IN ('QUEUED', 'DEFERRED') THEN n.message END,
    to_address = coalesce(f.to_address, n.to_address), language = coalesce(f.language, n.language),
    subject = coalesce(f.subject, n.subject), message_id = coalesce(f.message_id, n.message_id),
    version = coalesce(f.version, n.version)
FROM json_to_recordset(%(fates)s) f (
    id bigint, state text, code smallint, words text, wait double precision, possible_duplicate boolean, counts boolean,
    to_address text, language text, subject text, message_id text, version int
)
WHERE n.id = f.id AND n.state = 'CLAIMED' AND n.not_before = %(lease)s
"""
_ABANDONED = """
SELECT claim.id, emails.ids, claim.sending, emails.letters, claim.ends_at
FROM notifications_claim claim JOIN notifications_claimedemails emails ON emails.claim_id = claim.id
WHERE claim.ends_at <= statement_timestamp() OR pg_try_advisory_xact_lock(hashtext('notifications_sender'), claim.place)
FOR UPDATE
"""
# A sender that ended before it had anything to send may have ended by what it claimed: that counts as an attempt.
_TAKE_OVER = """
UPDATE notifications_notification n SET
    state = CASE
        WHEN claim.n < claim.at THEN 'SENT' WHEN claim.n = claim.at AND n.possible_duplicate THEN 'UNKNOWN' ELSE 'QUEUED'
    END,
    attempts = n.attempts - CASE WHEN claim.n > claim.at THEN 1 ELSE 0 END,
    not_before = statement_timestamp(),
    possible_duplicate = n.possible_duplicate OR claim.n IS NOT DISTINCT FROM claim.at,
    sent_at = CASE WHEN claim.n < claim.at THEN statement_timestamp() END,
    last_words = CASE
        WHEN claim.n < claim.at THEN 'Accepted; in what words is lost with its sender.'
        WHEN claim.n = claim.at THEN 'Its sender ended while it handed this over.'
        ELSE n.last_words
    END,
    message = CASE
        WHEN claim.at IS NULL OR claim.n > claim.at OR (claim.n = claim.at AND NOT n.possible_duplicate) THEN n.message
    END,
    to_address = coalesce(claim.letter ->> 'to_address', n.to_address),
    language = coalesce(claim.letter ->> 'language', n.language), subject = coalesce(claim.letter ->> 'subject', n.subject),
    message_id = coalesce(claim.letter ->> 'message_id', n.message_id),
    version = coalesce((claim.letter ->> 'version')::int, n.version)
FROM (
    SELECT id, n, array_position(%(ids)s::bigint[], %(sending)s::bigint) AS at, %(letters)s::jsonb -> id::text AS letter
    FROM unnest(%(ids)s::bigint[]) WITH ORDINALITY ids (id, n)
) claim
WHERE n.id = claim.id AND n.state = 'CLAIMED' AND n.not_before = %(lease)s AND n.told_by_id IS NULL
"""
