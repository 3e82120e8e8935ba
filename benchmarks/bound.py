"""The raw bound: what PostgreSQL itself needs to write the very rows that a bulk change wrote, without any of the logic.

They are written into plain copies of the three tables, which hold the same earlier rows, and lie ready in the order of users.
Done in transactions of as many users as a batch has, and in a single one; the faster of the two is the bound.
"""

from dataclasses import dataclass

import psycopg
from django.conf import settings

from benchmarks.bench import settle, timed
from benchmarks.changing import Run
from benchmarks.copies import make_copies
from tests.database import Database

COPIES = {
    "bound_access": "products_productaccess",
    "bound_history": "products_accesschange",
    "bound_notification": "notifications_notification",
}
READY = """
DROP TABLE IF EXISTS bound_rows, bound_letters;
CREATE UNLOGGED TABLE bound_rows AS SELECT * FROM products_accesschange WHERE change_id = %(change)s ORDER BY user_id;
CREATE UNLOGGED TABLE bound_letters AS
    SELECT user_id, kind, about, lane FROM notifications_notification ORDER BY user_id;
CREATE INDEX ON bound_rows (user_id);
CREATE INDEX ON bound_letters (user_id);
ANALYZE bound_rows, bound_letters;
"""
# What was there before the change: who changed held what the history says.
FILL = """
INSERT INTO bound_access (user_id, products, ever)
    SELECT user_id, coalesce(r.before, a.products), a.ever - coalesce(r.first, '{}')
    FROM products_productaccess a LEFT JOIN bound_rows r USING (user_id) ORDER BY user_id;
INSERT INTO bound_history SELECT * FROM products_accesschange WHERE change_id IS DISTINCT FROM %(change)s ORDER BY id;
"""
WRITE = """
UPDATE bound_access SET products = %(wanted)s::int[], ever = ever | %(wanted)s::int[]
    WHERE user_id BETWEEN %(first)s AND %(last)s AND products <> %(wanted)s::int[];
INSERT INTO bound_history SELECT * FROM bound_rows WHERE user_id BETWEEN %(first)s AND %(last)s ORDER BY user_id;
INSERT INTO bound_notification (user_id, kind, about, lane)
    SELECT user_id, kind, about, lane FROM bound_letters WHERE user_id BETWEEN %(first)s AND %(last)s ORDER BY user_id;
"""


@dataclass(frozen=True)
class Bound:
    """Seconds for the same rows, in batches and in one transaction."""

    in_batches: float
    at_once: float

    @property
    def seconds(self) -> float:
        return min(self.in_batches, self.at_once)


def bound_of(run: Run, database: Database) -> Bound:
    """Return what writing the rows of a change that is over takes, in the database where it was made."""
    users, facts = run.change.targets, {"change": run.change.pk}
    with psycopg.connect(database.superuser, autocommit=True, cursor_factory=psycopg.ClientCursor) as server:
        server.execute(READY, facts)
    in_batches, at_once = (_written(run, database, size) for size in (settings.BULK_BATCH_SIZE, users))
    return Bound(in_batches, at_once)


def _written(run: Run, database: Database, size: int) -> float:
    facts = {"change": run.change.pk, "wanted": run.change.products}
    with psycopg.connect(database.superuser, autocommit=True, cursor_factory=psycopg.ClientCursor) as server:
        make_copies(server, COPIES)
        server.execute(FILL, facts)
        ids = [row[0] for row in server.execute("SELECT user_id FROM bound_access ORDER BY user_id")]
        ranges = [(ids[n], ids[min(n + size, len(ids)) - 1]) for n in range(0, len(ids), size)]
        settle(database, "bound_access", "bound_history", "bound_notification")

        def write() -> None:
            for first, last in ranges:
                with server.transaction():
                    server.execute(WRITE, {**facts, "first": first, "last": last})

        took = timed(write)
        found = server.execute(WRITTEN, facts).fetchone()
        assert found == (run.change.changed, *found[1:2] * 2), f"The bound wrote other rows than the change: {found}"  # type: ignore[index]
    return took


WRITTEN = """
SELECT (SELECT count(*) FROM bound_history WHERE change_id = %(change)s), (SELECT count(*) FROM bound_notification),
    (SELECT count(*) FROM bound_letters)
"""
