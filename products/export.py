"""The users of a bulk change as CSV, made by the database: what each held before and after, or why nothing was changed.

One COPY for each frozen batch: the memory is that of one batch, and while a slow reader takes it no statement is open.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

from django.db import connection
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from products.models import BulkChange, BulkChangeBatch, BulkChangeSkip
from products.selection import as_sql
from users.models import Role, User
from users.queries import visible_to

BOM = "\ufeff"  # by which spreadsheets know UTF-8
# What a spreadsheet would take for a formula gets an apostrophe before it.
SAFE = r"CASE WHEN ltrim({0}, E'=+-@\t\r\n') = {0} THEN {0} ELSE '''' || {0} END"
ROWS = f"""
COPY (
    WITH history AS MATERIALIZED (
        SELECT user_id, before, after, at FROM products_accesschange
        WHERE change_id = %(change)s AND user_id BETWEEN %(first)s AND %(last)s
    ), words AS MATERIALIZED (
        SELECT held, string_agg({SAFE.format("name")}, '; ' ORDER BY position, id) AS names
        FROM (SELECT before FROM history UNION SELECT after FROM history) sets (held)
        LEFT JOIN products_product ON products_product.id = ANY(held) GROUP BY held
    ), skips AS MATERIALIZED (
        SELECT user_id, reason, detail FROM products_bulkchangeskip
        WHERE change_id = %(change)s AND user_id BETWEEN %(first)s AND %(last)s
    ), people AS MATERIALIZED (
        SELECT id, trim(first_name || ' ' || last_name) AS name, email FROM users_user
        WHERE id = ANY(%(visible)s::int[])
    )
    SELECT CASE WHEN %(sees_all)s OR people.id IS NOT NULL THEN target.id END,
        nullif({SAFE.format("people.name")}, ''), {SAFE.format("people.email")}, before.names, after.names,
        to_char(history.at AT TIME ZONE %(zone)s, 'YYYY-MM-DD HH24:MI:SS'),
        CASE WHEN history.user_id IS NOT NULL THEN %(changed)s WHEN skips.reason = 'FAILED' THEN %(failed)s
            WHEN skips.user_id IS NOT NULL THEN %(skipped)s ELSE %(other)s END,
        nullif(concat_ws(': ', %(reasons)s::jsonb ->> skips.reason, nullif({SAFE.format("skips.detail")}, '')), '')
    FROM unnest(%(ids)s::int[]) AS target (id)
    LEFT JOIN people ON people.id = target.id
    LEFT JOIN history ON history.user_id = target.id
    LEFT JOIN words before ON before.held = history.before
    LEFT JOIN words after ON after.held = history.after
    LEFT JOIN skips ON skips.user_id = target.id
    ORDER BY target.id
) TO STDOUT (FORMAT csv)
"""


def users_as_csv(change: BulkChange, *, reader: User, zone: str) -> Iterator[bytes]:
    """Return the users of a change as CSV in pieces, first the header. Names are told of those whom the reader may see."""
    header = io.StringIO()
    titles = [
        _("User"),
        _("Name"),
        _("Email"),
        _("Before"),
        _("After"),
        _("At (%(zone)s)") % {"zone": zone},
        _("Outcome"),
        _("Why"),
    ]
    csv.writer(header, lineterminator="\n").writerow(titles)
    facts = {
        "change": change.pk,
        "zone": zone,
        "sees_all": reader.role != Role.MANAGER,
        "changed": _("Changed"),
        "skipped": _("Skipped"),
        "failed": _("Could not be changed"),
        "reasons": json.dumps({reason.value: str(reason.label) for reason in BulkChangeSkip.Reason}),
    }
    states = BulkChangeBatch.State
    others = {states.DONE: _("Unchanged"), states.CANCELLED: _("Not reached"), states.WAITING: _("Not reached yet")}
    return _pieces((BOM + header.getvalue()).encode(), change, reader, facts, others)


def _pieces(
    header: bytes, change: BulkChange, reader: User, facts: dict[str, Any], others: dict[BulkChangeBatch.State, str]
) -> Iterator[bytes]:
    yield header
    batches = change.batches.exclude(state=BulkChangeBatch.State.SPLIT).order_by("first_user", "n")
    for number, first, last in list(batches.values_list("pk", "first_user", "last_user")):
        state, ids = BulkChangeBatch.objects.values_list("state", "user_ids").get(pk=number)
        visible = ids if facts["sees_all"] else list(visible_to(reader).filter(id__any=ids).values_list("id", flat=True))
        other = others.get(state, "")
        yield _copied({**facts, "first": first, "last": last, "ids": ids, "visible": visible, "other": other})


def _copied(facts: dict[str, Any]) -> bytes:
    with connection.cursor() as cursor, cursor.copy(ROWS, facts) as rows:
        return b"".join(rows)


RANGE = 20_000  # ids
FORESEEN = f"""
COPY (
    WITH held AS MATERIALIZED (
        SELECT a.user_id, a.products AS before, {{target}} AS after FROM products_productaccess a WHERE a.user_id IN ({{users}})
    ), words AS MATERIALIZED (
        SELECT held, string_agg({SAFE.format("name")}, '; ' ORDER BY position, id) AS names
        FROM (SELECT before FROM held UNION SELECT after FROM held) sets (held)
        LEFT JOIN products_product ON products_product.id = ANY(held) GROUP BY held
    ), people AS (SELECT id, trim(first_name || ' ' || last_name) AS name, email FROM users_user)
    SELECT people.id, nullif({SAFE.format("people.name")}, ''), {SAFE.format("people.email")}, now.names, afterwards.names
    FROM held JOIN people ON people.id = held.user_id
    JOIN words now ON now.held = held.before JOIN words afterwards ON afterwards.held = held.after
    ORDER BY people.id
) TO STDOUT (FORMAT csv)
"""


def foreseen_as_csv(users: Callable[[int, int], QuerySet[User]], *, target: str) -> Iterator[bytes]:
    """Return users as CSV in pieces, first the header: what each holds now, and what the `target` (SQL over `a`) leaves them.

    `users` gives those of a range of ids: no statement is open while a slow reader takes a piece.
    """
    header = io.StringIO()
    csv.writer(header, lineterminator="\n").writerow([_("User"), _("Name"), _("Email"), _("Now"), _("Afterwards")])
    yield (BOM + header.getvalue()).encode()
    last = User.objects.order_by("-id").values_list("id", flat=True).first() or 0
    for first in range(0, last + 1, RANGE):
        sql, params = as_sql(users(first, first + RANGE - 1).order_by().values("id"))
        with connection.cursor() as cursor, cursor.copy(FORESEEN.format(target=target, users=sql), params) as rows:
            yield b"".join(rows)
