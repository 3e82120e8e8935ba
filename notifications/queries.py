"""Questions about emails: what waits and why, and what became of those of a user or of a bulk change."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Count, Max, Min, Q, QuerySet

from notifications import mail_server
from notifications.message_ids import parts_of
from notifications.models import (
    INVITATION,
    OPEN,
    RETRYABLE,
    STORED,
    Claim,
    MailServer,
    Notification,
    Owed,
    SinkMessage,
    State,
    Suppression,
)
from users.invitations import LIFETIME
from users.models import Capability, User
from users.queries import can

COUNTED = 1_000  # waiting emails are counted up to this, so that the question costs the same however many there are

COUNTED_FOR_FORECAST = 100_000
FIRST_STRETCH, LOOKED_AT = 5_000, 500_000  # ids
LATE = timedelta(minutes=10)  # the rate is limited, and what waits takes longer than this
# States that one may ask for together.
TOGETHER = {"OPEN": OPEN, "UNSENT": RETRYABLE}


@dataclass(frozen=True)
class Backlog:
    """What waits to be sent, and whether the mail server holds it up."""

    waiting: int
    waiting_is_more: bool  # than were counted
    owed_since: datetime | None  # by the oldest of those counted
    delayed_since: datetime | None  # set while the mail server is not available
    last_words: str  # what the server said, or why it could not be reached
    next_try_at: datetime | None
    limit: float | None = None  # emails per minute; None: as many as the server takes
    is_slowed: bool = False  # because the server asked for it
    rest: timedelta = timedelta(0)  # until all that waits is sent, about, by that limit

    @property
    def is_delayed(self) -> bool:
        """Whether to tell people that emails are late, for the mail server is not available."""
        return self.waiting > 0 and self.delayed_since is not None

    @property
    def is_slow(self) -> bool:
        """Whether to tell people that emails are late, for only so many may go in a minute."""
        return self.rest > LATE and not self.is_delayed


def backlog(now: datetime) -> Backlog:
    """Return what waits to be sent at `now`, for the console's banner."""
    waiting = _open().filter(owed_at__lte=now)[: COUNTED + 1]
    found = waiting.aggregate(waiting=Count("id"), owed_since=Min("owed_at"))
    server = MailServer.objects.filter(id=1).first() or MailServer()
    limit, rest = mail_server.rate(server, now), timedelta(0)
    if limit and found["waiting"]:
        rest = timedelta(minutes=(_number_open() if found["waiting"] > COUNTED else found["waiting"]) / limit)
    return Backlog(
        waiting=min(found["waiting"], COUNTED),
        waiting_is_more=found["waiting"] > COUNTED,
        owed_since=found["owed_since"],
        delayed_since=server.down_since,
        last_words=server.last_words if server.down_since else "",
        next_try_at=server.next_try_at,
        limit=limit,
        is_slowed=mail_server.is_slowed(server, now),
        rest=rest,
    )


def is_due(now: datetime) -> bool:
    """Return whether an email could be sent now, or its sender perhaps died; not while the mail server is paused."""
    if mail_server.is_paused(now):
        return False
    waiting = _open().filter(state__in=(State.QUEUED, State.DEFERRED), not_before__lte=now, told_by=None)
    return bool(waiting.values_list("id")[:1]) or Claim.objects.exists()


@dataclass(frozen=True)
class Forecast:
    """About how long it takes until what waits is sent, and some more after it."""

    takes: timedelta
    down_since: datetime | None  # set while the mail server does not answer: until it does, nothing is sent

    @property
    def is_long(self) -> bool:
        """Whether it is worth telling how long."""
        return self.takes > timedelta(minutes=1)


def forecast(more: int, *, now: datetime) -> Forecast:
    """Return how long sending takes what waits and so many more.

    By the rate that is allowed, or else by how quickly the mail server took emails lately; what it may refuse is not known.
    """
    server = MailServer.objects.filter(id=1).first() or MailServer()
    minutes = (_number_open() + more) / mail_server.expected_rate(server, now)
    return Forecast(timedelta(minutes=minutes), server.down_since)


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


def told_in(notifications: Sequence[Owed]) -> dict[int, list[int]]:
    """Return, by the id of each email, what it tells of (`about`): its own, and that of the ones told by it; in one query."""
    told = {n.id: [n.about] for n in notifications}
    # By the index of who is owed what; there is none of what is told by what.
    users, kinds = {n.user_id for n in notifications}, {n.kind for n in notifications}
    others = Notification.objects.filter(user__id__any=users, kind__in=kinds, told_by__isnull=False)
    for leader, about in others.values_list("told_by", "about"):
        if leader in told:
            told[leader].append(about)
    return told


@dataclass(frozen=True)
class Filter:
    """Which emails to show: those to which every field that is set applies."""

    kind: str = ""
    state: str = ""  # or one of TOGETHER
    language: str = ""
    user: int | None = None
    change: int | None = None
    also: Q = field(default_factory=Q)  # what the apps whose kinds these are know of them, as which product they are about
    since: datetime | None = None
    until: datetime | None = None
    possible_duplicates: bool = False
    message_id: str = ""

    @property
    def has_index(self) -> bool:
        """Whether an index leads to the emails, so that looking through all of them is no matter."""
        by_whom = self.user is not None or self.change is not None or self.message_id != ""
        return by_whom or self.state in (*TOGETHER, *OPEN, *RETRYABLE)


