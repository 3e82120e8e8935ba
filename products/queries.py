"""Questions about who holds what: the catalogue, how far a change is, and what happened to a user."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zlib import crc32

from django.db import connection
from django.db.models import Count, QuerySet, Sum

from products.models import AccessChange, BulkChange, BulkChangeBatch, Product, SelectionDraft
from users.models import Capability, User
from users.queries import can


def catalogue() -> list[Product]:
    """Return every product with its seats, in the order of the dialog."""
    return list(Product.objects.select_related("seat").order_by("position", "id"))


def out_of_reach(actor: Any) -> frozenset[int]:
    """Return the ids of the products that the actor may neither grant nor remove (rule B12)."""
    if can(actor, Capability.ASSIGN_RESTRICTED):
        return frozenset()
    return frozenset(Product.objects.filter(restricted=True).values_list("id", flat=True))


def catalogue_mark(products: Iterable[Product], locked: Iterable[int]) -> int:
    """Return as one number what decides, beside the ticks, what a choice does: which products are retired, welcome or locked."""
    products = list(products)
    retired = sorted(product.pk for product in products if product.retired_at)
    welcoming = sorted(product.pk for product in products if product.onboarding)
    return crc32(f"{retired} {welcoming} {sorted(locked)}".encode())


def selection_draft(owner: Any, *, now: datetime) -> SelectionDraft:
    """Return the owner's ticks, an unsaved empty draft if there are none or they have expired."""
    fresh = SelectionDraft.objects.filter(owner=owner, touched_at__gt=now - SelectionDraft.LIFETIME).first()
    return fresh or SelectionDraft(owner=owner, touched_at=now)


def unfinished() -> QuerySet[BulkChange]:
    """Return the changes that a worker still has to work on, first come first."""
    return BulkChange.objects.filter(state=BulkChange.State.RUNNING).order_by("id")


# Whether a worker has a batch `b`. A lease from further ahead than any was given dates from before the clock was set back.
LEASED = "b.lease_until BETWEEN clock_timestamp() AND clock_timestamp() + interval '1 minute'"


def stalled() -> list[int]:
    """Return the ids of running changes on which no worker is at work: no batch is under lease, and none was done just now.

    A change that shares the workers with many others is often between two batches; rung for then, it is queued ever more often.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT id FROM products_bulkchange c WHERE state = 'RUNNING' AND NOT EXISTS (
                SELECT FROM products_bulkchangebatch b
                WHERE b.change_id = c.id AND (
                    b.state = 'WAITING' AND {LEASED}
                    OR b.done_at BETWEEN clock_timestamp() - interval '3 seconds' AND clock_timestamp()
                )
            ) ORDER BY id
            """
        )
        return [row[0] for row in cursor]


def visible_changes(actor: Any) -> QuerySet[BulkChange]:
    """Return the bulk changes that the actor may see: all, or only their own."""
    if can(actor, Capability.VIEW_CHANGES):
        return BulkChange.objects.all()
    return BulkChange.objects.filter(actor=actor) if can(actor, Capability.ASSIGN_PRODUCTS) else BulkChange.objects.none()


def may_see(actor: Any, change: BulkChange | None) -> bool:
    """Return whether there is a change and the actor may see it: what `visible_changes` finds, asked of one at hand."""
    if change is None or can(actor, Capability.VIEW_CHANGES):
        return change is not None
    return change.actor_id == actor.pk and can(actor, Capability.ASSIGN_PRODUCTS)


def skipped_by_reason(change: BulkChange) -> dict[str, int]:
    """Return how many users a change left alone, by `BulkChangeSkip.Reason`."""
    return dict(change.skips.values_list("reason").annotate(users=Count("*")).order_by("reason"))


def may_steer(actor: Any, change: BulkChange) -> bool:
    """Return whether the actor may pause, resume, cancel and retry this change: their own, or any if they see them all."""
    return can(actor, Capability.ASSIGN_PRODUCTS) and may_see(actor, change)


def moves(change: BulkChange) -> dict[int, tuple[int, int, int]]:
    """Return (how many gained it, how many lost it, how many onboarding emails that owed) by product id, so far."""
    found = change.moves.order_by("product__position", "product_id").values_list("product_id", "gained", "lost", "onboarding")
    return {product: (gained, lost, onboarding) for product, gained, lost, onboarding in found}


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How quickly a running change goes on."""

    rate: float  # users a second, over its last batches
    seconds_left: int | None  # None while that cannot be told


def progress(change: BulkChange, *, now: datetime) -> Progress:
    """Return how quickly a change went over its last ten batches, and how long the rest takes at that rate."""
    last: list[Any] = list(change.batches.exclude(done_at=None).order_by("-done_at").values_list("done_at", "size")[:11])
    *done, (since, _size) = [*last[:10], *(last[10:] or [(change.requested_at, 0)])]
    rate = sum(size for _at, size in done) / max((now - since).total_seconds(), 0.001)
    return Progress(rate=rate, seconds_left=round(waiting_users(change) / rate) if rate else None)


def waiting_users(change: BulkChange) -> int:
    """Return how many users a change still has to reach. Not all that it has not reached, when it was cancelled before."""
    found: int | None = change.batches.filter(state=BulkChangeBatch.State.WAITING).aggregate(users=Sum("size"))["users"]
    return found or 0


# The earlier changes that come first for users of a batch `b`: those with a batch of overlapping users to do (rule B8).
EARLIER = """
SELECT c.id FROM products_bulkchange c JOIN products_bulkchangebatch e ON e.change_id = c.id
WHERE c.state = 'RUNNING' AND c.id < b.change_id AND e.state = 'WAITING'
AND e.first_user <= b.last_user AND e.last_user >= b.first_user
"""


def waits_for(change: BulkChange) -> int | None:
    """Return the number of an earlier change that a running one has to wait for; None when it goes on."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT ({EARLIER} ORDER BY c.id LIMIT 1) FROM products_bulkchangebatch b
            WHERE b.change_id = %s AND b.state = 'WAITING' ORDER BY 1 NULLS FIRST LIMIT 1
            """,
            [change.pk],
        )
        return (cursor.fetchone() or (None,))[0]


def timeline(user: User) -> QuerySet[AccessChange]:
    """Return a user's entitlement history, newest first, each row with its bulk change and actor."""
    return AccessChange.objects.filter(user=user).select_related("change", "actor").order_by("-id")


def product_names() -> dict[int, str]:
    """Return the name of every product by id."""
    return dict(Product.objects.order_by("position", "id").values_list("id", "name"))


def onboarding_fates(change: BulkChange) -> dict[int, dict[str, int]]:
    """Return by product id how many onboarding emails that a change owed are in each state (notifications.models.State)."""
    fates: dict[int, dict[str, int]] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT n.about, n.state, count(*) FROM products_accesschange h CROSS JOIN unnest(h.first) AS product
            JOIN notifications_notification n ON n.user_id = h.user_id AND n.kind = 'ONBOARDING' AND n.about = product
            WHERE h.change_id = %s GROUP BY n.about, n.state
            """,
            [change.pk],
        )
        for product, state, count in cursor:
            fates.setdefault(product, {})[state] = count
    return fates
