"""The list on the page Manage users: what its URL says, as one frozen value, and the rows that one page of it shows."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from html import escape
from typing import Any, ClassVar, Self, TypedDict
from urllib.parse import urlencode

from django.conf import settings
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from admin_console.found_users import Found, page_of
from admin_console.templatetags.console import avatar, moment, product_codes, product_marks
from admin_console.user_order import Order, Place, UnreadablePlace, order_of
from products.models import Product
from products.queries import catalogue
from products.selection import Selection
from users.models import Capability, GroupMembership, Role, User
from users.queries import (
    InvalidFilter,
    Status,
    UserFilter,
    can,
    sees_everybody,
    visible_groups,
    with_status,
    with_subgroups,
)

PAGE_SIZE = 50
CATEGORIES = {
    "group": gettext_lazy("User group"),
    "role": gettext_lazy("Role"),
    "status": gettext_lazy("Status"),
    "product": gettext_lazy("Product"),
    "language": gettext_lazy("Language"),
}
COLUMNS = {
    "name": gettext_lazy("Name"),
    "email": gettext_lazy("Email"),
    "group": gettext_lazy("User group"),
    "role": gettext_lazy("Role"),
    "products": gettext_lazy("Products"),
    "status": gettext_lazy("Status"),
    "seen": gettext_lazy("Last seen"),
}


@dataclass(frozen=True, kw_only=True)
class View:
    """What the URL of the list says: filters and search, the order, the page; and what it said that could not be."""

    wanted: UserFilter = field(default_factory=UserFilter)
    sort: str = "name"
    at: tuple[str, str] = ("", "")  # "after" or "before" which place, or "last"; the first page, if neither
    start: int | None = None  # the number of the page's first user: from the first, or, below zero, from the end
    problems: tuple[str, ...] = ()

    @classmethod
    def from_query(cls, query: Any, choices: "Choices") -> Self:
        """Read a QueryDict. A value that cannot be is left out, and said so in `problems`."""
        lists = {key: query.getlist(key) for key in (*UserFilter.CATEGORIES, "search")}
        if query.get("category") in UserFilter.CATEGORIES and query.get("value"):
            lists[query["category"]] = [*lists[query["category"]], query["value"]]
        wanted, problems = _readable(lists)
        for category, value in wanted_values(wanted):
            if choices.label(category, value) is None:
                wanted, problems = wanted.without(category, value), [*problems, _unknown(category, value)]
        sort = query.get("sort") or "name"
        if sort.removeprefix("-") not in COLUMNS:
            sort, problems = "name", [*problems, _("The list cannot be sorted by “%s”.") % sort[:40]]
        way = next((name for name in ("after", "before", "last") if query.get(name)), "")
        start = int(query["from"]) if re.fullmatch("-?[0-9]{1,9}", query.get("from", "")) else 0
        return cls(wanted=wanted, sort=sort, at=(way, query.get(way, "")), start=start or None, problems=tuple(problems))

    def query(self, **changes: Any) -> str:
        """Return the URL query, with the question mark, of this view or of one that differs from it; first pages, unless told."""
        view = replace(self, **{"at": ("", ""), "start": None, **changes})
        pairs = [(key, value) for key, values in view.wanted.as_dict().items() for value in values]
        pairs += [("sort", view.sort)] if view.sort != "name" else []
        pairs += [view.at] if view.at[0] else []
        pairs += [("from", str(view.start))] if view.start else []
        return f"?{urlencode(pairs)}" if pairs else ""

    @property
    def here(self) -> str:
        """The URL query of this very page."""
        return self.query(at=self.at, start=self.start)


@dataclass(frozen=True)
class Look:
    """How the list looks in this browser: rows close together or not, and the columns that are not shown."""

    COOKIE: ClassVar = "users_look"

    compact: bool = False
    hidden: frozenset[str] = frozenset()

    @classmethod
    def from_cookie(cls, text: str) -> Self:
        """Read what `as_cookie` wrote; what is unknown is left out."""
        words = frozenset(text.split("."))
        return cls("compact" in words, words & (COLUMNS.keys() - {"name"}))

    @classmethod
    def from_form(cls, form: Any) -> Self:
        """Read a QueryDict of the columns that are ticked and the density that is chosen."""
        return cls(form.get("density") == "compact", frozenset(COLUMNS.keys() - {"name", *form.getlist("column")}))

    @property
    def as_cookie(self) -> str:
        """The look as the value of a cookie."""
        return ".".join(["compact"] * self.compact + sorted(self.hidden))


@dataclass(frozen=True)
class Choices:
    """What one may filter by: (value, label) by category, the groups within the actor's scope only."""

    by_category: dict[str, list[tuple[str, str]]]
    groups: dict[int, str]
    products: list[Product]

    @classmethod
    def of(cls, actor: User) -> Self:
        """Return what the actor may choose from."""
        groups, products = visible_groups(actor), catalogue()
        return cls(
            {
                "group": [*((str(pk), path) for pk, path in groups), ("0", _("No group"))],
                "role": [(value, str(label)) for value, label in Role.choices],
                "status": [(value, str(label)) for value, label in Status.choices],
                "product": [*((str(product.pk), product.name) for product in products), ("0", _("No product"))],
                "language": list(settings.LANGUAGES),
            },
            dict(groups),
            products,
        )

    def label(self, category: str, value: str) -> str | None:
        """Return how a value is shown, None when there is no such value to choose."""
        return dict(self.by_category[category]).get(value)