def filtered(asked: Filter) -> QuerySet[Notification]:
    """Return the emails that a filter asks for, in no order."""
    found = Notification.objects.defer("message").filter(asked.also)
    exact = {"kind": asked.kind, "language": asked.language, "user": asked.user}
    found = found.filter(**{name: value for name, value in exact.items() if value})
    if asked.state:
        found = found.filter(state__in=TOGETHER.get(asked.state, (asked.state,)))
    if asked.change is not None:
        found = found.filter(kind="CHANGE", about=asked.change)
    if asked.since:
        found = found.filter(owed_at__gte=asked.since)
    if asked.until:
        found = found.filter(owed_at__lt=asked.until)
    if asked.possible_duplicates:
        found = found.filter(possible_duplicate=True)
    if asked.message_id:
        parts = parts_of(asked.message_id)
        found = found.filter(kind=parts.kind, about=parts.about, user=parts.user) if parts else found.none()
    return found


@dataclass(frozen=True)
class Page:
    """Some emails, newest first, and where the ones before and after them begin."""

    letters: list[Notification]
    older: int | None  # to ask for `before` next; None: there is none
    searched_back_to: datetime | None  # set when the search ended before it was through; `older` goes on from there


def page(asked: Filter, *, before: int | None = None, size: int = 50) -> Page:
    """Return the newest emails of a filter whose id is less than `before`.

    However rare they are, no page takes long: after LOOKED_AT emails without enough of them the search ends, and says so.
    """
    found = filtered(asked).order_by("-id")
    newest = before or _newest(asked.until) + 1
    # What no index finds is looked for, a stretch of ids at a time.
    end = 0 if asked.has_index else max(newest - LOOKED_AT, 0)
    letters, top, width = list[Notification](), newest, FIRST_STRETCH
    while len(letters) <= size and top > end:
        bottom = 0 if asked.has_index else max(top - width, end)
        letters += found.filter(id__lt=top, id__gte=bottom)[: size + 1 - len(letters)]
        top, width = bottom, width * 4
    if len(letters) > size:
        return Page(letters[:size], letters[size - 1].pk, None)
    if end == 0:
        return Page(letters, None, None)
    last = Notification.objects.filter(id__gte=end).order_by("id").values_list("owed_at", flat=True).first()
    return Page(letters, end, last)


@dataclass(frozen=True)
class Counts:
    """How many emails of a filter there are; `is_cut` when only the newest of them were counted."""

    by_state: dict[str, int]
    by_kind: dict[str, int]
    is_cut: bool


def counts(asked: Filter) -> Counts:
    """Return how many emails of a filter are in each state and of each kind.

    At most LOOKED_AT of them are counted, the newest ones, so that the answer takes as long however many there are.
    """
    newest = _newest(asked.until)
    looked_at = filtered(asked)
    if not asked.has_index:
        looked_at = looked_at.filter(id__gt=newest - LOOKED_AT, id__lte=newest)
    within = looked_at.order_by("-id").values("state", "kind")[: LOOKED_AT + 1]
    by_state, by_kind = Counter[str](), Counter[str]()
    with connection.cursor() as cursor:
        sql, params = within.query.sql_with_params()
        cursor.execute(f"SELECT state, kind, count(*) FROM ({sql}) letters GROUP BY state, kind", params)
        for state, kind, number in cursor.fetchall():
            by_state[state] += number
            by_kind[kind] += number
    is_cut = by_state.total() > LOOKED_AT if asked.has_index else newest > LOOKED_AT
    return Counts(dict(by_state), dict(by_kind), is_cut)


def _newest(until: datetime | None) -> int:
    """Return the id of the newest email, or of the newest one owed before a moment; 0 when there is none."""
    owed = Notification.objects.filter(owed_at__lt=until) if until else Notification.objects
    return int(owed.aggregate(newest=Max("id"))["newest"] or 0)


@dataclass(frozen=True)
class Delivery:
    """How the emails go, for whoever watches them."""

    backlog: Backlog
    speed: float | None  # emails per minute of one sender, lately; None: none was sent yet
    rest: timedelta  # until all that waits is sent, about


def delivery(now: datetime) -> Delivery:
    """Return how the emails go at `now`: what waits, at which rate, and for how long."""
    server = MailServer.objects.filter(id=1).first() or MailServer()
    return Delivery(backlog=backlog(now), speed=server.speed, rest=forecast(0, now=now).takes)


def retryable(now: datetime) -> Q:
    """Return the condition of an email that failed for good and may be tried again.

    The text of a stored email is erased by then, and the link of an old invitation has ended.
    """
    has_ended = Q(kind=INVITATION, owed_at__lte=now - LIFETIME)
    return Q(state__in=RETRYABLE) & ~Q(kind__in=STORED) & ~has_ended


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
