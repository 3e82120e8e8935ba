"""Whom a preview was shown for, so that a change is never made for others unnoticed (rule S4).

As one number, their mark, they go with the form: the same mark, the same people. Who they are is kept beside the draft, to name
who came since and who left.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from products.models import BulkChange, PreviewedUsers
from products.refusals import SelectionChanged, Some
from products.selection import Selection, as_sql

NAMED = 10  # of those who came, and of those who left
MARK = "coalesce(bit_xor(hashint8extended(each, 0)), 0)"  # as previews.compose says it


def remember(selection: Selection, *, mark: int, actor: Any, now: datetime) -> None:
    """Keep with its draft whom a selection finds, those with this mark, unless they are known from the preview before."""
    if not selection.draft or PreviewedUsers.objects.filter(draft=UUID(selection.draft), mark=mark).exists():
        return
    selected, params = as_sql(selection.accesses(actor, now=now).order_by().values("pk"))
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            INSERT INTO products_previewedusers (draft_id, mark, user_ids)
            SELECT %s, {MARK}, coalesce(array_agg(each ORDER BY each), '{{}}') FROM ({selected}) selected (each)
            ON CONFLICT (draft_id) DO UPDATE SET mark = excluded.mark, user_ids = excluded.user_ids
            """,
            [selection.draft, *params],
        )


def refuse_if_others(change: BulkChange, selection: Selection, *, expected: int | None, mark: int | None) -> None:
    """Raise SelectionChanged when a frozen change is for others than the preview showed: `expected` so many, with this `mark`."""
    previewed = change.targets if expected is None else expected
    same_number = previewed == change.targets
    if same_number and (mark is None or mark == _mark_of(change)):
        return
    came, left = _came_and_left(change, selection, mark)
    if same_number:
        sentence = _("Other users are selected now than the preview showed. Look at the preview again, then apply.")
    else:
        sentence = ngettext(
            "The selection changed since the preview: it was for %(previewed)s, now %(found)s user is selected. "
            "Look at the preview again, then apply.",
            "The selection changed since the preview: it was for %(previewed)s, now %(found)s users are selected. "
            "Look at the preview again, then apply.",
            change.targets,
        )
    raise SelectionChanged(
        sentence % {"previewed": _written(previewed), "found": _written(change.targets)},
        previewed=previewed,
        found=change.targets,
        came=came,
        left=left,
    )


def _written(number: int) -> str:
    return str(number_format(number, force_grouping=True))


def _mark_of(change: BulkChange) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {MARK} FROM products_bulkchangebatch, unnest(user_ids) AS each WHERE change_id = %s", [change.pk])
        return int(cursor.fetchone()[0])


def _came_and_left(change: BulkChange, selection: Selection, mark: int | None) -> tuple[Some, Some]:
    """Return who is in a frozen change and was not in the preview, and the other way round; nobody when that is not known."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT came[1:%(named)s], cardinality(came), left_it[1:%(named)s], cardinality(left_it) FROM (
                SELECT frozen.ids - shown.user_ids AS came, shown.user_ids - frozen.ids AS left_it
                FROM products_previewedusers shown, (
                    SELECT coalesce(array_agg(each ORDER BY each), '{}') AS ids
                    FROM products_bulkchangebatch, unnest(user_ids) AS each WHERE change_id = %(change)s
                ) frozen WHERE shown.draft_id = %(draft)s AND shown.mark = %(mark)s
            ) differing
            """,
            {"change": change.pk, "draft": selection.draft or None, "mark": mark, "named": NAMED},
        )
        came, came_count, left, left_count = cursor.fetchone() or ((), 0, (), 0)
    return Some(count=came_count, ids=came), Some(count=left_count, ids=left)
