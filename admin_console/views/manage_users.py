"""The page Manage users: the list of users, and choosing whom a change is for."""

import re
from typing import Any

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.timezone import now
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST
from django_htmx.http import push_url, replace_url

from admin_console.access import Request, page_before, requires
from admin_console.forms import MOST_IDS
from admin_console.user_list import (
    CATEGORIES,
    COLUMNS,
    PAGE_SIZE,
    Choices,
    Look,
    Page,
    UserList,
    View,
    in_html,
    numbers,
    wanted_values,
)
from admin_console.views.changes import see_other
from admin_console.views.errors import failed
from admin_console.views.preferences import keep
from notifications.phrases import labelled, quoted
from products import actions
from products.models import SelectionDraft
from products.queries import selection_draft
from products.selection import Selection, everyone_in_words, gone
from users.models import Capability
from users.plans import TookTooLong
from users.queries import UserFilter, can
from users.typed import LAST_ID, number

TEMPLATE = "users/manage_users.html"


@require_GET
@requires(Capability.VIEW_USERS)
def manage_users(request: Request) -> HttpResponse:
    """Show the list that the URL's query asks for; to htmx, the part of the page that it targets."""
    choices = Choices.of(request.user)
    view = View.from_query(request.GET, choices)
    if request.htmx.target == "narrow":
        return render(request, f"{TEMPLATE}#narrow", _narrowing(request, view, choices))
    if not request.htmx and request.GET.get("value"):
        return redirect(reverse("manage_users") + view.here)
    response = _listed(request, view, choices)
    if not request.htmx or request.htmx.trigger == "results":  # the list refreshes itself
        return response
    show = replace_url if request.htmx.trigger_name == "search" else push_url
    return show(response, reverse("manage_users") + view.here)


@require_GET
@requires(Capability.VIEW_USERS)
def count_users(request: Request) -> HttpResponse:
    """Show how many users the list finds on all its pages, where the page that asks (`shown` users from `from` on) says so."""
    choices = Choices.of(request.user)
    view = View.from_query(request.GET, choices)
    try:
        count = UserList(request.user, view, choices, now=now()).count
    except TookTooLong:
        count = None
    shown = request.GET.get("shown", "")
    shown_numbers = numbers(view.start, int(shown) if re.fullmatch("[0-9]{1,3}", shown) else 0, count)
    return render(request, f"{TEMPLATE}#counted", {"count": count, "numbers": shown_numbers})


@require_GET
@requires(Capability.ASSIGN_PRODUCTS)
def count_selected(request: Request) -> HttpResponse:
    """Show how many users are selected, in the bar of the selection."""
    draft = selection_draft(request.user, now=now())
    try:
        context = _selected(request, draft, counted=True)
    except TookTooLong:
        context = {"selected": None}
    return render(request, f"{TEMPLATE}#selected", context)


@require_POST
@requires(Capability.ASSIGN_PRODUCTS)
def tick_users(request: Request) -> HttpResponse:
    """Tick those of the users `of` who are among the `user`s posted, untick the others; show the bar of the selection.

    Without JavaScript the whole page is posted (`shown`), and the dialog comes next.
    """
    of = _ids(request.POST.getlist("of") or request.POST.getlist("shown"))
    if len(of) > MOST_IDS:
        text = _("That was too much at once. To act on many users, use “Select all” instead of ticking each of them.")
        return failed(request, 422, _("Too many users"), text)
    ticked = of & _ids(request.POST.getlist("user"))
    try:
        for ids, wanted in ((ticked, True), (of - ticked, False)):
            if ids:
                actions.tick_users(owner=request.user, user_ids=ids, ticked=wanted, now=now())
    except actions.NotAmongEveryone as refused:
        return failed(request, 422, _("Nobody was selected"), str(refused))
    draft = selection_draft(request.user, now=now())
    if request.htmx:
        return render(request, f"{TEMPLATE}#bar", _selected(request, draft))
    return see_other(f"{reverse('manage_products')}?draft={draft.pk}")


@require_POST
@requires(Capability.ASSIGN_PRODUCTS)
def select_all(request: Request) -> HttpResponse:
    """Select everyone whom the filter and search in the URL find, on all pages."""
    choices = Choices.of(request.user)
    view = View.from_query(request.GET, choices)
    if view.problems:  # never fall back to a wider choice than was asked for
        return failed(request, 422, _("Nobody was selected"), " ".join(view.problems))
    actions.select_everyone(owner=request.user, wanted=view.wanted, now=now())
    return _listed(request, view, choices) if request.htmx else see_other(reverse("manage_users") + view.here)


@require_POST
@requires(Capability.ASSIGN_PRODUCTS)
def clear_selection(request: Request) -> HttpResponse:
    """Untick everybody; the list stays as its filters, which htmx posts, or the URL say."""
    choices = Choices.of(request.user)
    view = View.from_query(request.POST if request.htmx else request.GET, choices)
    actions.clear_selection(owner=request.user, now=now())
    return _listed(request, view, choices) if request.htmx else see_other(reverse("manage_users") + view.here)


@require_POST
@requires(Capability.VIEW_USERS)
def look_of_users(request: Request) -> HttpResponse:
    """Remember in this browser how the list looks; with JavaScript it looks so already."""
    response = HttpResponse(status=204) if request.htmx else see_other(page_before(request))
    keep(response, Look.COOKIE, Look.from_form(request.POST).as_cookie, httponly=True)
    return response


