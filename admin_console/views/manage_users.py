"""The page Manage users: the list of users, and choosing whom a change is for."""

from typing import Any

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.timezone import now
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST
from django_htmx.http import push_url, replace_url

from admin_console.access import Request, requires
from admin_console.user_list import CATEGORIES, COLUMNS, Choices, UserList, View, wanted_values
from admin_console.views.errors import failed
from products import actions
from products.models import SelectionDraft
from products.queries import selection_draft
from products.selection import Selection
from users.models import Capability
from users.queries import UserFilter, can

TEMPLATE = "users/manage_users.html"
MOST_TICKS = 500  # posted at once


@require_GET
@requires(Capability.VIEW_USERS)
def manage_users(request: Request) -> HttpResponse:
    """Show the list that the URL's query asks for; to htmx, the part of the page that it targets."""
    choices = Choices.of(request.user)
    view = View.from_query(request.GET, choices)
    if request.htmx.target == "narrow":
        return render(request, f"{TEMPLATE}#narrow", _narrowing(request, view, choices))
    if not request.htmx and request.GET.get("value"):
        return redirect(reverse("manage_users") + view.query())
    response = _listed(request, view, choices)
    if not request.htmx or request.htmx.trigger == "results":  # the list refreshes itself
        return response
    show = replace_url if request.htmx.trigger_name == "search" else push_url
    return show(response, reverse("manage_users") + view.query())


@require_POST
@requires(Capability.ASSIGN_PRODUCTS)
def tick_users(request: Request) -> HttpResponse:
    """Tick those of the users `of` who are among the `user`s posted, untick the others; show the bar of the selection.

    Without JavaScript the whole page is posted (`shown`), and the dialog comes next.
    """
    of = _ids(request.POST.getlist("of") or request.POST.getlist("shown"))
    if len(of) > MOST_TICKS:
        text = _("That was too much at once. To act on many users, use “Select all” instead of ticking each of them.")
        return failed(request, 422, _("Too many users"), text)
    ticked = of & _ids(request.POST.getlist("user"))
    for ids, wanted in ((ticked, True), (of - ticked, False)):
        if ids:
            actions.tick_users(owner=request.user, user_ids=ids, ticked=wanted, now=now())
    draft = selection_draft(request.user, now=now())
    if request.htmx:
        return render(request, f"{TEMPLATE}#bar", _selected(request, draft))
    return redirect(f"{reverse('manage_products')}?draft={draft.pk}")


@require_POST
@requires(Capability.ASSIGN_PRODUCTS)
def select_all(request: Request) -> HttpResponse:
    """Select everyone whom the filter and search in the URL find, on all pages."""
    choices = Choices.of(request.user)
    view = View.from_query(request.GET, choices)
    if view.problems:  # never fall back to a wider choice than was asked for
        return failed(request, 422, _("Nobody was selected"), " ".join(view.problems))
    actions.select_everyone(owner=request.user, wanted=view.wanted, now=now())
    return _listed(request, view, choices) if request.htmx else redirect(reverse("manage_users") + view.query())


@require_POST
@requires(Capability.ASSIGN_PRODUCTS)
def clear_selection(request: Request) -> HttpResponse:
    """Untick everybody."""
    choices = Choices.of(request.user)
    view = View.from_query(request.GET, choices)
    actions.clear_selection(owner=request.user, now=now())
    return _listed(request, view, choices) if request.htmx else redirect(reverse("manage_users") + view.query())


def _listed(request: Request, view: View, choices: Choices) -> HttpResponse:
    """Return the page, or for htmx its list with the parts around it that follow from it."""
    listing = UserList(request.user, view, choices, now=now())
    draft = selection_draft(request.user, now=listing.now)
    on_page = [user.pk for user in listing.page.object_list]
    context = {
        "listing": listing,
        "page": listing.page,
        "rows": listing.rows(Selection.of_draft(draft).ticked_of(on_page, request.user, now=listing.now)),
        "on_page": on_page,
        "columns": [_column(view, name) for name in COLUMNS],
        "chips": _chips(view, choices),
        "pages": _pages(view, listing),
        **_narrowing(request, view, choices),
        **_selected(request, draft, choices),
    }
    return render(request, TEMPLATE + ("#refresh" if request.htmx else ""), context)


def _narrowing(request: Request, view: View, choices: Choices) -> dict[str, Any]:
    """Return what the filter drop-downs show: the categories, and the values of the chosen one that are not yet taken."""
    category = request.GET.get("category")
    category = category if category in CATEGORIES else "group"
    taken = view.wanted.as_dict().get(category, [])
    values = [(value, label) for value, label in choices.by_category[category] if value not in taken]
    return {
        "view": view,
        "query": view.query(),
        "category": category,
        "categories": CATEGORIES.items(),
        "values": values,
        "kept": wanted_values(view.wanted),
        "typing": request.htmx.trigger_name == "search",
    }


def _selected(request: Request, draft: SelectionDraft, choices: Choices | None = None) -> dict[str, Any]:
    """Return what the bar shows: how many are selected, counted by the code that a change resolves them with."""
    selection = Selection.of_draft(draft)
    return {
        "draft": draft,
        "selected": selection.users(request.user, now=now()).count() if selection.everyone or selection.ids else 0,
        "may_assign": can(request.user, Capability.ASSIGN_PRODUCTS),
        "everyone_in": _words(selection.filter, choices or Choices.of(request.user)) if selection.everyone else "",
    }


def _words(wanted: UserFilter, choices: Choices) -> str:
    """Return what a filter and search ask for, in words: “Status: Suspended, Role: Member”."""
    words = [f"{CATEGORIES[category]}: {choices.label(category, value) or value}" for category, value in wanted_values(wanted)]
    return ", ".join([*words, *([_("Search: “%s”") % wanted.search] if wanted.search else [])])


def _column(view: View, name: str) -> dict[str, Any]:
    """Return the head of a column: its label, how it is sorted now, and the query that sorts by it (again: the other way)."""
    descending = view.sort == name or (name == "seen" and view.sort != "-seen")
    return {
        "name": name,
        "label": COLUMNS[name],
        "sorted": {name: "ascending", f"-{name}": "descending"}.get(view.sort, ""),
        "query": view.query(sort=f"-{name}" if descending else name, page=1),
    }


def _chips(view: View, choices: Choices) -> list[dict[str, Any]]:
    """Return the filters and the search that are on, each with the query without it."""
    chips = [
        {
            "category": CATEGORIES[category],
            "label": choices.label(category, value),
            "query": view.query(wanted=view.wanted.without(category, value), page=1),
        }
        for category, value in wanted_values(view.wanted)
    ]
    if view.wanted.search:
        without = view.query(wanted=view.wanted.without("search", ""), page=1)
        chips.append({"category": _("Search"), "label": f"“{view.wanted.search}”", "query": without})
    return chips


def _pages(view: View, listing: UserList) -> list[dict[str, Any]]:
    """Return the ways to other pages; a way that leads nowhere has no query."""
    number, last = listing.page.number, listing.page.paginator.num_pages
    ways = [
        ("first", _("First page"), 1 if number > 1 else None),
        ("previous", _("Previous page"), number - 1 if number > 1 else None),
        ("next", _("Next page"), number + 1 if number < last else None),
        ("last", _("Last page"), last if number < last else None),
    ]
    return [{"name": name, "label": label, "query": page and (view.query(page=page) or "?")} for name, label, page in ways]


def _ids(values: list[str]) -> set[int]:
    """Return the ids among what was posted; anything else names no user."""
    return {int(value) for value in values if value.isascii() and value.isdigit() and len(value) < 10}
