"""The bulk changes: the list, and the page of one with its progress, result, users, skips and emails."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.timezone import now
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET
from django_htmx.http import push_url, trigger_client_event

from admin_console.access import Request, requires
from admin_console.activity import DAYS, LABELS, Activity, Choices, what
from notifications.models import OPEN, State
from notifications.queries import fates_of
from products.models import AccessChange, BulkChange, BulkChangeSkip
from products.queries import moves, onboarding_fates, product_names, skipped_by_reason, visible_changes
from products.reports import changes_matching
from users.models import Capability
from users.queries import can, visible_to

PAGE_SIZE = 50
SLOW_AFTER = 30  # seconds, from which on the progress is asked for less often


@dataclass(frozen=True)
class Mails:
    """What became of the emails of one kind that a change owed."""

    label: str
    sent: int
    waiting: int
    failed: int

    @property
    def owed(self) -> int:
        return self.sent + self.waiting + self.failed

    @classmethod
    def of(cls, label: str, fates: Mapping[Any, int]) -> Self:
        """Return the emails of a kind from how many are in each state."""
        waiting, sent = sum(fates.get(state, 0) for state in OPEN), fates.get(State.SENT, 0)
        return cls(label, sent, waiting, sum(fates.values()) - waiting - sent)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How far a change is and, once it is over or paused, what it did."""

    change: BulkChange
    seconds: float
    gains: Sequence[tuple[str, int]] = ()
    losses: Sequence[tuple[str, int]] = ()
    skips: Sequence[tuple[str, int]] = ()
    mails: Sequence[Mails] = field(default_factory=list)

    @classmethod
    def of(cls, change: BulkChange, *, now: datetime) -> Self:
        """Return what there is to tell of a change at `now`."""
        seconds = ((change.finished_at or now) - change.requested_at).total_seconds()
        if change.state == BulkChange.State.RUNNING:
            return cls(change=change, seconds=seconds)
        names, moved = product_names(), moves(change)
        reasons = BulkChangeSkip.Reason
        mails = [Mails.of(_("Change emails"), fates_of(change.pk))]
        mails += [
            Mails.of(_("Onboarding: %(product)s") % {"product": names[product]}, fates)
            for product, fates in onboarding_fates(change).items()
        ]
        return cls(
            change=change,
            seconds=seconds,
            gains=[(names[product], gained) for product, (gained, _lost, _welcomed) in moved.items() if gained],
            losses=[(names[product], lost) for product, (_gained, lost, _welcomed) in moved.items() if lost],
            skips=[(str(reasons(reason).label), count) for reason, count in skipped_by_reason(change).items()],
            mails=[kind for kind in mails if kind.owed],
        )

    @property
    def percent(self) -> int:
        """How much of it is done, in whole percent."""
        return 100 * self.change.reached // max(self.change.targets, 1)

    @property
    def tells_more(self) -> bool:
        """Whether there are lists beside the numbers."""
        return bool(self.gains or self.losses or self.skips or self.mails)

    @property
    def said(self) -> int:
        """The last full ten percent: what a screen reader is told, so that it is not told too often."""
        return self.percent // 10 * 10

    @property
    def rate(self) -> int:
        """How many users a second it reached so far."""
        return round(self.change.reached / max(self.seconds, 1))

    @property
    def every(self) -> int:
        """After how many seconds to look again."""
        return 1 if self.seconds < SLOW_AFTER else 3


@dataclass(frozen=True, kw_only=True)
class Row:
    """One bulk change of the list as it is shown."""

    change: BulkChange
    what: str
    seconds: float
    undone_by: int | None
    may_undo: bool


