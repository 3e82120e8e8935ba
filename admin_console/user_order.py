"""The orders that the list of users can be in.

An order is a row of *stretches*: the Members, then the Managers, and so on; by name there is only one. Inside of a stretch users
come by the fields `by`, of which the last tells them apart, and an index has them in that order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db.models import Case, Exists, F, Func, IntegerField, Min, Model, OuterRef, Q, Subquery, TextField, Value, When
from django.db.models.functions import Cast, Coalesce
from django.db.models.lookups import Exact, LessThan

from products.models import ProductAccess
from users.models import GroupMembership, Role, User, UserGroup
from users.queries import Status, UserFilter, having_status, long_ago, status_of, with_subgroups

SUSPENDED: dict[str, Any] = {"table": "products_productaccess", "by": ("user_id",), "where": "suspended"}


class UnreadablePlace(ValueError):
    """A place in the list, as an URL says it, that cannot be in this order."""


@dataclass(frozen=True)
class Place:
    """Where a user stands in an order: in which stretch, with which key, and the id."""

    stretch: str
    key: Any
    id: int

    def __str__(self) -> str:
        key = self.key.isoformat() if isinstance(self.key, datetime) else self.key
        return f"{self.stretch if self.key is None else key}~{self.id}"


@dataclass(frozen=True)
class Stretch:
    """Users who stand together: those of the rows of `table` that `where` says, in the order of `by`, if they are `inside`.

    An index has the rows in that order. The last column of `by` is the user's id.
    """

    name: str
    place: int = 0  # among the stretches
    table: str = "users_user"
    by: tuple[str, ...] = ("id",)
    where: str = "true"
    params: tuple[Any, ...] = ()
    inside: Callable[[], Q] = Q  # called only for those that are looked at


@dataclass(frozen=True)
class Order:
    """An order: its stretches as they follow each other, and what to sort by where no index is followed."""

    stretches: tuple[Stretch, ...]
    descending: bool = False
    kind: str = ""  # of the key inside of a stretch: text, time, or none besides the id
    place: Any = field(default_factory=lambda: Value(0))
    key: str = ""
    table: type[Model] | None = User  # which knows the place and the key; none if a user's id is enough

    def read(self, text: str) -> Place:
        """Return the place that an URL says. Raises UnreadablePlace."""
        value, _tilde, number = text.replace("\x00", "").rpartition("~")
        stretch = value
        key: Any = None
        try:
            if not (number.isascii() and number.isdigit() and len(number) < 10):
                raise ValueError
            if self.kind == "text":
                stretch, key = "", value
            elif self.kind == "time" and value != "never":
                stretch, key = "seen", datetime.fromisoformat(value)
                key.astimezone(UTC)
            if stretch not in {each.name for each in self.stretches} or (isinstance(key, datetime) and not key.tzinfo):
                raise ValueError
        except (ValueError, OverflowError):
            raise UnreadablePlace(text) from None
        return Place(stretch, key, int(number))


def order_of(
    sort: str, wanted: UserFilter, groups: Sequence[int], *, ungrouped: bool, most_products: int, now: datetime
) -> Order:
    """Return the order that a sort asks for, without the stretches in which the filter finds nobody.

    `groups` are the ids of those that may be seen, in the order of the tree, `ungrouped` whether users in no group may be.
    Nobody holds more than `most_products`.
    """
    column, descending = sort.removeprefix("-"), sort.startswith("-")
    statuses = set(wanted.status or Status.values)
    if wanted.product and 0 not in wanted.product:
        statuses.discard(Status.SUSPENDED)
    elif set(wanted.product) == {0}:
        statuses &= {Status.SUSPENDED}
    match column:
        case "email":
            return _of_texts("email", wanted, descending)
        case "group":
            return _by_group(wanted, groups, descending, ungrouped)
        case "role":
            roles = [role for role in Role.values if not wanted.role or role in wanted.role]
            stretches = [
                Stretch(role, place, where="role = %s", params=(role,))
                if role != Role.MEMBER
                else Stretch(role, place, inside=partial(Q, role=role))
                for place, role in enumerate(roles)
            ]
            return Order(tuple(stretches), descending, place=_rank(F("role"), roles))
        case "products":
            least = 0 if Status.SUSPENDED in statuses else 1
            most = most_products if statuses - {Status.SUSPENDED} else 0
            stretches = [_holding(number) for number in range(least, most + 1)]
            return Order(tuple(stretches), descending, place=_cardinality("products"), table=ProductAccess)
        case "status":
            ranks = [status for status in Status.values if status in statuses]
            stretches = [_of_status(status, place, now) for place, status in enumerate(ranks)]
            return Order(tuple(stretches), descending, place=_rank(status_of(now), ranks))
        case "seen":
            never = Case(When(last_seen=None, then=0), default=1, output_field=IntegerField())
            return Order(_by_last_seen(statuses, now), descending, "time", never, "last_seen__at")
        case _:
            return _of_texts("name_key", wanted, descending)


def _of_texts(key: str, wanted: UserFilter, descending: bool) -> Order:
    """Return the order by names or addresses. They go with languages: all who speak one might be far behind the others."""
    where, params = ("language = %s", wanted.language) if len(wanted.language) == 1 else ("true", ())
    return Order((Stretch("", by=(key, "id"), where=where, params=params),), descending, "text", key=key)


def _holding(number: int) -> Stretch:
    """Return those who hold so many products. No index knows them, but those who hold none: they are looked for by id."""
    if number:
        return Stretch(str(number), number, inside=partial(Q, Exact(_cardinality("product_access__products"), number)))
    return Stretch("0", 0, **SUSPENDED)


def _of_status(status: str, place: int, now: datetime) -> Stretch:
    if status == Status.SUSPENDED:
        return Stretch(status, place, **SUSPENDED)
    return Stretch(status, place, inside=partial(having_status, {status}, now=now))


def _by_last_seen(statuses: set[str], now: datetime) -> tuple[Stretch, ...]:
    """Return who was never seen, then all others as long ago as they were seen; a status tells how long that can be."""
    where = []
    if not statuses & {Status.SUSPENDED, Status.INACTIVE}:
        where.append("at >= %s")
    if not statuses & {Status.SUSPENDED, Status.ACTIVE}:
        where.append("at < %s")
    never = Stretch("never", 0, inside=partial(Q, last_seen=None))
    seen = Stretch("seen", 1, "users_lastseen", ("at", "user_id"), " AND ".join(where) or "true", (long_ago(now),) * len(where))
    return (never,) * bool(statuses & {Status.SUSPENDED, Status.INVITED}) + (seen,) * (statuses != {Status.INVITED})


def _by_group(wanted: UserFilter, groups: Sequence[int], descending: bool, ungrouped: bool) -> Order:
    """Return the groups as the tree has them; a user stands in the first of those that the filter asks for.

    Users in no group come last either way.
    """
    if wanted.group:
        asked = set(with_subgroups(wanted.group))
        groups, ungrouped = [group for group in groups if group in asked], ungrouped and 0 in wanted.group
    members = Exists(GroupMembership.objects.filter(group=OuterRef("pk")))
    peopled = set(UserGroup.objects.filter(members).values_list("pk", flat=True))
    groups = [group for group in groups if group in peopled]
    stretches = [
        Stretch(
            str(group),
            place,
            "users_groupmembership",
            ("user_id",),
            "group_id = %s",
            (group,),
            partial(_in_none_before, groups, place),
        )
        for place, group in enumerate(groups)
    ]
    nowhere = Stretch("none", -1 if descending else len(groups), inside=lambda: ~Q(_in_one()))
    if ungrouped:
        stretches = [nowhere, *stretches] if descending else [*stretches, nowhere]
    first = GroupMembership.objects.filter(user=OuterRef("pk")).order_by().values("user")
    place = Subquery(first.annotate(place=Min(_tree_place(groups)) - 1).values("place"))
    return Order(tuple(stretches), descending, place=Coalesce(place, Value(nowhere.place)), table=None)


def _in_none_before(groups: Sequence[int], place: int) -> Q:
    return ~Q(_in_one(LessThan(_tree_place(groups), place + 1)))


def _tree_place(groups: Sequence[int]) -> Func:
    """Return the place of a membership's group among these, from 1; nothing if it is not one of them."""
    in_order = Cast(Value(list(groups)), ArrayField(IntegerField()))
    return Func(in_order, F("group_id"), function="array_position", output_field=IntegerField())


def _in_one(*conditions: Any) -> Exists:
    """Return the condition that a user has a membership of which this is so."""
    return Exists(GroupMembership.objects.filter(*conditions, user=OuterRef("pk")))


def _rank(value: Any, values: Sequence[str]) -> Func:
    in_order = Cast(Value(list(values)), ArrayField(TextField()))
    return Func(in_order, Cast(value, TextField()), template="array_position(%(expressions)s) - 1", output_field=IntegerField())


def _cardinality(path: str) -> Func:
    return Func(F(path), function="cardinality", output_field=IntegerField())
