"""Retention: old months of the entitlement history are dropped whole, by the owner of the tables, and that is recorded.

The blocks that sealed them stay, so the chain still holds and still tells how many rows there were.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from django.db import connections, transaction

from users.models import Action, AdminAction

OWNER = "owner"
NAME = re.compile(r"products_accesschange_(\d{4})_(\d{2})")

# Of blocks that began by then it is noted anew who turned, of the rows that are left.
FORGET_TURNS = """
WITH begun AS (UPDATE products_historysummary SET turns_known = false WHERE first_at < %s RETURNING first_id)
DELETE FROM products_historyturn WHERE first_id IN (SELECT first_id FROM begun)
"""


class NotSealed(Exception):
    """A month has rows that are not sealed yet: nobody could tell any more what they were."""


def months_before(before: datetime) -> list[tuple[str, datetime, datetime]]:
    """Return the partitions of the months that ended by then, the oldest first: name, from and until."""
    with connections[OWNER].cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = %s::regclass",
                       ["products_accesschange"])  # fmt: skip
        names = [row[0] for row in cursor.fetchall()]
    found = []
    for name in names:
        if told := NAME.fullmatch(name):
            year, month = int(told[1]), int(told[2])
            ends = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
            if ends <= before:
                found.append((name, datetime(year, month, 1, tzinfo=UTC), ends))
    return sorted(found)


def drop_before(before: datetime) -> Iterator[dict[str, Any]]:
    """Drop the months of the history that ended by then, each in a transaction with the record of it; yield what was dropped.

    Needs the owner's connection. Raises NotSealed at the first month with rows that are not sealed.
    """
    for month in months_before(before):
        yield _drop(*month)


def _drop(name: str, starts: datetime, ends: datetime) -> dict[str, Any]:
    with transaction.atomic(using=OWNER), connections[OWNER].cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '5s'")
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('products_summarise'))")  # nobody notes what is dropped meanwhile
        cursor.execute(f"LOCK TABLE {name} IN SHARE MODE")
        cursor.execute(
            f"SELECT count(*), coalesce(range_agg(int8range(id, id + 1)), '{{}}')::text, coalesce(max(id), 0) "
            f"<= coalesce((SELECT max(last_id) FROM products_historyblock WHERE chain = 'HISTORY'), 0) FROM {name}"
        )
        rows, ids, sealed = cursor.fetchone()
        if not sealed:
            raise NotSealed(name)
        dropped = {"part": name, "from": starts.isoformat(), "until": ends.isoformat(), "rows": rows, "ids": ids}
        AdminAction.objects.using(OWNER).create(action=Action.HISTORY_DROPPED, after=dropped)
        cursor.execute(f"ALTER TABLE products_accesschange DETACH PARTITION {name}")
        cursor.execute(f"DROP TABLE {name}")
        cursor.execute(FORGET_TURNS, [ends])
    return dropped
