"""Questions about emails: what waits and why, and what became of those of a user or of a bulk change."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Count, Min, QuerySet

from notifications import mail_server
from notifications.models import OPEN, Claim, MailServer, Notification, SinkMessage, State, Suppression
from users.models import Capability, User
from users.queries import can

COUNTED = 1_000  # waiting emails are counted up to this, so that the question costs the same however many there are

COUNTED_FOR_FORECAST = 100_000


@dataclass(frozen=True)
class Backlog:
    """What waits to be sent, and whether the mail server holds it up."""

    waiting: int
    waiting_is_more: bool  # than were counted
    owed_since: datetime | None  # by the oldest of those counted
    delayed_since: datetime | None  # set while the mail server is not available
    last_words: str  # what the server said, or why it could not be reached
    next_try_at: datetime | None

    @property
    def is_delayed(self) -> bool:
        """Whether to tell people that emails are late."""
        return self.waiting > 0 and self.delayed_since is not None


def backlog(now: datetime) -> Backlog:
    """Return what waits to be sent at `now`, for the console's banner."""
    waiting = _open().filter(owed_at__lte=now)[: COUNTED + 1]
    found = waiting.aggregate(waiting=Count("id"), owed_since=Min("owed_at"))
    server = MailServer.objects.filter(down_since__isnull=False).first() or MailServer()
    return Backlog(
        waiting=min(found["waiting"], COUNTED),
        waiting_is_more=found["waiting"] > COUNTED,
        owed_since=found["owed_since"],
        delayed_since=server.down_since,
        last_words=server.last_words,
        next_try_at=server.next_try_at,
    )


def is_due(now: datetime) -> bool:
    """Return whether an email could be sent now, or its sender perhaps died; not while the mail server is paused."""
    if mail_server.is_paused(now):
        return False
    waiting = _open().filter(state__in=(State.QUEUED, State.DEFERRED), not_before__lte=now, told_by=None)
    return bool(waiting.values_list("id")[:1]) or Claim.objects.exists()


def time_to_send(more: int, *, now: datetime) -> timedelta:
    """Return about how long it takes until what waits is sent, and so many more after it.

    By the rate that is allowed, or else by how quickly the mail server took emails lately; what it may refuse is not known.
    """
    server = MailServer.objects.filter(id=1).first() or MailServer()
    return timedelta(minutes=(_number_open() + more) / mail_server.expected_rate(server, now))


def _number_open() -> int:
    """Return how many emails are open: exactly when there are few, else about."""
    counted = _open()[:COUNTED_FOR_FORECAST].count()
    if counted < COUNTED_FOR_FORECAST:
        return counted
    with connection.cursor() as cursor:
        cursor.execute("SELECT greatest(reltuples, %s)::bigint FROM pg_class WHERE relname = 'notifications_open'", [counted])
        return int(cursor.fetchone()[0])


def _open() -> QuerySet[Notification]:
    # In the order of their index, or all that was ever sent would be read to find them.
    return Notification.objects.filter(state__in=OPEN).order_by("lane", "not_before", "id")


def told_in(notifications: Sequence[Notification]) -> dict[int, list[int]]:
    """Return, by the id of each email, what it tells of (`about`): its own, and that of the ones told by it; in one query."""
    told = {n.id: [n.about] for n in notifications}
    # By the index of who is owed what; there is none of what is told by what.
    users, kinds = {n.user_id for n in notifications}, {n.kind for n in notifications}
    others = Notification.objects.filter(user__id__any=users, kind__in=kinds, told_by__isnull=False)
    for leader, about in others.values_list("told_by", "about"):
        if leader in told:
            told[leader].append(about)
    return told


def letters_of(user: User) -> QuerySet[Notification]:
    """Return the emails ever owed to the user, newest first."""
    return Notification.objects.filter(user=user).order_by("-id")


def suppressed(search: str = "") -> QuerySet[Suppression]:
    """Return the addresses that nobody writes to, the latest first: all, or those that contain `search`."""
    found = Suppression.objects.filter(since__isnull=False).order_by("-since", "address")
    return found.filter(address__icontains=search.strip()) if search.strip() else found


def fates_of(change_id: int) -> dict[State, int]:
    """Return how many change emails of a bulk change are in each state; states with none are left out."""
    found = Notification.objects.filter(kind="CHANGE", about=change_id).values_list("state").annotate(n=Count("id"))
    return {State(state): n for state, n in found.order_by("state")}


def sink_messages(reader: User, search: str = "") -> QuerySet[SinkMessage]:
    """Return what the built-in mail sink received, newest first: all, or what went to an address that contains `search`.

    Links to a new password are shown only to who could change any role anyway.
    """
    found = SinkMessage.objects.order_by("-id")
    if not can(reader, Capability.CHANGE_ROLES):
        found = found.filter(confidential=False)
    return found.filter(recipients__icontains=search.strip()) if search.strip() else found
