"""What a bulk change would do to the users selected for it, before it is applied (rule B3), and who is behind each number.

The selected users are read once, grouped by the set that they hold. What any choice would do to them follows from that alone.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import reduce
from operator import xor
from typing import Any

from django.db import connection
from django.db.models import BigIntegerField, BitXor, BooleanField, Case, Count, F, Func, Q, QuerySet, Value, When
from django.db.models.expressions import RawSQL

from products.models import Mode, Product, ProductAccess
from products.queries import catalogue, out_of_reach
from products.selection import Selection, as_sql
from products.targets import TARGET, Among, granted, left_out, target
from users.models import User
from users.queries import changeable_by
from users.typed import LAST_ID


@dataclass(frozen=True, kw_only=True)
class SeatNeed:
    """Seats of a limited product that a change needs, and how many are free."""

    product_id: int
    needed: int
    free: int

    @property
    def missing(self) -> int:
        return max(self.needed - self.free, 0)


def seat_needs(products: Iterable[Product], gains: Counter[int]) -> tuple[SeatNeed, ...]:
    """Return what so many more holders, by product id, need of the products with limited seats."""
    return tuple(
        SeatNeed(product_id=product.pk, needed=gains[product.pk], free=free)
        for product in products
        if gains[product.pk] > 0 and (free := product.seat.free) is not None
    )


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a bulk change would do to the selected users; dictionaries are by product id, without zeros."""

    selected: int = 0
    mark: int = 0  # who they are, as one number: see `previewed`
    outranking: int = 0  # skipped: they have a higher role than the acting admin
    left_out: int = 0  # skipped: no seat is left for them
    changed: int = 0
    unchanged: int = 0
    suspending: int = 0  # become Suspended
    restoring: int = 0  # come back from Suspended
    kept: int = 0  # would become Suspended, but hold what the acting admin may not take
    holding: Mapping[int, int] = field(default_factory=dict)  # how many hold it now
    gains: Mapping[int, int] = field(default_factory=dict)
    losses: Mapping[int, int] = field(default_factory=dict)
    change_emails: int = 0
    onboarding_emails: Mapping[int, int] = field(default_factory=dict)
    seats: tuple[SeatNeed, ...] = ()  # needed if nobody is left out

    @property
    def changeable(self) -> int:
        """How many of the selected the actor may change."""
        return self.selected - self.outranking

    @property
    def short(self) -> list[SeatNeed]:
        """The products of which there are too few seats."""
        return [need for need in self.seats if need.missing]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Users who hold the same set now: how many, and how many of them ever had each product with an onboarding email."""

    held: frozenset[int]
    users: int
    had: Mapping[int, int]
    erased: bool = False  # they stay as they are


@dataclass(frozen=True, kw_only=True)
class Composition:
    """Who is selected: those whom the actor may change, by the set that they hold; and the catalogue they choose from."""

    groups: Sequence[Group]
    outranking: int
    mark: int
    products: Sequence[Product]
    locked: frozenset[int]  # out of the actor's reach

    def preview(self, *, mode: str, wanted: Iterable[int], preserved: Iterable[int], notify: bool) -> Preview:
        """Return what the choice would do to them, were there seats enough."""
        wanted, preserved = frozenset(wanted), frozenset(preserved)
        count: Counter[str] = Counter()
        holding: Counter[int] = Counter()
        gains: Counter[int] = Counter()
        losses: Counter[int] = Counter()
        onboarding: Counter[int] = Counter()
        for group in self.groups:
            held, size = group.held, group.users
            after = held if group.erased else target(held, mode=mode, wanted=wanted, preserved=preserved)
            holding.update(dict.fromkeys(held, size))
            gains.update(dict.fromkeys(after - held, size))
            losses.update(dict.fromkeys(held - after, size))
            onboarding.update({product: size - group.had[product] for product in (after - held) & group.had.keys()})
            count["changeable"] += size
            if mode == Mode.REPLACE and not wanted and after and after <= self.locked:
                count["kept"] += size
            if after != held:
                count["changed"] += size
                count["suspending"] += size if not after else 0
                count["restoring"] += size if not held else 0
        return Preview(
            selected=count["changeable"] + self.outranking,
            mark=self.mark,
            outranking=self.outranking,
            changed=count["changed"],
            unchanged=count["changeable"] - count["changed"],
            suspending=count["suspending"],
            restoring=count["restoring"],
            kept=count["kept"],
            holding=+holding,
            gains=+gains,
            losses=+losses,
            change_emails=count["changed"] if notify else 0,
            onboarding_emails=+onboarding,
            seats=seat_needs(self.products, gains),
        )

    def without(self, others: "Composition") -> "Composition":
        """Return those who are not among these others."""
        gone = {(group.held, group.erased): group for group in others.groups}
        rest = [
            replace(
                group,
                users=group.users - left.users,
                had={product: had - left.had[product] for product, had in group.had.items()},
            )
            if (left := gone.get((group.held, group.erased)))
            else group
            for group in self.groups
        ]
        return replace(self, groups=rest)


def compose(accesses: QuerySet[ProductAccess], *, actor: Any) -> Composition:
    """Return what these users, all of them visible to the actor, hold now: in one pass, however many they are."""
    products = catalogue()
    welcoming = [product.pk for product in products if product.onboarding]
    rows = (
        accesses.order_by()
        .values("products", "erased", outranks=Case(When(_outranking(actor), then=True), default=False))
        .annotate(
            users=Count("*"),
            mark=BitXor(Func(F("pk"), Value(0), function="hashint8extended", output_field=BigIntegerField())),
            **{f"had_{product}": Count("pk", filter=_of_the_row(f"{product} = ANY(a.ever)")) for product in welcoming},
        )
    )
    found: list[Any] = list(rows)
    return Composition(
        groups=[
            Group(
                held=frozenset(row["products"]),
                users=row["users"],
                had={product: row[f"had_{product}"] for product in welcoming},
                erased=row["erased"],
            )
            for row in found
            if not row["outranks"]
        ],
        outranking=sum(row["users"] for row in found if row["outranks"]),
        mark=reduce(xor, (row["mark"] for row in found), 0),
        products=products,
        locked=out_of_reach(actor),
    )


def _outranking(actor: Any) -> Q:
    """Return the condition that a user has a higher role than the actor, who may not change them."""
    changeable = changeable_by(actor)
    return Q(pk__in=User.objects.exclude(changeable).values("pk") if changeable else [])


def preview(
    selection: Selection,
    *,
    actor: Any,
    mode: str,
    wanted: Iterable[int],
    preserved: Iterable[int],
    notify: bool,
    now: datetime,
    until_full: bool = False,
    composition: Composition | None = None,
) -> Preview:
    """Return what the change would do now. `composition` is that of the selection, when it was read already."""
    choice: dict[str, Any] = {"mode": mode, "wanted": list(wanted), "preserved": list(preserved)}
    accesses = selection.accesses(actor, now=now)
    composition = composition or compose(accesses, actor=actor)
    whole = composition.preview(**choice, notify=notify)
    if not (until_full and whole.short):
        return whole
    out = _filled(_seatless(accesses, composition.products, actor=actor, **choice), **choice)
    seatless = compose(accesses.filter(_of_the_row(out)).exclude(_outranking(actor)), actor=actor)
    rest = composition.without(seatless).preview(**choice, notify=notify)
    count = whole.changeable - rest.changeable
    return replace(rest, selected=whole.selected, left_out=count, holding=whole.holding, seats=whole.seats)


class Number(StrEnum):
    """A number of a preview that has names behind it."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    SUSPENDING = "suspending"
    RESTORING = "restoring"
    KEPT = "kept"
    OUTRANKING = "outranking"
    LEFT_OUT = "left_out"
    GAINS = "gains"
    LOSSES = "losses"
    CHANGE_EMAILS = "change_emails"
    ONBOARDING = "onboarding_emails"


