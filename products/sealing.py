"""Sealing: rows of the entitlement history and of the record of admins get into chained blocks soon after their commit.

The database does it (`products_seal`, migration 0008): it alone can tell which rows are complete, and it alone may write blocks.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection

from products.models import BulkChange, Chain

MOST = 100_000  # rows at a time: about a second's work
PATIENCE = timedelta(seconds=60)  # with a bulk change that runs
COUNTED = 10_000  # unsealed rows are counted up to so many
TABLES = {Chain.HISTORY: "products_accesschange", Chain.ACTIONS: "users_adminaction"}


@dataclass(frozen=True)
class Window:
    """What is not sealed yet of a chain: how many rows (counted up to a limit), and since when the oldest waits."""

    rows: int
    rows_is_more: bool
    since: datetime | None


def seal(*, most: int = MOST) -> int:
    """Seal rows whose transactions, and all before them, have ended; return how many. Safe at any time: one does it at a time.

    A transaction that stays open holds up the sealing of everything written after it began.
    """
    with connection.cursor() as cursor:
        sealed = 0
        for chain in Chain:
            cursor.execute("SELECT products_seal(%s, %s)", [chain, most])
            sealed += int(cursor.fetchone()[0])
        return sealed


def is_due(*, now: datetime) -> bool:
    """Return whether to seal now: a bulk change that runs needs the machine more, until a row has waited for a minute.

    Nothing proves more before that: a checkpoint is signed once a minute, and who owns the database could seal anew until then.
    """
    if not BulkChange.objects.filter(state=BulkChange.State.RUNNING).exists():
        return True
    return any(window.since and window.since <= now - PATIENCE for window in unsealed().values())


def unsealed() -> dict[Chain, Window]:
    """Return what is not sealed yet, by chain: as long as it is not, tampering with it cannot be found."""
    windows = {}
    with connection.cursor() as cursor:
        for chain, table in TABLES.items():
            cursor.execute(
                f"SELECT count(*), min(at) FROM (SELECT at FROM {table} WHERE id > (SELECT coalesce(max(last_id), 0) "
                "FROM products_historyblock WHERE chain = %s) ORDER BY id LIMIT %s) waiting",
                [chain, COUNTED + 1],
            )
            rows, since = cursor.fetchone()
            windows[chain] = Window(min(rows, COUNTED), rows > COUNTED, since)
    return windows
