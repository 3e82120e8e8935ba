"""What a bulk change would do to the users selected for it, before it is applied (rule B3)."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Count, Q

from products.models import Mode, ProductAccess
from products.queries import catalogue
from products.selection import Selection
from products.targets import target
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
    """What a bulk change would do to the selected users (rule B3); dictionaries are by product id, without zeros."""

    selected: int = 0
    outranking: int = 0  # skipped: they have a higher role than the acting admin
    changed: int = 0
    unchanged: int = 0
    suspending: int = 0  # become Suspended
    restoring: int = 0  # come back from Suspended
    kept: int = 0  # would become Suspended, but keep a preserved product
    holding: Mapping[int, int] = field(default_factory=dict)  # how many hold it now
    gains: Mapping[int, int] = field(default_factory=dict)
    losses: Mapping[int, int] = field(default_factory=dict)
    change_emails: int = 0
    onboarding_emails: Mapping[int, int] = field(default_factory=dict)
    seats: tuple[SeatNeed, ...] = ()

    @property
    def changeable(self) -> int:
        """How many of the selected the actor may change."""
        return self.selected - self.outranking

    @property
    def short(self) -> list[SeatNeed]:
        """The products of which there are too few seats."""
        return [need for need in self.seats if need.missing]


def preview(
    selection: Selection,
    *,
    actor: Any,
    mode: str,
    wanted: Iterable[int],
    preserved: Iterable[int],
    notify: bool,
    now: datetime,
) -> Preview:
    """Return what the change would do now, in one aggregate pass over the selection, grouped by the sets that users hold."""
    wanted, preserved = frozenset(wanted), frozenset(preserved)
    products = {product.id: product for product in catalogue()}
    welcoming = [product_id for product_id in wanted if product_id in products and products[product_id].onboarding]
    users = selection.users(actor, now=now)
    changeable = users.filter(changeable_by(actor))
    groups: Iterable[Any] = (
        ProductAccess.objects.filter(user__in=changeable.values("id"))
        .values("products")
        .annotate(
            count=Count("*"),
            **{f"new_{product_id}": Count("user_id", filter=~Q(ever__contains=[product_id])) for product_id in welcoming},
        )
        .order_by()
    )
    count: Counter[str] = Counter()
    holding: Counter[int] = Counter()
    gains: Counter[int] = Counter()
    losses: Counter[int] = Counter()
    onboarding: Counter[int] = Counter()
    for group in groups:
        held, size = frozenset(group["products"]), group["count"]
        after = target(held, mode=mode, wanted=wanted, preserved=preserved)
        count["changeable"] += size
        holding.update(dict.fromkeys(held, size))
        if after == held:
            continue
        count["changed"] += size
        count["suspending"] += size if not after else 0
        count["restoring"] += size if not held else 0
        count["kept"] += size if after and not wanted and mode == Mode.REPLACE else 0
        gains.update(dict.fromkeys(after - held, size))
        losses.update(dict.fromkeys(held - after, size))
        for product_id in (after - held).intersection(welcoming):
            onboarding[product_id] += group[f"new_{product_id}"]
    selected = users.count() if changeable_by(actor) else count["changeable"]
    return Preview(
        selected=selected,
        outranking=selected - count["changeable"],
        changed=count["changed"],
        unchanged=count["changeable"] - count["changed"],
        suspending=count["suspending"],
        restoring=count["restoring"],
        kept=count["kept"],
        holding=holding,
        gains=gains,
        losses=losses,
        change_emails=count["changed"] if notify else 0,
        onboarding_emails=+onboarding,
        seats=tuple(
            SeatNeed(product_id=product.id, needed=gains[product.id], free=seat.seats - seat.used - seat.reserved)
            for product in products.values()
            if gains[product.id] and (seat := product.seat).seats is not None
        ),
    )