PER_PRODUCT = (Number.GAINS, Number.LOSSES, Number.ONBOARDING)


class Affected:
    """The users whom a number of a preview counts (of a product, for PER_PRODUCT): as many as it says."""

    def __init__(
        self,
        selection: Selection,
        *,
        actor: Any,
        mode: str,
        wanted: Iterable[int],
        preserved: Iterable[int],
        number: Number,
        product: int | None = None,
        now: datetime,
        until_full: bool = False,
    ) -> None:
        self.choice: dict[str, Any] = {"mode": mode, "wanted": frozenset(wanted), "preserved": frozenset(preserved)}
        self.number, self._outranking, self._selected = number, _outranking(actor), selection.users(actor, now=now)
        out = "false"
        if until_full:
            out = _seatless(selection.accesses(actor, now=now), catalogue(), actor=actor, **self.choice)
        condition = _condition(number, mode, product or 0, out_of_reach(actor))
        self._condition = out if number == Number.LEFT_OUT else f"{condition} AND NOT ({out})"

    def users(self, first: int = 0, last: int = LAST_ID) -> QuerySet[User]:
        """Return them, or those in a range of ids, which are found as quickly wherever it is."""
        users = self._selected.filter(id__gte=first, id__lte=last)
        if self.number == Number.OUTRANKING:
            return users.filter(self._outranking)
        counted = f"a.user_id BETWEEN {first} AND {last} AND ({_filled(self._condition, **self.choice)})"
        of_access = RawSQL(f"SELECT a.user_id FROM products_productaccess a WHERE {counted}", [])
        return users.filter(pk__in=of_access).exclude(self._outranking)

    def target(self, access: ProductAccess) -> frozenset[int]:
        """Return what one of them would hold afterwards."""
        stays = self._is_skipped or access.erased
        return frozenset(access.products) if stays else target(access.products, **self.choice)

    @property
    def target_sql(self) -> str:
        """What they would hold afterwards, as SQL over `a`, a row of products_productaccess."""
        return "a.products" if self._is_skipped else _filled(_afterwards(self.choice["mode"]), **self.choice)

    @property
    def _is_skipped(self) -> bool:
        return self.number in (Number.OUTRANKING, Number.LEFT_OUT)


