"""What a bulk change would do to the users selected for it, before it is applied (rule B3), and who is behind each number.

The selected users are read once, grouped by the set that they hold. What any choice would do to them follows from that alone.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import reduce
from operator import xor
from typing import Any

from django.db import connection
from django.db.models import BigIntegerField, BitXor, Count, F, Func, Q, QuerySet, Value
from django.db.models.expressions import RawSQL

from products.models import Mode, Product, ProductAccess
from products.queries import catalogue, out_of_reach
from products.selection import Selection, as_sql
from products.targets import EVERYBODY, TARGET, Among, granted, left_out, target
from users.models import User
from users.queries import changeable_by


@dataclass(frozen=True, kw_only=True)
class SeatNeed:
    """Seats of a limited product that a change needs, and how many are free."""

    product_id: int
    needed: int
    free: int

    @property
    def missing(self) -> int:
        return max(self.needed - self.free, 0)


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
            after = target(held, mode=mode, wanted=wanted, preserved=preserved)
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
            seats=tuple(
                SeatNeed(product_id=product.pk, needed=gains[product.pk], free=seat.seats - seat.used - seat.reserved)
                for product in self.products
                if gains[product.pk] and (seat := product.seat).seats is not None
            ),
        )

    def without(self, others: "Composition") -> "Composition":
        """Return those who are not among these others."""
        gone = {group.held: group for group in others.groups}
        rest = [
            replace(
                group,
                users=group.users - left.users,
                had={product: had - left.had[product] for product, had in group.had.items()},
            )
            if (left := gone.get(group.held))
            else group
            for group in self.groups
        ]
        return replace(self, groups=rest)


def compose(users: QuerySet[User], *, actor: Any) -> Composition:
    """Return what these users, all of them visible to the actor, hold now: in one pass, however many they are."""
    products, changeable = catalogue(), changeable_by(actor)
    welcoming = [product.pk for product in products if product.onboarding]
    # Without any condition it is everyone, and the narrow table alone knows everyone.
    rows, at = (users, "product_access__") if users.query.where else (ProductAccess.objects.all(), "")
    found = rows.order_by().values(held=F(f"{at}products"))  # type: ignore[attr-defined]  # both have it
    found = found.annotate(
        all=Count("*"),
        mine=Count("pk", filter=changeable) if changeable else Count("*"),
        mark=BitXor(Func(F("pk"), Value(0), function="hashint8extended", output_field=BigIntegerField())),
        **{f"had_{product}": Count("pk", filter=changeable & Q((f"{at}ever__contains", [product]))) for product in welcoming},
    )
    found = list(found)
    return Composition(
        groups=[
            Group(held=frozenset(row["held"]), users=row["mine"], had={product: row[f"had_{product}"] for product in welcoming})
            for row in found
        ],
        outranking=sum(row["all"] - row["mine"] for row in found),
        mark=reduce(xor, (row["mark"] for row in found), 0),
        products=products,
        locked=out_of_reach(actor),
    )


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
    users = selection.users(actor, now=now)
    composition = composition or compose(users, actor=actor)
    whole = composition.preview(**choice, notify=notify)
    if not (until_full and whole.short):
        return whole
    seatless = compose(_seatless(users, actor, whole, **choice), actor=actor)
    rest = composition.without(seatless).preview(**choice, notify=notify)
    count = whole.changeable - rest.changeable
    return replace(rest, selected=whole.selected, left_out=count, holding=whole.holding, seats=whole.seats)


class Number(StrEnum):
    """A number of a preview that has names behind it; those after LEFT_OUT are per product."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    SUSPENDING = "suspending"
    RESTORING = "restoring"
    KEPT = "kept"
    OUTRANKING = "outranking"
    LEFT_OUT = "left_out"
    GAINS = "gains"
    LOSSES = "losses"
    ONBOARDING = "onboarding_emails"


PER_PRODUCT = (Number.GAINS, Number.LOSSES, Number.ONBOARDING)


def affected(
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
) -> QuerySet[User]:
    """Return the users whom a number of the preview counts (of a product, for PER_PRODUCT): as many as it says."""
    users, changeable = selection.users(actor, now=now), changeable_by(actor)
    if number == Number.OUTRANKING:
        return users.exclude(changeable) if changeable else users.none()
    choice: dict[str, Any] = {"mode": mode, "wanted": list(wanted), "preserved": list(preserved)}
    seatless = users.none()
    if until_full:
        whole = compose(users, actor=actor).preview(**choice, notify=False)
        seatless = _seatless(users, actor, whole, **choice)
    if number == Number.LEFT_OUT:
        return seatless
    condition = _condition(number, mode, product or 0, out_of_reach(actor))
    counted = users.filter(changeable, _where(condition, wanted=choice["wanted"], preserved=choice["preserved"]))
    return counted.exclude(id__in=seatless.values("id")) if until_full else counted


def _seatless(
    users: QuerySet[User], actor: Any, whole: Preview, *, mode: str, wanted: Sequence[int], preserved: Sequence[int]
) -> QuerySet[User]:
    """Return those of the users who are left out for want of a seat."""
    users = users.filter(changeable_by(actor))
    sql, params = as_sql(users.order_by().values("id"))
    among = connection.ops.compose_sql(sql, params).replace("%", "%%")  # type: ignore[attr-defined]  # of PostgreSQL's
    facts = {"wanted": wanted, "preserved": preserved, "undoes": None, **EVERYBODY}
    free = {need.product_id: need.free for need in whole.seats}
    return users.filter(_where(left_out(mode, facts, free, Among(f"a.user_id IN ({among})")), wanted=wanted, preserved=preserved))


def _condition(number: Number, mode: str, product: int, locked: Iterable[int]) -> str:
    """Return the condition on `a`, a row of products_productaccess, of those whom a number counts."""
    after, empty = TARGET[mode], "'{}'::int[]"
    return {
        Number.CHANGED: f"{after} <> a.products",
        Number.UNCHANGED: f"{after} = a.products",
        Number.SUSPENDING: f"{after} = {empty} AND a.products <> {empty}",
        Number.RESTORING: f"{after} <> {empty} AND a.products = {empty}",
        Number.KEPT: f"%(wanted)s::int[] = {empty} AND {after} <> {empty} AND {after} <@ {_array(locked)}"
        if mode == Mode.REPLACE
        else "false",
        Number.GAINS: granted(mode, str(product)),
        Number.LOSSES: f"a.products @> ARRAY[{product}] AND NOT {after} @> ARRAY[{product}]",
        Number.ONBOARDING: f"{granted(mode, str(product))} AND NOT a.ever @> ARRAY[{product}] "
        f"AND (SELECT onboarding FROM products_product WHERE id = {product})",
    }[number]


def _where(condition: str, **sets: Iterable[int]) -> Q:
    """Return a condition on `a` as one on users; its parameters are sets of product ids."""
    condition %= {name: _array(ids) for name, ids in sets.items()}
    return Q(id__in=RawSQL(f"SELECT a.user_id FROM products_productaccess a WHERE {condition}", []))


def _array(ids: Iterable[int]) -> str:
    return "'{" + ",".join(str(int(each)) for each in sorted(ids)) + "}'::int[]"
