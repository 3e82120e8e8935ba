"""What is done with emails: owe them, send what is due, try a failed one again.

Each row tells what became of its email, and a sender notes which one it hands over before it does. So whatever dies when, an
email is sent at least once, and only the one that a dead sender was just handing over can arrive twice (it is flagged).
"""

import logging
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import translation
from django.utils.translation import gettext as _

from notifications import bounces, emails, mail_server, outbox, smtp, suppression
from notifications.emails import Letter
from notifications.models import Claimed, Notification, State, Suppression
from notifications.outbox import Batch, Fate
from notifications.queries import retryable
from users.models import Action, Capability, User
from users.queries import can
from users.record import record

logger = logging.getLogger(__name__)

BATCH = 2_000  # what a batch costs once (thirty statements) is shared by its emails; BUDGET bounds how long it takes
SENDERS = 2  # at once; one while what `makes_way_for` names waits: it goes on beside them, however many emails there are
BUDGET = 3.0  # seconds after which a batch starts no further email: then what came meanwhile in a lower lane has its turn
CONNECTIONS = 4  # of one batch
FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=1), timedelta(hours=4)  # of an email that the server deferred
MOST_ATTEMPTS = 24  # with those waits: about three days
RETRIED_AT_ONCE = 10_000
FEW = 5  # emails in a row that the server puts off because it is busy: then it is given no more of the batch
ENOUGH_TO_MEASURE = 50  # emails in a batch that tell how quickly the server is, if it did not use up its time

# Questions that tell whether other work of the worker's two processes waits; the apps that have such work add theirs.
makes_way_for: list[Callable[[], bool]] = []


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


def queue_message(
    *,
    kind: str = emails.ACCOUNT,
    user: User,
    subject: str,
    text: str,
    html: str,
    version: int = 0,
    until: datetime | None = None,
    now: datetime,
) -> int:
    """Owe a user this very message, in the language that is active now; return its notification's id.

    For what cannot be composed later, such as a password reset. The text is erased as soon as the email's fate is final. It is
    not sent after `until`, when its link ends.
    """
    ends = {"until": until.isoformat()} if until else {}
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval(pg_get_serial_sequence('notifications_notification', 'id'))")
        (number,) = cursor.fetchone()
    Notification.objects.create(
        id=number,
        user=user,
        kind=kind,
        about=number,  # nothing but itself
        lane=emails.KINDS[kind].lane,
        language=(translation.get_language() or "en")[:2],
        message={"subject": subject, "text": text, "html": html, "version": version, **ends},
        not_before=now,
        owed_at=now,
    )
    return int(number)


def retry(*, actor: User, ids: Sequence[int], now: datetime) -> int:
    """Queue these emails again, as far as they failed, expired or ended unknown; return how many.

    Raises PermissionDenied. A message whose text is erased and an invitation whose link has ended stay as they are: they have to
    be asked for again. An email that was told in another one is retried with that one.
    """
    if not can(actor, Capability.MANAGE_USERS):
        raise PermissionDenied(_("Your role does not include trying emails again."))
    with transaction.atomic():
        found = Notification.objects.filter(retryable(now), id__in=ids).select_for_update()
        retried = list(found.order_by("id").values_list("id", "told_by"))
        leaders = {leader or number for number, leader in retried}
        again = Notification.objects.filter(retryable(now), id__in=leaders)
        again.update(state=State.QUEUED, attempts=0, not_before=now)
        outbox.share_fate(leaders)
        if retried:
            only = retried[0][0] if len(retried) == 1 else None
            record(Action.EMAIL_RETRIED, actor=actor, subject=only, after={"emails": [number for number, _leader in retried]})
    return len(retried)


def retry_all(*, actor: User, found: QuerySet[Notification], now: datetime) -> int:
    """Queue again what failed among the emails found (`queries.filtered`), at most RETRIED_AT_ONCE of them; return how many.

    Raises PermissionDenied.
    """
    failed = found.filter(retryable(now)).order_by("id")
    return retry(actor=actor, ids=list(failed.values_list("id", flat=True)[:RETRIED_AT_ONCE]), now=now)


def release(*, actor: User, address: str) -> bool:
    """Write to a suppressed address again, and forget its failures; return whether it was known. Raises PermissionDenied.

    What failed meanwhile stays failed until it is retried.
    """
    if not can(actor, Capability.MANAGE_USERS):
        raise PermissionDenied(_("Your role does not include releasing addresses."))
    address = suppression.normalised(address)
    with transaction.atomic():
        released, _models = Suppression.objects.filter(address=address).delete()
        if released:
            record(Action.ADDRESS_RELEASED, actor=actor, words={"address": address})
            logger.info("address released", extra={"actor": actor.pk, "address": address})
    return bool(released)


