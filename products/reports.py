"""Questions about bulk changes: which there were, what became of each user of one, and all of them as CSV."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet, TextChoices
from django.db.models.expressions import RawSQL
from django.utils.translation import gettext_lazy as _

from products.models import BulkChange, BulkChangeMove, Mode, Source
from users.models import User


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
        number = wanted.search.removeprefix("#")
        named = Q(pk=int(number)) if number.isascii() and number.isdigit() and len(number) < 19 else Q()
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