def _listed(request: Request, view: View, choices: Choices) -> HttpResponse:
    """Return the page, or for htmx its list with the parts around it that follow from it."""
    listing = UserList(request.user, view, choices, now=now())
    draft = selection_draft(request.user, now=listing.now)
    try:
        page = listing.page
        # The rows wait for no count, unless somebody without JavaScript asked for it.
        count = listing.count if request.GET.get("count") and page.count is None else page.count
        on_page = [user.pk for user in page.users]
        context = {
            "page": page,
            "count": count,
            "counting": f"{view.query(start=page.start) or '?'}&shown={len(page.users)}",
            "numbers": page.numbers(count),
            # Ticking everybody and turning pages narrow nothing down: hundreds of groups need not come again.
            "renarrowed": request.method == "GET" and not view.at[0] and request.htmx.trigger != "results",
            "rows": listing.rows(Selection.of_draft(draft).ticked_of(on_page, request.user, now=listing.now)),
            "alone": page.count == 1 and page.users[0] == request.user and not view.wanted.as_dict(),
            "look": Look.from_cookie(request.COOKIES.get(Look.COOKIE, "")),
            "columns": [_column(view, name) for name in COLUMNS],
            "chips": _chips(view, choices),
            "pages": _pages(view, page),
            **_narrowing(request, view, choices),
            **_selected(request, draft, choices, counted=bool(request.GET.get("count"))),
        }
    except TookTooLong:
        return _took_too_long(request)
    return render(request, TEMPLATE + ("#refresh" if request.htmx else ""), context)


def _took_too_long(request: Request) -> HttpResponse:
    text = _("The list was not put together within 5 seconds. Please narrow it down with a filter or a longer search.")
    return failed(request, 503, _("That took too long"), text)


def _narrowing(request: Request, view: View, choices: Choices) -> dict[str, Any]:
    """Return what the filter drop-downs show: the categories, and the values of the chosen one that are not yet taken."""
    category = request.GET.get("category")
    category = category if category in CATEGORIES else "group"
    taken = view.wanted.as_dict().get(category, [])
    values = ((value, label) for value, label in choices.by_category[category] if value not in taken)
    return {
        "view": view,
        "query": view.here,
        "category": category,
        "categories": CATEGORIES.items(),
        "options": SafeString("".join(f'<option value="{in_html(value)}">{in_html(label)}</option>' for value, label in values)),
        "kept": wanted_values(view.wanted),
        "typing": request.htmx.trigger_name == "search",
    }


def _selected(
    request: Request, draft: SelectionDraft, choices: Choices | None = None, *, counted: bool = False
) -> dict[str, Any]:
    """Return what the bar shows: how many are selected, as a change resolves them; if that is everyone, only once `counted`."""
    selection = Selection.of_draft(draft)
    selected = 0 if not selection.everyone and not selection.ids else None
    if selected is None and (counted or not selection.everyone):
        selected = selection.count(request.user, now=now())
    return {
        "draft": draft,
        "selected": selected,
        "may_assign": can(request.user, Capability.ASSIGN_PRODUCTS),
        "everyone": _everyone(selection, choices or Choices.of(request.user)) if selection.everyone else "",
    }


def _everyone(selection: Selection, choices: Choices) -> str:
    """Return whom “Select all” took, in words: “everyone with Status: Suspended, Role: Member, except 3”."""
    wanted = selection.filter
    narrowed = [
        labelled(CATEGORIES[category], choices.label(category, value) or gone(value)) for category, value in wanted_values(wanted)
    ]
    if wanted.search:
        narrowed.append(labelled(_searching(wanted), quoted(wanted.search)))
    return everyone_in_words(narrowed, unticked=len(selection.ids))


def _searching(wanted: UserFilter) -> str:
    """Return what a search is called: one for fewer than three letters finds less."""
    return _("Words that begin with") if wanted.finds_beginnings else _("Search")


def _column(view: View, name: str) -> dict[str, Any]:
    """Return the head of a column: its label, how it is sorted now, and the query that sorts by it (again: the other way)."""
    descending = view.sort == name or (name == "seen" and view.sort != "-seen")
    return {
        "name": name,
        "label": COLUMNS[name],
        "sorted": {name: "ascending", f"-{name}": "descending"}.get(view.sort, ""),
        "query": view.query(sort=f"-{name}" if descending else name),
    }


def _chips(view: View, choices: Choices) -> list[dict[str, Any]]:
    """Return the filters and the search that are on, each with the query without it."""
    chips = [
        {
            "category": CATEGORIES[category],
            "label": choices.label(category, value),
            "query": view.query(wanted=view.wanted.without(category, value)),
        }
        for category, value in wanted_values(view.wanted)
    ]
    if view.wanted.search:
        without = view.query(wanted=view.wanted.without("search", ""))
        chips.append({"category": _searching(view.wanted), "label": quoted(view.wanted.search), "query": without})
    return chips


def _pages(view: View, page: Page) -> list[dict[str, Any]]:
    """Return the ways to other pages; a way that leads nowhere has no query. They say where a page begins, not its number."""
    start, shown = page.start, len(page.users)
    back = start and (start - PAGE_SIZE if start < 0 else max(start - PAGE_SIZE, 1))
    onward = start and (start + shown if start > 0 or start + shown < 0 else None)
    ways = [
        ("first", _("First page"), page.before and view.query()),
        ("previous", _("Previous page"), page.before and view.query(at=("before", str(page.places[0])), start=back)),
        ("next", _("Next page"), page.after and view.query(at=("after", str(page.places[-1])), start=onward)),
        ("last", _("Last page"), page.after and view.query(at=("last", "1"))),
    ]
    return [{"name": name, "label": label, "query": query is not False and (query or "?")} for name, label, query in ways]


def _ids(values: list[str]) -> set[int]:
    """Return the ids among what was posted; anything else names no user."""
    return {found for value in values if (found := number(value, most=LAST_ID)) is not None}