def _seatless(accesses: QuerySet[ProductAccess], products: Iterable[Product], *, actor: Any, **choice: Any) -> str:
    """Return the condition on `a` of those of the users who are left out for want of a seat, as `targets` says it."""
    mine = accesses.exclude(_outranking(actor)) if changeable_by(actor) else accesses
    sql, params = as_sql(mine.order_by().values("pk"))
    sql = connection.ops.compose_sql(sql, params).replace("%", "%%")  # type: ignore[attr-defined]  # of PostgreSQL
    among = Among(f"a.user_id IN ({sql})" if mine.query.where else "true")
    facts = {"wanted": sorted(choice["wanted"]), "preserved": sorted(choice["preserved"])}
    free = {
        product.pk: seats for product in products if product.pk in choice["wanted"] and (seats := product.seat.free) is not None
    }
    return left_out(choice["mode"], facts, free, among)


def _afterwards(mode: str) -> str:
    return f"CASE WHEN a.erased THEN a.products ELSE {TARGET[mode]} END"


def _condition(number: Number, mode: str, product: int, locked: Iterable[int]) -> str:
    """Return the condition on `a`, a row of products_productaccess, of those whom a number counts and who are not skipped."""
    after, empty = _afterwards(mode), "'{}'::int[]"
    holds, gains = f"{product} = ANY(a.products)", granted(mode, str(product))
    return {
        Number.CHANGED: f"{after} <> a.products",
        Number.CHANGE_EMAILS: f"{after} <> a.products",
        Number.UNCHANGED: f"{after} = a.products",
        Number.SUSPENDING: f"{after} = {empty} AND a.products <> {empty}",
        Number.RESTORING: f"{after} <> {empty} AND a.products = {empty}",
        Number.KEPT: f"%(wanted)s = {empty} AND {after} <> {empty} AND {after} <@ {_array(locked)}"
        if mode == Mode.REPLACE
        else "false",
        Number.GAINS: gains,
        Number.LOSSES: f"{holds} AND {product} <> ALL({after})",
        Number.ONBOARDING: f"{gains} AND {product} <> ALL(a.ever) "
        f"AND (SELECT onboarding FROM products_product WHERE id = {product})",
    }.get(number, "true")


def _of_the_row(condition: str) -> RawSQL:
    """Return a condition on `a` as one on the rows of a query of product access."""
    return RawSQL(re.sub(r"\ba\.", "products_productaccess.", condition), [], output_field=BooleanField())


def _filled(sql: str, *, wanted: Iterable[int], preserved: Iterable[int], mode: str) -> str:
    """Return SQL of `targets` with its parameters written out, so that it may be a part of any other."""
    return sql % {"wanted": _array(wanted), "preserved": _array(preserved)}


def _array(ids: Iterable[int]) -> str:
    return "'{" + ",".join(str(int(each)) for each in sorted(ids)) + "}'::int[]"
