"""What the page of one bulk change shows: its progress or result, and pages of its users by what became of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Self
from urllib.parse import urlencode

from django.utils.translation import gettext as _

from notifications.models import OPEN, State
from notifications.queries import fates_of, forecast
from products.emails import CHANGE, ONBOARDING
from products.models import AccessChange, BulkChange, BulkChangeSkip
from products.pauses import Pause, pause_of
from products.queries import (
    may_steer,
    moves,
    onboarding_fates,
    product_names,
    progress,
    skipped_by_reason,
    waiting_users,
    waits_for,
)
from products.reports import Fate, UserPage, failed_users, users_of
from users.models import Capability, User
from users.queries import can, sees_everybody
from users.typed import LAST_ID, number, searched

SLOW_AFTER = 30  # seconds, from which on the progress is asked for less often
COUNT_AT_ONCE = 10_000  # users: of a larger change, skips and emails are counted in a request of their own


@dataclass(frozen=True)
class Mails:
    """What became of the emails of one kind that a change owed."""

    label: str
    sent: int
    waiting: int  # those that were deferred are among them
    deferred: int
    failed: int
    needless: int
    query: str  # of the page that lists them

    @property
    def owed(self) -> int:
        return self.sent + self.waiting + self.failed + self.needless

    @classmethod
    def of(cls, label: str, fates: Mapping[Any, int], **found_by: object) -> Self:
        """Return the emails of a kind from how many are in each state, and what finds them."""
        waiting, sent = sum(fates.get(state, 0) for state in OPEN), fates.get(State.SENT, 0)
        needless = fates.get(State.NEEDLESS, 0)
        failed = sum(fates.values()) - waiting - sent - needless
        return cls(label, sent, waiting, fates.get(State.DEFERRED, 0), failed, needless, f"?{urlencode(found_by)}")


class Outcome:
    """How far a change is or what it did, and what the reader may do about it; each part is asked for only when it is shown.

    `said` is a refusal to tell beside it, `counting` whether skips and emails are counted now, however many there are.
    """

    def __init__(self, change: BulkChange, *, reader: User, now: datetime, said: str = "", counting: bool = False) -> None:
        self.change, self.reader, self.now, self.said, self.counting = change, reader, now, said, counting

    @property
    def is_running(self) -> bool:
        return self.change.state == BulkChange.State.RUNNING

    @property
    def percent(self) -> int:
        """How much of it is done, in whole percent."""
        return 100 * self.change.reached // max(self.change.targets, 1)

    @property
    def tens(self) -> int:
        """The last full ten percent: what a screen reader is told, so that it is not told too often."""
        return self.percent // 10 * 10

    @property
    def seconds(self) -> float:
        """How long it took, or takes so far."""
        return ((self.change.finished_at or self.now) - self.change.requested_at).total_seconds()

    @property
    def every(self) -> int:
        """After how many seconds to look again."""
        return 1 if self.seconds < SLOW_AFTER else 3

    @cached_property
    def pace(self) -> dict[str, Any]:
        """How many users a second it reaches, and in how many seconds it will be done (None: that cannot be told)."""
        pace = progress(self.change, now=self.now)
        # While it waits, as for an earlier change of the same users, nobody can tell.
        return {"rate": round(pace.rate), "seconds_left": pace.seconds_left if pace.rate >= 1 else None}

    @cached_property
    def waits_for(self) -> int | None:
        """The earlier change of the same users that has to end first."""
        return None if self.pace["rate"] else waits_for(self.change)

    @property
    def pause(self) -> Pause | None:
        """Why it paused by itself, if it did."""
        return pause_of(self.change)

    @property
    def gains(self) -> list[tuple[str, int]]:
        """How many gained each product so far."""
        return [(self._names[product], gained) for product, (gained, _lost, _new) in self._moves.items() if gained]

    @property
    def losses(self) -> list[tuple[str, int]]:
        """How many lost each product so far."""
        return [(self._names[product], lost) for product, (_gained, lost, _new) in self._moves.items() if lost]

    @cached_property
    def failed(self) -> int:
        """How many users could not be changed."""
        return failed_users(self.change) if self.change.skipped else 0

    @property
    def may_steer(self) -> bool:
        """Whether the reader may pause, resume, cancel and retry it."""
        return may_steer(self.reader, self.change)

    @property
    def may_retry(self) -> bool:
        """Whether there is somebody to try again, and the reader may."""
        return self.change.is_over and self.failed > 0 and self.may_steer

    @property
    def may_undo(self) -> bool:
        """Whether there is something to undo, and the reader may."""
        return may_undo(self.reader, self.change)

    @property
    def counts_now(self) -> bool:
        """Whether skips and emails are told at once; else they are asked for afterwards."""
        return self.counting or self.change.targets <= COUNT_AT_ONCE

    @cached_property
    def skips(self) -> list[tuple[str, int]]:
        """How many users were left alone for each reason."""
        counts = skipped_by_reason(self.change) if self.change.skipped else {}
        return [(str(BulkChangeSkip.Reason(reason).label), count) for reason, count in counts.items()]

    @cached_property
    def mails(self) -> list[Mails]:
        """What became of the emails that it owed, by kind."""
        change, kinds = self.change.pk, list[Mails]()
        if self.change.notify:
            kinds.append(Mails.of(_("Change emails"), fates_of(change), kind=CHANGE, change=change))
        if any(new for _gained, _lost, new in self._moves.values()):
            for product, fates in onboarding_fates(self.change).items():
                label = _("Onboarding: %(product)s") % {"product": self._names[product]}
                kinds.append(Mails.of(label, fates, kind=ONBOARDING, change=change, product=product))
        return [kind for kind in kinds if kind.owed]

    @property
    def mails_take(self) -> float | None:
        """How many seconds about it takes to send all that wait, its emails among them; None when none of its waits."""
        return forecast(0, now=self.now).takes.total_seconds() if any(kind.waiting for kind in self.mails) else None

    @property
    def sees_mails(self) -> bool:
        """Whether the reader may look at the emails themselves."""
        return can(self.reader, Capability.VIEW_NOTIFICATIONS)

    @cached_property
    def mails_will_take(self) -> float | None:
        """While it runs: how long sending takes all that waits and what is still to come, when it is more than a minute."""
        if not self.change.notify:
            return None
        mails = forecast(waiting_users(self.change), now=self.now)
        return mails.takes.total_seconds() if mails.is_long else None

    @cached_property
    def _moves(self) -> dict[int, tuple[int, int, int]]:
        return moves(self.change)

    @cached_property
    def _names(self) -> dict[int, str]:
        return product_names()


@dataclass(frozen=True)
class Tab:
    """The users of one fate: how it is called, how many there are, and the query that shows them."""

    label: str
    count: int
    query: str
    current: bool


class People:
    """One page of the users of a change: those of one fate, perhaps narrowed down by a search."""

    def __init__(self, change: BulkChange, query: Any, *, reader: User, now: datetime, names: Mapping[int, str]) -> None:
        self.change, self.reader, self.now, self.names = change, reader, now, names
        shown = query.get("show", "").upper()
        self.fate = Fate(shown) if shown in self._counts else next((fate for fate, n in self._counts.items() if n), Fate.CHANGED)
        self.search = searched(query.get("search", ""))
        self.after, self.before = (number(query.get(name, ""), most=LAST_ID) or 0 for name in ("after", "before"))

    @cached_property
    def page(self) -> UserPage:
        """The users, and from where the pages beside this one begin."""
        place = {"after": self.after, "before": self.before}
        return users_of(self.change, self.fate, reader=self.reader, now=self.now, search=self.search, **place)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The users as they are shown: who, and what they held before and after, or why they were left alone."""
        return [
            {"user_id": user_id, "person": self.page.users.get(user_id), **self._told(row)} for user_id, row in self.page.rows
        ]

    @property
    def tabs(self) -> list[Tab]:
        """The fates that there are."""
        return [
            Tab(str(fate.label), count, self._query(fate=fate, search=self.search), fate == self.fate)
            for fate, count in self._counts.items()
        ]

    @property
    def pages(self) -> list[dict[str, str]]:
        """The ways to other pages: first, previous, next, last; a way that leads nowhere has no query."""
        page, is_first = self.page, not (self.after or self.before)
        ways: list[tuple[str, str, dict[str, Any] | None]] = [
            ("first", _("First page"), {} if not is_first else None),
            ("previous", _("Previous page"), {"before": page.previous} if page.previous else None),
            ("next", _("Next page"), {"after": page.next} if page.next else None),
            ("last", _("Last page"), {"before": LAST_ID} if page.next and not self.search else None),
        ]
        return [
            {"name": name, "label": label, "query": self._query(search=self.search, **place) if place is not None else ""}
            for name, label, place in ways
        ]

    @property
    def here(self) -> str:
        """The query of this page."""
        return self._query(search=self.search, after=self.after, before=self.before)

    @property
    def is_one_page(self) -> bool:
        """Whether there is no other page."""
        return not any(way["query"] for way in self.pages)

    @property
    def sees_all(self) -> bool:
        """Whether somebody whom the reader cannot see is no longer there, and not only out of reach."""
        return sees_everybody(self.reader)

    @cached_property
    def _counts(self) -> dict[Fate, int]:
        change, failed = self.change, failed_users(self.change) if self.change.skipped else 0
        counts = {Fate.CHANGED: change.changed, Fate.SKIPPED: change.skipped - failed, Fate.FAILED: failed}
        if change.state == BulkChange.State.CANCELLED:
            counts[Fate.NOT_REACHED] = change.not_reached
        return {fate: count for fate, count in counts.items() if count or fate == Fate.CHANGED}

    def _told(self, row: AccessChange | BulkChangeSkip | None) -> dict[str, Any]:
        if isinstance(row, AccessChange):
            return {"before": self._named(row.before), "after": self._named(row.after), "at": row.at}
        return {"skip": row} if row else {}

    def _named(self, products: Sequence[int]) -> list[str]:
        return [name for product, name in self.names.items() if product in products]

    def _query(self, *, fate: Fate | None = None, **place: Any) -> str:
        fate = fate or self.fate
        return f"?{urlencode({'show': fate.value.lower(), **{name: value for name, value in place.items() if value}})}"


def may_undo(reader: User, change: BulkChange) -> bool:
    """Return whether the reader, who sees this change, may take back what it did."""
    return can(reader, Capability.ASSIGN_PRODUCTS) and change.is_over and change.changed > 0
