"""The list on the page Manage users: what its URL says, as one frozen value, and the rows that one page of it shows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Self
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.paginator import Page, Paginator
from django.db.models import Case, F, Func, IntegerField, Min, OrderBy, OuterRef, QuerySet, Subquery, Value, When
from django.db.models.functions import Cast
from django.utils.functional import cached_property
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from admin_console.templatetags.console import product_codes
from products.models import Product
from products.queries import catalogue
from users.models import Capability, GroupMembership, Role, User
from users.queries import InvalidFilter, Status, UserFilter, can, users_matching, visible_groups, visible_to, with_status

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
    page: int = 1
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
        number = query.get("page", "")
        page = int(number) if number.isascii() and number.isdigit() and len(number) < 9 else 1
        return cls(wanted=wanted, sort=sort, page=max(page, 1), problems=tuple(problems))

    def query(self, **changes: Any) -> str:
        """Return the URL query, with the question mark, of this view or of one that differs from it."""
        view = replace(self, **changes)
        pairs = [(key, value) for key, values in view.wanted.as_dict().items() for value in values]
        pairs += [("sort", view.sort)] if view.sort != "name" else []
        pairs += [("page", str(view.page))] if view.page > 1 else []
        return f"?{urlencode(pairs)}" if pairs else ""


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


@dataclass(frozen=True)
class Row:
    """One user of the list as it is shown."""

    user: User
    groups: list[str]
    marks: list[tuple[str, Product]]
    ticked: bool = False

    @property
    def console_only(self) -> bool:
        """Whether the user holds nothing and may open the console all the same."""
        return self.user.status == Status.SUSPENDED and can(self.user, Capability.VIEW_USERS)  # type: ignore[attr-defined]


class UserList:
    """The users that a view finds within the actor's scope."""

    def __init__(self, actor: User, view: View, choices: Choices, *, now: datetime) -> None:
        self.actor, self.view, self.choices, self.now = actor, view, choices, now

    @cached_property
    def page(self) -> Page[User]:
        """Return the page of users asked for, the last one when there are not that many."""
        users = users_matching(visible_to(self.actor), self.view.wanted, now=self.now)
        users = with_status(users, now=self.now).select_related("product_access")
        return Paginator(_sorted(users, self.view.sort, list(self.choices.groups)), PAGE_SIZE).get_page(self.view.page)

    @cached_property
    def count(self) -> int:
        """Return how many users the view finds, on all pages."""
        return self.page.paginator.count

    def rows(self, ticked: Iterable[int] = ()) -> list[Row]:
        """Return the page as it is shown; `ticked` are the ids of those of its users who are selected."""
        users, ticked = list(self.page.object_list), set(ticked)
        groups = self._groups_of([user.pk for user in users])
        codes = product_codes(self.choices.products)
        return [
            Row(
                user,
                groups.get(user.pk, []),
                [(codes[product.pk], product) for product in self.choices.products if product.pk in user.product_access.products],
                user.pk in ticked,
            )
            for user in users
        ]

    def _groups_of(self, user_ids: Sequence[int]) -> dict[int, list[str]]:
        """Return the paths of each user's groups, in the order of the tree; groups out of the actor's scope are not shown."""
        pairs = set(GroupMembership.objects.filter(user__in=user_ids).values_list("group_id", "user_id"))
        found: dict[int, list[str]] = {}
        in_order = {group: place for place, group in enumerate(self.choices.groups)}
        for group, user in sorted((pair for pair in pairs if pair[0] in in_order), key=lambda pair: in_order[pair[0]]):
            found.setdefault(user, []).append(self.choices.groups[group])
        return found


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


def _sorted(users: QuerySet[User], sort: str, groups_in_order: list[int]) -> QuerySet[User]:
    """Return the users in the order asked for; those alike come by id, so no user is on two pages or on none."""
    column, descending = sort.removeprefix("-"), sort.startswith("-")
    by: Any = {
        "name": lambda: F("name_key"),
        "email": lambda: F("email"),
        "group": lambda: _first_group(groups_in_order),
        "role": lambda: _rank("role", Role.values),
        "products": lambda: Func(F("product_access__products"), function="cardinality", output_field=IntegerField()),
        "status": lambda: _rank("status", Status.values),
        "seen": lambda: F("last_seen__at"),
    }[column]()
    # Never seen is longest ago; in no group comes last either way.
    never: dict[str, dict[str, Any]] = {
        "seen": {"nulls_last": descending or None, "nulls_first": not descending or None},
        "group": {"nulls_last": True},
    }
    return users.order_by(OrderBy(by, descending=descending, **never.get(column, {})), "-id" if descending else "id")


def _rank(column: str, values: Sequence[str]) -> Case:
    return Case(*(When(**{column: value}, then=Value(place)) for place, value in enumerate(values)), output_field=IntegerField())


def _first_group(groups_in_order: list[int]) -> Subquery:
    """Return the place in the tree of the first group of a user, which is the one that the list shows."""
    in_order = Cast(Value(groups_in_order), ArrayField(IntegerField()))
    place = Func(in_order, F("group_id"), function="array_position", output_field=IntegerField())
    memberships = GroupMembership.objects.filter(user=OuterRef("pk")).order_by().values("user")
    return Subquery(memberships.annotate(place=Min(place)).values("place"))