@require_GET
@requires(Capability.VIEW_USERS)
def changes(request: Request) -> HttpResponse:
    """List the bulk changes that the reader may see and that the URL's query asks for, newest first."""
    choices = Choices(request.user)
    activity = Activity.from_query(request.GET, choices)
    found = changes_matching(visible_changes(request.user), activity.wanted).select_related("actor").order_by("-id")
    if activity.before:
        found = found.filter(id__lt=activity.before)
    listed = list(found.prefetch_related("undone_by")[: PAGE_SIZE + 1])
    context = {
        "activity": activity,
        "query": activity.query(before=activity.before),
        "chips": activity.chips(choices),
        "drop_downs": [
            (name, LABELS[name], values, activity.values.get(name)) for name, values in choices.by_name.items() if values
        ],
        "days": [(name, LABELS[name], activity.values.get(name, "")) for name in DAYS],
        "changes": [_row(each, choices.names, now()) for each in listed[:PAGE_SIZE]],
        "newest": activity.query(),
        "older": activity.query(before=listed[PAGE_SIZE - 1].pk) if len(listed) > PAGE_SIZE else None,
        "of_all": can(request.user, Capability.VIEW_CHANGES),
    }
    if not request.htmx:
        return render(request, "changes/changes.html", context)
    response = render(request, "changes/changes.html#results", context)
    if request.htmx.trigger == "results":  # the list refreshes itself
        return response
    return push_url(response, reverse("changes") + activity.query(before=activity.before))


@require_GET
@requires(Capability.VIEW_USERS)
def change(request: Request, change_id: int) -> HttpResponse:
    """Show one bulk change; to htmx its state while it runs, or another page of its users."""
    made = get_object_or_404(visible_changes(request.user).select_related("actor"), pk=change_id)
    names = product_names()
    if request.htmx.target == "change-state":
        outcome = Outcome.of(made, now=now())
        said = _number(request.GET.get("said", ""))
        speaks = outcome.said > said or made.state != BulkChange.State.RUNNING
        response = render(request, "changes/change.html#polled", {"outcome": outcome, "speaks": speaks})
        return trigger_client_event(response, "users-changed") if made.is_over else response
    context = {"change": made, "what": what(made, names), **_people(request, made, names)}
    part = {"change-users": "#users", "change-skips": "#skips"}.get(request.htmx.target or "", "")
    if not part:
        context["outcome"] = Outcome.of(made, now=now())
    return render(request, f"changes/change.html{part}", context)


def see_other(page: str, *args: Any) -> HttpResponse:
    """Return the way to a page after a form was posted: to be fetched with GET (303)."""
    response = redirect(page, *args)
    response.status_code = 303
    return response


def _row(made: BulkChange, names: Mapping[int, str], at: datetime) -> Row:
    undone_by = [undo.pk for undo in made.undone_by.all()]
    seconds = ((made.finished_at or at) - made.requested_at).total_seconds()
    return Row(change=made, what=what(made, names), seconds=seconds, undone_by=max(undone_by, default=None), may_undo=False)


def _people(request: Request, made: BulkChange, names: Mapping[int, str]) -> dict[str, Any]:
    """Return one page of the users that a change reached, before and after, and one of those that it left alone."""
    rows, more = _page(AccessChange.objects.filter(change=made), _number(request.GET.get("after", "")))
    skips, more_skips = _page(made.skips.all(), _number(request.GET.get("skipped_after", "")))
    seen = visible_to(request.user).in_bulk([row.user_id for row in (*rows, *skips)])
    return {
        "rows": [(row, seen.get(row.user_id), _named(row.before, names), _named(row.after, names)) for row in rows],
        "after": request.GET.get("after"),
        "more": more,
        "skips": [(skip, seen.get(skip.user_id)) for skip in skips],
        "skipped_after": request.GET.get("skipped_after"),
        "more_skips": more_skips,
        "sees_all": request.user.role != "MANAGER",
    }


def _page(rows: QuerySet[Any], after: int) -> tuple[list[Any], int | None]:
    """Return the rows of the users after this one, and the user after whom the next page begins, if there is one."""
    found = list(rows.filter(user_id__gt=after).order_by("user_id")[: PAGE_SIZE + 1])
    return found[:PAGE_SIZE], found[PAGE_SIZE - 1].user_id if len(found) > PAGE_SIZE else None


def _named(products: Sequence[int], names: Mapping[int, str]) -> list[str]:
    return [name for product, name in names.items() if product in products]


def _number(text: str) -> int:
    """Return the number in a query, 0 when there is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