class Row(TypedDict):
    """One user of the list, in HTML: fifty of them are shown on every page, so their template has nothing left to find out."""

    id: int
    url: str
    name: SafeString
    email: SafeString
    avatar: SafeString
    group: SafeString  # the first one's own name
    more_groups: str  # "+1"
    groups: SafeString  # the paths of all
    role: SafeString
    marks: SafeString
    status: str
    status_label: SafeString
    console_only: bool  # holds nothing, and may open the console all the same
    seen: SafeString  # when last seen; nothing for who never was
    select: SafeString  # what the user's tick says
    ticked: bool


@dataclass(frozen=True)
class Page:
    """One page of the list: its users, where they stand, and what is known of all the others without counting them."""

    users: list[User]
    places: list[Place]
    before: bool  # there are users before these
    after: bool
    start: int | None  # see View
    problems: tuple[str, ...] = ()

    @property
    def count(self) -> int | None:
        """How many users there are on all pages, if this is the only one."""
        return None if self.before or self.after else len(self.users)

    def numbers(self, count: int | None) -> tuple[int, int] | None:
        """Return the numbers of the first and the last of its users, as far as they can be told."""
        return numbers(self.start, len(self.users), count)


class UserList:
    """The users that a view finds within the actor's scope."""

    def __init__(self, actor: User, view: View, choices: Choices, *, now: datetime) -> None:
        self.actor, self.view, self.choices, self.now = actor, view, choices, now

    @cached_property
    def page(self) -> Page:
        """Return the page of users asked for; the first one when nobody can tell which that is, the last beyond the end.

        Raises users.plans.TookTooLong.
        """
        (way, text), start, problems = self.view.at, self.view.start, self.view.problems
        since = None
        if way in ("after", "before"):
            try:
                since = self._order.read(text)
            except UnreadablePlace:
                way, problems = "", (*problems, _("That page of the list cannot be found any more; this is the first one."))
        places, more = self._places(since, backwards=way in ("before", "last"))
        before, after = (more, way == "before") if way in ("before", "last") else (way == "after", more)
        if way == "after" and not places:
            way, (places, before) = "last", self._places(None, backwards=True)
        if way == "before" and not before:
            way, (places, after) = "", self._places(None, backwards=False)
        start = {"": 1, "last": -len(places)}.get(way, start)
        return Page(self._users([place.id for place in places]), places, before, after, start, problems)

    @property
    def count(self) -> int:
        """Return how many users the view finds, on all pages; it takes longer than a page. Raises users.plans.TookTooLong."""
        return Selection(everyone=True, filter=self.view.wanted).count(self.actor, now=self.now)

    def rows(self, ticked: Iterable[int] = ()) -> list[Row]:
        """Return the page as it is shown; `ticked` are the ids of those of its users who are selected."""
        users, ticked = self.page.users, set(ticked)
        groups = self._groups_of([user.pk for user in users])
        codes = product_codes(self.choices.products)
        roles, statuses = (
            {value: in_html(label) for value, label in self.choices.by_category[category]} for category in ("role", "status")
        )
        url, select = reverse("user", args=[0]), _("Select %(name)s")

        @cache  # many hold the same
        def marks(held: tuple[int, ...], hollow: bool) -> SafeString:
            return product_marks([(codes[each.pk], each) for each in self.choices.products if each.pk in held], hollow=hollow)

        def row(user: Any) -> Row:
            paths = groups.get(user.pk, [])
            return Row(
                id=user.pk,
                url=url.replace("0", str(user.pk)),
                name=in_html(user.name),
                email=in_html(user.email),
                avatar=avatar(user),
                group=in_html(paths[0].rpartition(" / ")[2] if paths else ""),
                more_groups=f"+{len(paths) - 1}" if paths[1:] else "",
                groups=in_html(", ".join(paths)),
                role=roles[user.role],
                marks=marks(tuple(user.product_access.products), user.status == Status.INVITED),
                status=user.status,
                status_label=statuses[user.status],
                console_only=user.status == Status.SUSPENDED and can(user, Capability.VIEW_USERS),
                seen=moment(user.seen_at),
                select=in_html(select % {"name": user.name}),
                ticked=user.pk in ticked,
            )

        return [row(user) for user in users]

    @cached_property
    def _order(self) -> Order:
        return order_of(
            self.view.sort,
            self.view.wanted,
            list(self.choices.groups),
            ungrouped=sees_everybody(self.actor),
            most_products=len(self.choices.products),
            now=self.now,
        )

    def _places(self, since: Place | None, *, backwards: bool) -> tuple[list[Place], bool]:
        found = Found(self.actor, self.view.wanted, self.now)
        return page_of(found, self._order, size=PAGE_SIZE, since=since, backwards=backwards)

    def _users(self, ids: list[int]) -> list[User]:
        users = with_status(User.objects.filter(id__any=ids), now=self.now).select_related("product_access")
        found = {user.pk: user for user in users}
        return [found[pk] for pk in ids if pk in found]

    def _groups_of(self, user_ids: Sequence[int]) -> dict[int, list[str]]:
        """Return the paths of each user's groups, those that the filter asks for first; groups out of scope are not shown."""
        pairs = set(GroupMembership.objects.filter(user__in=user_ids).values_list("group_id", "user_id"))
        asked = set(with_subgroups(self.view.wanted.group)) if self.view.wanted.group else set()
        in_order = {group: (group not in asked, place) for place, group in enumerate(self.choices.groups)}
        found: dict[int, list[str]] = {}
        for group, user in sorted((pair for pair in pairs if pair[0] in in_order), key=lambda pair: in_order[pair[0]]):
            found.setdefault(user, []).append(self.choices.groups[group])
        return found