def take_back(*, message_id: str, address: str, words: str, now: datetime) -> bool:
    """Mark an email that came back for good as failed, and remember it of its address; return whether it is one of ours.

    However many say so, it comes back once. `message_id` and `address` are as the report says (`bounces.read`). Raises
    bounces.StillBeingSent: what a sender has is in a moment sent or not.
    """
    with transaction.atomic():
        letter = bounces.returned(message_id, address)
        if letter is None:
            return False
        words = f"{bounces.CAME_BACK} {words}".strip()
        out = Notification.objects.filter(bounces.RETURNABLE, pk=letter.pk)
        if out.update(state=State.FAILED, last_code=None, last_words=words, message=None):
            outbox.share_fate({letter.pk})
            if suppression.is_hard(words):
                suppression.note_failure(address, reason=words, source=Suppression.Source.BOUNCED, now=now)
    return True


def believe_provider(*, is_complaint: bool, message_id: str, address: str, words: str, now: datetime, event_id: str = "") -> None:
    """Do what the mail provider tells of an address: an email to it came back, or its reader complained of spam.

    It proved who it is, so its word counts for the address even when it knows the email by another Message-ID than ours; but for
    one that a user has only, for other software may send by the same account. Each email counts once, however often it is
    told: one of ours whoever else reports it, any other by what the provider calls it, or else the event. Raises
    bounces.StillBeingSent: what the provider told before in the same breath is noted, and is not counted when it comes again.
    """
    if is_complaint:
        suppression.note_failure(address, reason=words, source=Suppression.Source.COMPLAINED, now=now, for_good=True)
    elif not take_back(message_id=message_id, address=address, words=words, now=now) and suppression.is_hard(words):
        bounced, told_of = Suppression.Source.BOUNCED, message_id or event_id
        suppression.note_failure(address, reason=words, source=bounced, now=now, told_of=told_of)


def deliver_due(*, now: datetime, limit: int = BATCH) -> bool:
    """Claim and send one batch of what is due; return whether to come back at once for more.

    No transaction spans a conversation with the mail server. Does nothing while the server is paused or enough others send.
    """
    with outbox.place_among_senders(_places()) as place:
        if place is None:
            return False
        outbox.take_over()
        # What the server does not take in that time is composed for nothing.
        limit = min(limit, max(mail_server.takes_in(BUDGET, now), ENOUGH_TO_MEASURE))
        granted = 0 if mail_server.is_paused(now) else mail_server.take(limit, now)
        if not granted:
            return False
        with outbox.claimed(place, granted, now) as batch:
            delivery = _Delivery(batch, now)
            delivery.run()
        mail_server.give_back(granted - delivery.tried, now)
    return granted == limit and not delivery.held_up and (batch.size == limit or len(batch.fates) < len(batch.notifications))


def _places() -> int:
    return 1 if any(waits() for waits in makes_way_for) else SENDERS


