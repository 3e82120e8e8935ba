"""The users of a bulk change as CSV, made by the database: what each held before and after, or why nothing was changed.

One COPY for some frozen batches at a time: the memory is that of these, and while a slow reader takes it no statement is open.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from django.db import connection
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from products.models import BulkChange, BulkChangeBatch, BulkChangeSkip
from products.queries import product_names
from products.reports import history_of
from products.selection import as_sql
from users.models import User
from users.queries import sees_everybody, visible_to

BOM = "\ufeff"  # by which spreadsheets know UTF-8
FORMULA = "=+-@\t\r\n"  # what a spreadsheet takes for one begins so: it gets an apostrophe before it
SAFE = f"CASE WHEN ascii({{0}}) IN ({', '.join(str(ord(each)) for each in FORMULA)}) THEN '''' || {{0}} ELSE {{0}} END"
PIECE = 20_000  # users
ROWS = f"""
COPY (
    SELECT CASE WHEN %(sees_all)s OR person.id IS NOT NULL THEN target.id END,
        nullif({SAFE.format("person.name")}, ''), {SAFE.format("person.email")}, {{before}}, {{after}},
        date_trunc('second', history.at AT TIME ZONE %(zone)s),
        CASE WHEN history.user_id IS NOT NULL THEN %(changed)s WHEN skip.reason = 'FAILED' THEN %(failed)s
            WHEN skip.user_id IS NOT NULL THEN %(skipped)s ELSE %(other)s END,
        CASE WHEN skip.user_id IS NOT NULL
            THEN concat_ws(': ', %(reasons)s::jsonb ->> skip.reason, nullif({SAFE.format("skip.detail")}, '')) END
    FROM unnest(%(ids)s::int[]) AS target (id)
    LEFT JOIN (
        SELECT id, trim(first_name || ' ' || last_name) AS name, email FROM users_user WHERE id = ANY(%(visible)s::int[])
    ) person ON person.id = target.id
    LEFT JOIN (
        SELECT user_id, before, after, at FROM products_accesschange
        WHERE change_id = %(change)s AND user_id BETWEEN %(first)s AND %(last)s AND at BETWEEN %(since)s AND %(until)s
    ) history ON history.user_id = target.id
    LEFT JOIN (
        SELECT user_id, reason, detail FROM products_bulkchangeskip
        WHERE change_id = %(change)s AND user_id BETWEEN %(first)s AND %(last)s
    ) skip ON skip.user_id = target.id
    ORDER BY target.id
) TO STDOUT (FORMAT csv)
"""


def header(titles: Sequence[str]) -> bytes:
    """Return the first line of a CSV file with these titles, by which spreadsheets know UTF-8."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(titles)
    return (BOM + line.getvalue()).encode()


def safe(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula; `SAFE` is the same in SQL."""
    return f"'{text}" if text.startswith(tuple(FORMULA)) else text


def as_array(ids: Iterable[int]) -> str:
    """Return ids as one parameter: a list would be made into a statement id by id."""
    return f"{{{','.join(map(str, ids))}}}"


def users_as_csv(change: BulkChange, *, reader: User, zone: str, now: datetime) -> Iterator[bytes]:
    """Return the users of a change as CSV in pieces, first the header. Names are told of those whom the reader may see."""
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
    since, until = history_of(change, now=now)
    facts = {
        "change": change.pk,
        "since": since,
        "until": until,
        "zone": zone,
        "sees_all": sees_everybody(reader),
        "changed": pgettext("one user", "Changed"),
        "skipped": pgettext("one user", "Skipped"),
        "failed": _("Could not be changed"),
        "reasons": json.dumps({reason.value: str(reason.label) for reason in BulkChangeSkip.Reason}),
    }
    states = BulkChangeBatch.State
    others = {
        states.DONE: pgettext("one user", "Unchanged"),
        states.CANCELLED: pgettext("one user", "Not reached"),
        states.WAITING: _("Not reached yet"),
    }
    return _pieces(header(titles), change, reader, facts, others)


def _pieces(
    begin: bytes, change: BulkChange, reader: User, facts: dict[str, Any], others: dict[BulkChangeBatch.State, str]
) -> Iterator[bytes]:
    yield begin
    names = product_names()
    sql = ROWS.format(before=_named("history.before", names), after=_named("history.after", names))
    facts |= {f"name_{product}": safe(name) for product, name in names.items()}
    for state, ids in _batches(change):
        visible = ids if facts["sees_all"] else list(visible_to(reader).filter(id__any=ids).values_list("id", flat=True))
        places = {
            "first": ids[0],
            "last": ids[-1],
            "ids": as_array(ids),
            "visible": as_array(visible),
            "other": others.get(state, ""),
        }
        with connection.cursor() as cursor, cursor.copy(sql, {**facts, **places}) as rows:
            piece = b"".join(rows)
        yield piece


def _batches(change: BulkChange) -> Iterator[tuple[BulkChangeBatch.State, list[int]]]:
    """Return (state, sorted ids) of the users of a change, some batches of one state at a time, for each costs a plan."""
    batches = change.batches.exclude(state=BulkChangeBatch.State.SPLIT).order_by("first_user", "n")
    numbers: list[int] = []
    users = 0
    for number, size in [*batches.values_list("pk", "size"), (0, PIECE)]:
        numbers, users = [*numbers, number], users + size
        if users >= PIECE:
            found = batches.filter(pk__in=numbers).values_list("state", "user_ids")
            for state, same in groupby(found, key=itemgetter(0)):
                yield state, [user_id for _state, ids in same for user_id in ids]
            numbers, users = [], 0


def _named(products: str, names: Mapping[int, str]) -> str:
    """Return the names of the products of a set, as SQL: looking for each is faster than putting the names together by a join."""
    found = ", ".join(f"CASE WHEN {product} = ANY({products}) THEN %(name_{product})s END" for product in names)
    return f"nullif(concat_ws('; ', {found}), '')"


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
    yield header([_("User"), _("Name"), _("Email"), _("Now"), _("Afterwards")])
    last = User.objects.order_by("-id").values_list("id", flat=True).first() or 0
    for first in range(0, last + 1, RANGE):
        sql, params = as_sql(users(first, first + RANGE - 1).order_by().values("id"))
        with connection.cursor() as cursor, cursor.copy(FORESEEN.format(target=target, users=sql), params) as rows:
            yield b"".join(rows)