def in_html(text: str) -> SafeString:
    """Return a text as HTML. Django's own escape asks of each whether it is a translation yet to come: a thousand on a page."""
    return SafeString(escape(text))


def wanted_values(wanted: UserFilter) -> list[tuple[str, str]]:
    """Return the (category, value) pairs of a filter, in the order of the categories."""
    return [(category, value) for category, values in wanted.as_dict().items() if category != "search" for value in values]


def _readable(lists: dict[str, list[str]]) -> tuple[UserFilter, list[str]]:
    """Return the filter that the lists hold without what cannot be read, and a sentence for each value left out."""
    problems: list[str] = []
    while True:
        try:
            return UserFilter.from_query(lists), problems
        except InvalidFilter as error:
            lists = {**lists, error.category: [value for value in lists[error.category] if value != error.value]}
            problems.append(_unknown(error.category, error.value))


def _unknown(category: str, value: str) -> str:
    return _("There is no %(category)s “%(value)s” to filter by; it was left out.") % {
        "category": CATEGORIES[category],
        "value": value[:40],
    }


def numbers(start: int | None, shown: int, count: int | None) -> tuple[int, int] | None:
    """Return the numbers of the first and last user shown, given the first's (see View) and how many there are, if known."""
    if start is None or not shown or (start < 0 and count is None):
        return None
    first = start if start > 0 else (count or 0) + start + 1
    return (first, first + shown - 1) if first > 0 and (count is None or first + shown - 1 <= count) else None