class _Delivery:
    """One batch on its way: composed, handed over, and what was said to it."""

    def __init__(self, batch: Batch, now: datetime) -> None:
        self._batch, self._now = batch, now
        self._letters = deque[tuple[Claimed, Letter]]()
        self._known = dict[str, Suppression]()  # what failed before, by address
        self._took = list[str]()  # addresses of them
        self.tried = self._throttled = 0
        self.held_up = False  # by the server: who comes back at once would not get further

    def run(self) -> None:
        """Send the batch, and remember what it says of the server and of the addresses."""
        self._compose()
        started = time.monotonic()
        try:
            self._send()
        except smtp.ServerUnavailableError as error:
            self.held_up = True
            if error.code in smtp.THROTTLING:
                mail_server.slow_down(self._now)
            self._batch.put_off(error.code, error.words, mail_server.pause(error.words, self._now))
        else:
            if self.tried:
                mail_server.resume()
            self._judge(time.monotonic() - started)
        if self._took:
            suppression.forgive(self._took)

    def _compose(self) -> None:
        """Put in order what is to be sent; what cannot be sent has failed."""
        batch = self._batch
        built = emails.build(batch.notifications, now=self._now) if batch.notifications else {}
        self._known = suppression.known([letter.to for letter in built.values() if isinstance(letter, Letter)])
        for notification in batch.notifications:
            letter = built[notification.id]
            if notification.attempts > MOST_ATTEMPTS:
                batch.decide(notification, Fate(State.EXPIRED, words="Its senders ended without an answer, again and again."))
            elif not isinstance(letter, Letter):
                batch.decide(notification, Fate(letter.state, words=str(letter)))
            elif (failed := self._known.get(suppression.normalised(letter.to))) and suppression.forbids(failed, notification):
                batch.decide(notification, Fate(State.FAILED, words=suppression.words_for(failed), to=letter.to))
            else:
                self._letters.append((notification, letter))
        if batch.notifications:
            batch.prepare({notification.id: letter for notification, letter in self._letters})

    def _send(self) -> None:
        """Send over one connection, or a few when it breaks. Raises ServerUnavailableError; then the rest has no fate."""
        until, words = float("inf"), ""
        for _connection in range(CONNECTIONS):
            if not self._letters or time.monotonic() > until or self.held_up:
                return
            with smtp.connected() as server:
                until = min(until, time.monotonic() + BUDGET)
                try:
                    if not self._talk(server, until):
                        return
                except smtp.ConnectionLostError as error:
                    words = error.words
        if self._letters and words:
            raise smtp.ServerUnavailableError(words)

    def _talk(self, server: smtp.Conversation, until: float) -> bool:
        """Send until all is sent, time is up, or the server asks to slow down or closes; return whether the claim is still ours.

        Raises ConnectionLostError or ServerUnavailableError.
        """
        letters = self._letters
        while letters and server.is_open and not self.held_up and (server.has_announced or time.monotonic() < until):
            notification, letter = letters.popleft()
            self.tried += 1
            try:
                answer = server.offer(letter)
                if answer is None:
                    if not self._batch.intend(notification):
                        return False
                    answer = server.hand_over(letter, letters[0][1] if letters and time.monotonic() < until else None)
            except smtp.ConnectionLostError as error:
                self._batch.decide(notification, _fate_when_lost(notification, error))
                raise
            except smtp.ServerUnavailableError as error:
                if error.code != smtp.CLOSES or not server.has_taken:
                    raise
                # Many servers take only so many over one connection (Exim 1,000): this one goes over the next.
                letters.appendleft((notification, letter))
                self._batch.sending, self.tried = None, self.tried - 1
                return True
            self._batch.decide(notification, _fate(notification, answer))
            self._learn(letter.to, answer)
        return True

    def _learn(self, address: str, answer: smtp.Answer) -> None:
        """Remember what an answer says of the address, and whether the server asks to slow down."""
        if answer.accepted:
            if self._known and suppression.normalised(address) in self._known:
                self._took.append(address)
        elif answer.refused:
            if answer.about_address and suppression.is_hard(answer.words):
                reason = f"{answer.code} {answer.words}".strip()
                suppression.note_failure(address, reason=reason, source=Suppression.Source.REFUSED, now=self._now)
        elif answer.throttles:
            self._throttled += 1
            self.held_up = self._throttled >= FEW and self._asks_to_slow_down

    @property
    def _asks_to_slow_down(self) -> bool:
        # A single full mailbox among hundreds does not.
        return self._throttled * 20 >= max(self.tried, 1)

    def _judge(self, seconds: float) -> None:
        """Remember how quickly the server took the batch, and to slow down if it asked for that."""
        sent = sum(1 for fate in self._batch.fates.values() if fate.state == State.SENT)
        if self._throttled and self._asks_to_slow_down:
            mail_server.slow_down(self._now, speed=max(sent, 1) * 60 / max(seconds, 1))
        elif sent >= ENOUGH_TO_MEASURE or (sent and seconds > BUDGET):
            mail_server.note_speed(sent, seconds)


def _fate(notification: Claimed, answer: smtp.Answer) -> Fate:
    if answer.accepted:
        return Fate(State.SENT, answer.code, answer.words)
    if answer.refused:
        return Fate(State.FAILED, answer.code, answer.words)
    return _later(notification, answer.code, answer.words)


def _fate_when_lost(notification: Claimed, error: smtp.ConnectionLostError) -> Fate:
    if error.unclear and notification.possible_duplicate:
        return Fate(State.UNKNOWN, words=error.words)
    return _later(notification, None, error.words, possible_duplicate=error.unclear)


def _later(notification: Claimed, code: int | None, words: str, *, possible_duplicate: bool = False) -> Fate:
    """Return the fate of waiting, twice as long after each attempt; after the last one it is over."""
    if notification.attempts >= MOST_ATTEMPTS:
        return Fate(State.EXPIRED, code, words, possible_duplicate=possible_duplicate)
    wait = min(FIRST_WAIT * 2 ** (notification.attempts - 1), LONGEST_WAIT) * random.uniform(0.8, 1.2)  # noqa: S311
    return Fate(State.DEFERRED, code, words, wait, possible_duplicate)
