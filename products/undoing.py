"""What undoing a bulk change would do now (rule B10)."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import connection

from products.models import AccessChange, BulkChange, BulkChangeSkip
from products.previews import Preview, seat_needs
from products.queries import catalogue, out_of_reach
from products.selection import as_sql
from products.targets import WHY_NOT_BACK
from users.models import Action, AdminAction
from users.queries import changeable_by, visible_to

OUTRANKS = BulkChangeSkip.Reason.OUTRANKS


@dataclass(frozen=True, kw_only=True)
class UndoPreview(Preview):
    """What an undo would do: a preview, whom it would leave alone, by BulkChangeSkip.Reason, and whose history was dropped."""

    skipped: Mapping[str, int] = field(default_factory=dict)
    dropped: int = 0


def history_dropped(change: BulkChange) -> int:
    """Return how many users a change changed whose history of it was dropped: what they held before nobody knows any more."""
    if not AdminAction.objects.filter(action=Action.HISTORY_DROPPED, at__gt=change.requested_at).exists():
        return 0  # not counted, for it may have a million rows
    return change.changed - AccessChange.objects.filter(change=change).count()


def undo_preview(change: BulkChange, *, actor: Any, notify: bool) -> UndoPreview:
    """Return what undoing the change would do, read in one pass over those of whom it changed that the actor sees.

    `selected` are all of these, `unchanged` those who hold again what they held before, `skipped` those whom it leaves alone.
    """
    count: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    gains: Counter[int] = Counter()
    losses: Counter[int] = Counter()
    for now_held, held_before, why, users in _groups(change, actor):
        held, after = frozenset(now_held), frozenset(held_before)
        count["selected"] += users
        if why:
            skipped[why] += users
        elif held != after:
            count["changed"] += users
            count["suspending"] += users if not after else 0
            count["restoring"] += users if not held else 0
            gains.update(dict.fromkeys(after - held, users))
            losses.update(dict.fromkeys(held - after, users))
    outranking = skipped.pop(OUTRANKS, 0)
    return UndoPreview(
        selected=count["selected"],
        outranking=outranking,
        changed=count["changed"],
        unchanged=count["selected"] - count["changed"] - outranking - skipped.total(),
        suspending=count["suspending"],
        restoring=count["restoring"],
        gains=+gains,
        losses=+losses,
        change_emails=count["changed"] if notify else 0,
        seats=seat_needs(catalogue(), gains),
        skipped=dict(skipped),
        dropped=history_dropped(change) if count["selected"] < change.changed else 0,
    )


def _groups(change: BulkChange, actor: Any) -> list[tuple[list[int], list[int], str | None, int]]:
    """Return (what they hold, what they held before the change, why they are left alone, how many users)."""
    visible = visible_to(actor).order_by().values("id")
    outranks, scope, of_changeable, of_visible = "", "", (), ()
    if changeable_by(actor):
        changeable, of_changeable = as_sql(visible.filter(changeable_by(actor)))
        outranks = f"WHEN a.user_id NOT IN ({changeable}) THEN '{OUTRANKS}'"
    if visible.query.where:  # who sees everyone needs no join
        seen, of_visible = as_sql(visible)
        scope = f"AND a.user_id IN ({seen})"
    why = WHY_NOT_BACK.replace("%(preserved)s", "%s")
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT a.products, h.before, CASE {outranks} WHEN a.products <> h.before THEN {why} END, count(*)
            FROM products_accesschange h JOIN products_productaccess a USING (user_id)
            WHERE h.change_id = %s {scope} GROUP BY 1, 2, 3
            """,
            [*of_changeable, list(out_of_reach(actor)), change.pk, *of_visible],
        )
        return list(cursor)
