"""Questions about bulk changes: which there were, and what became of each user of one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import Exists, OuterRef, Q, QuerySet, TextChoices
from django.db.models.expressions import RawSQL
from django.utils.translation import gettext_lazy as _

from products.models import (
    AccessChange,
    BulkChange,
    BulkChangeBatch,
    BulkChangeMove,
    BulkChangeSkip,
    Mode,
    Product,
    ProductAccess,
    Source,
)
from products.targets import SLACK
from users.models import User
from users.queries import UserFilter, sees_everybody, users_matching, visible_to
from users.typed import LAST_ID, number


class Kind(TextChoices):
    """What kind of act a bulk change was: its mode, or an import."""

    REPLACE = "REPLACE", Mode.REPLACE.label
    ADD = "ADD", Mode.ADD.label
    REMOVE = "REMOVE", Mode.REMOVE.label
    UNDO = "UNDO", Mode.UNDO.label
    IMPORT = "IMPORT", _("Import")


@dataclass(frozen=True, kw_only=True)
class ChangeFilter:
    """What narrows the list of bulk changes down; all of it must hold."""

    search: str = ""  # the number of a change, or some of its reason
    actor: int | None = None
    kind: str = ""
    state: str = ""
    product: int | None = None  # gained or lost by somebody, or ticked
    since: datetime | None = None
    until: datetime | None = None  # not including it


def changes_matching(changes: QuerySet[BulkChange], wanted: ChangeFilter) -> QuerySet[BulkChange]:
    """Return those of the changes that the filter finds."""
    if wanted.search:
        change_id = number(wanted.search)
        named = Q(pk=change_id) if change_id is not None else Q()
        changes = changes.filter(named | Q(reason__icontains=wanted.search))
    if wanted.actor is not None:
        changes = changes.filter(actor=wanted.actor)
    if wanted.kind == Kind.IMPORT:
        changes = changes.filter(source=Source.IMPORT)
    elif wanted.kind:
        changes = changes.filter(mode=wanted.kind).exclude(source=Source.IMPORT)
    if wanted.state:
        changes = changes.filter(state=wanted.state)
    if wanted.product is not None:
        moved = BulkChangeMove.objects.filter(change=OuterRef("pk"), product=wanted.product).filter(
            Q(gained__gt=0) | Q(lost__gt=0)
        )
        changes = changes.filter(Q(products__contains=[wanted.product]) | Exists(moved))
    if wanted.since:
        changes = changes.filter(requested_at__gte=wanted.since)
    return changes.filter(requested_at__lt=wanted.until) if wanted.until else changes


# One step of the index on (actor, id) for each admin, however many changes each made.
ACTORS = """
WITH RECURSIVE acting AS (
    SELECT min(actor_id) AS id FROM products_bulkchange
    UNION ALL
    SELECT (SELECT min(actor_id) FROM products_bulkchange WHERE actor_id > acting.id) FROM acting WHERE acting.id IS NOT NULL
) SELECT id FROM acting WHERE id IS NOT NULL
"""


def acting_admins() -> list[User]:
    """Return everyone who ever made a bulk change, by name."""
    found: QuerySet[Any] = User.objects.filter(id__in=RawSQL(ACTORS, []))
    return list(found.order_by("name_key", "id"))


class Fate(TextChoices):
    """What became of a user whom a bulk change was for (the unchanged are not listed)."""

    CHANGED = "CHANGED", _("Changed")
    SKIPPED = "SKIPPED", _("Skipped")
    FAILED = "FAILED", _("Failed")
    NOT_REACHED = "NOT_REACHED", _("Not reached")


FEW = 1_000  # found by a search: up to so many are looked for one by one
WINDOW = 10_000  # users of the change in which a search that finds many looks at a time


@dataclass(frozen=True, kw_only=True)
class UserPage:
    """Some users of a change in the order of their ids, (id, what is known of it), and from where the pages beside it begin."""

    rows: Sequence[tuple[int, AccessChange | BulkChangeSkip | None]] = ()
    users: dict[int, User] = field(default_factory=dict)  # those whom the reader may see, by id
    previous: int | None = None  # the page of those before this id
    next: int | None = None  # the page of those after this id


def history_of(change: BulkChange, *, now: datetime) -> tuple[datetime, datetime]:
    """Return from when until when the history of a change can be, generously, so that only few partitions are looked into."""
    return change.requested_at - SLACK, max(now, change.requested_at) + SLACK


def failed_users(change: BulkChange) -> int:
    """Return how many users of a change could not be changed."""
    return change.batches.filter(state=BulkChangeBatch.State.FAILED).count()


def users_of(
    change: BulkChange,
    fate: str,
    *,
    reader: User,
    now: datetime,
    search: str = "",
    after: int = 0,
    before: int = 0,
    size: int = 50,
) -> UserPage:
    """Return a page of the users with this fate, those after an id or before one; a search finds those whom the reader may see.

    No page costs more at the end than at the beginning, and no search reads the whole change: where it finds many users, a page
    may hold few and still have a next one.
    """
    matching = users_matching(visible_to(reader), UserFilter(search=search), now=now).order_by() if search else None
    few = None if matching is None else _few(matching, search, reader)
    rows = _rows(change, fate, now)
    backwards, edge = bool(before), before or after
    if matching is None or few is not None:
        found = _ids(change, rows, edge, backwards=backwards, limit=size + 1, only=few)
        more = found[size - 1] if len(found) > size else None
    else:
        window = _ids(change, rows, edge, backwards=backwards, limit=WINDOW + 1)
        within = matching.filter(id__any=window[:WINDOW]).order_by("-id" if backwards else "id")
        found = list(within.values_list("id", flat=True)[: size + 1])
        more = found[size - 1] if len(found) > size else window[WINDOW - 1] if len(window) > WINDOW else None
    ids = sorted(found[:size])
    told = {row.user_id: row for row in rows.filter(user_id__in=ids)} if rows is not None else {}
    first, last = (ids[0], ids[-1]) if ids else (edge + 1, edge - 1)  # the edge itself is on the page that led here
    return UserPage(
        rows=[(user_id, told.get(user_id)) for user_id in ids],
        users=visible_to(reader).in_bulk(ids),
        previous=more if backwards else first if after else None,
        next=(last if before < LAST_ID else None) if backwards else more,
    )


def _few(matching: QuerySet[User], search: str, reader: User) -> list[int] | None:
    """Return the ids of those whom a search finds by name and email, and by their id; None if they are many."""
    found = list(matching.values_list("id", flat=True)[: FEW + 1])
    if len(found) > FEW:
        return None
    if (user_id := number(search, most=LAST_ID)) is not None and user_id not in found:
        found += visible_to(reader).filter(id=user_id).values_list("id", flat=True)
    return found


def _rows(change: BulkChange, fate: str, now: datetime) -> QuerySet[Any] | None:
    """Return what is recorded of the users with a fate; nothing is of those who were not reached."""
    match fate:
        case Fate.NOT_REACHED:
            return None
        case Fate.CHANGED:
            return AccessChange.objects.filter(change=change, at__range=history_of(change, now=now))
        case Fate.SKIPPED:
            return change.skips.exclude(reason=BulkChangeSkip.Reason.FAILED)
    return change.skips.filter(user_id__in=change.batches.filter(state=BulkChangeBatch.State.FAILED).values("first_user"))


def _ids(
    change: BulkChange, rows: QuerySet[Any] | None, edge: int, *, backwards: bool, limit: int, only: list[int] | None = None
) -> list[int]:
    """Return the ids of the users beyond an edge, the nearest first."""
    if rows is None:
        return _not_reached(change, edge, backwards=backwards, limit=limit, only=only)
    if only is not None:
        rows = rows.filter(user_id__in=only)
    rows = rows.filter(user_id__lt=edge).order_by("-user_id") if backwards else rows.filter(user_id__gt=edge).order_by("user_id")
    return list(rows.values_list("user_id", flat=True)[:limit])


def _not_reached(change: BulkChange, edge: int, *, backwards: bool, limit: int, only: list[int] | None) -> list[int]:
    """Return the ids of users whom a cancelled change did not reach, from as few of its batches as hold so many of them."""
    beyond, nearest, order = ("<", "last_user DESC", "DESC") if backwards else (">", "first_user", "ASC")
    near = "first_user < %s" if backwards else "last_user > %s"
    cancelled = f"SELECT * FROM products_bulkchangebatch WHERE change_id = %s AND state = 'CANCELLED' AND {near}"
    if only is None:
        sql = f"""
            SELECT user_id FROM (
                SELECT user_ids, coalesce(sum(size) OVER (ORDER BY {nearest} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)
                    - first_value(size) OVER (ORDER BY {nearest}) AS before FROM ({cancelled}) cancelled
            ) batches, unnest(user_ids) AS user_id WHERE before < %s AND user_id {beyond} %s ORDER BY user_id {order} LIMIT %s
        """
        params: list[Any] = [change.pk, edge, limit, edge, limit]
    else:
        sql = f"""
            SELECT user_id FROM unnest(%s::int[]) AS user_id WHERE user_id {beyond} %s AND EXISTS (
                SELECT FROM ({cancelled}) batch WHERE user_id BETWEEN first_user AND last_user AND user_id = ANY(user_ids)
            ) ORDER BY user_id {order} LIMIT %s
        """
        params = [only, edge, change.pk, edge, limit]
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return [row[0] for row in cursor]


def holders(product: Product, *, reader: User, limit: int) -> list[User]:
    """Return some of the users who hold a product and whom the reader may see, by name."""
    if not product.seat.used:
        return []
    holding = ProductAccess.objects.filter(products__contains=[product.pk])
    if not sees_everybody(reader):
        holding = holding.filter(user__in=visible_to(reader).values("id"))
    # Whoever comes first: in an order of their own, few holders would be looked for by an index, row by row.
    ids = list(holding.order_by().values_list("user_id", flat=True)[:limit])
    return sorted(visible_to(reader).in_bulk(ids).values(), key=lambda user: (user.name_key, user.pk))
