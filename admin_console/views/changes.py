"""The bulk changes: the list, the page of one with its progress or result and its users, and those users as a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q
from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.timezone import get_current_timezone_name, now
from django.views.decorators.http import require_GET
from django_htmx.http import push_url, reswap, retarget, trigger_client_event

from admin_console.access import Request, requires
from admin_console.activity import LABELS, Activity, ChangeChoices, what
from admin_console.change_page import Outcome, People, may_undo
from admin_console.strip import Strip
from admin_console.url_filter import DAYS
from products.export import users_as_csv
from products.models import BulkChange
from products.queries import product_names, visible_changes
from products.reports import changes_matching
from users.models import Action, Capability, User
from users.queries import can
from users.record import record
from users.typed import number

PAGE_SIZE = 50


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
    choices = ChangeChoices(request.user)
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
        "changes": [_row(each, choices.names, now(), undoable=may_undo(request.user, each)) for each in listed[:PAGE_SIZE]],
        "newest": activity.query(),
        "older": activity.query(before=listed[PAGE_SIZE - 1].pk) if len(listed) > PAGE_SIZE else None,
        "undoable": can(request.user, Capability.ASSIGN_PRODUCTS),
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
def running(request: Request) -> HttpResponse:
    """Answer the strip that asks for itself: how far the change it shows is now, or the strip anew with what to tell."""
    strip = Strip(request)
    if strip.key and strip.key == request.GET.get("of"):
        return render(request, "components/banners.html#polled", {"strip": strip})
    response = render(request, "components/banners.html#renewed", {"strip": strip})
    if request.GET.get("of"):  # something ended: lists of users show it too
        response = trigger_client_event(response, "users-changed")
    return retarget(reswap(response, "outerHTML"), "#strip")


@require_GET
@requires(Capability.VIEW_USERS)
def change(request: Request, change_id: int) -> HttpResponse:
    """Show one bulk change; to htmx its progress while it runs, what is counted afterwards, or a page of its users."""
    made, at = visible_change(request.user, change_id), now()
    outcome = Outcome(made, reader=request.user, now=at, counting="counted" in request.GET)
    match (request.htmx.target or "").rpartition("-")[2]:  # change-7-progress
        case "progress":
            return _polled(request, outcome)
        case "details":
            outcome.counting = True
            return render(request, "changes/change.html#details", {"outcome": outcome})
    names = product_names()
    people = People(made, request.GET, reader=request.user, now=at, names=names)
    if part := {"change-people": "people", "people-rows": "found"}.get(request.htmx.target or ""):
        return render(request, f"changes/change.html#{part}", {"change": made, "people": people})
    related = visible_changes(request.user).filter(Q(undoes=made) | Q(undone_by=made)).order_by("id")
    context = {
        "change": made,
        "what": what(made, names),
        "outcome": outcome,
        "people": people,
        "undoes": [other.pk for other in related if other.pk == made.undoes_id],
        "undone_by": [other.pk for other in related if other.undoes_id == made.pk],
    }
    return render(request, "changes/change.html", context)


@require_GET
@requires(Capability.VIEW_USERS)
def export(request: Request, change_id: int) -> StreamingHttpResponse:
    """Send all users of a change as CSV, in pieces as the database makes them."""
    made = visible_change(request.user, change_id)
    record(Action.CHANGE_EXPORTED, actor=request.user, subject=made.pk)
    rows = users_as_csv(made, reader=request.user, zone=get_current_timezone_name(), now=now())
    response = StreamingHttpResponse(rows, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="change-{made.pk}.csv"'
    return response


def visible_change(reader: User, change_id: int) -> BulkChange:
    """Return a change that the reader may see. Raises Http404."""
    return get_object_or_404(visible_changes(reader).select_related("actor", "state_by"), pk=change_id)


def _polled(request: Request, outcome: Outcome) -> HttpResponse:
    """Answer the progress that asks for itself: how far it is, or once it no longer runs, the result in place of it all."""
    speaks = not outcome.is_running or outcome.tens > (number(request.GET.get("said", "")) or 0)
    context = {"outcome": outcome, "speaks": speaks}
    if outcome.is_running:
        return render(request, "changes/change.html#polled", context)
    response = render(request, "changes/change.html#ended", context)
    return trigger_client_event(retarget(reswap(response, "outerHTML"), f"#change-{outcome.change.pk}-state"), "users-changed")


def see_other(page: str, *args: Any) -> HttpResponse:
    """Return the way to a page after a form was posted: to be fetched with GET (303)."""
    response = redirect(page, *args)
    response.status_code = 303
    return response


def _row(made: BulkChange, names: Mapping[int, str], at: datetime, *, undoable: bool) -> Row:
    undone_by = [undo.pk for undo in made.undone_by.all()]
    seconds = ((made.finished_at or at) - made.requested_at).total_seconds()
    return Row(change=made, what=what(made, names), seconds=seconds, undone_by=max(undone_by, default=None), may_undo=undoable)
