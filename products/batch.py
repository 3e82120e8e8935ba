"""One batch of a bulk change: SQL over sets of users, in a constant number of statements, never a Python object per user.

Lock order everywhere: access rows in user order, then seat rows in product order. Locks are taken in one statement and other
tables read in the next, for a join in the locking statement would see what was before the wait.
"""

from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import F, QuerySet

from notifications import actions as notifications
from products import history
from products.models import BulkChange, BulkChangeBatch, Mode, Product, Source
from products.previews import SeatNeed
from products.queries import TARGET
from products.refusals import refuse_if_short
from users.models import Role, User
from users.queries import changeable_by, visible_to

LOCK = """
SELECT count(*), (SELECT cardinality(user_ids) FROM products_bulkchangebatch WHERE id = %(batch)s) FROM (
    SELECT user_id FROM products_productaccess
    WHERE user_id = ANY((SELECT user_ids FROM products_bulkchangebatch WHERE id = %(batch)s)::int[])
    ORDER BY user_id FOR NO KEY UPDATE
) locked
"""
# The ids of a batch without those skipped; batches of a change have no range of users in common.
REACHED = """
SELECT user_ids - coalesce((
    SELECT array_agg(user_id) FROM products_bulkchangeskip
    WHERE change_id = %(change)s AND user_id BETWEEN %(first)s AND %(last)s
), ARRAY[]::int[]) FROM products_bulkchangebatch WHERE id = %(batch)s
"""
COUNTS = """
SELECT count(*), count(*) FILTER (WHERE after = '{}'), count(*) FILTER (WHERE before = '{}'), (
    SELECT count(*) FROM products_bulkchangeskip WHERE change_id = %(change)s AND user_id BETWEEN %(first)s AND %(last)s
) FROM products_accesschange WHERE change_id = %(change)s AND user_id BETWEEN %(first)s AND %(last)s
"""


class LostClaim(Exception):
    """Another worker took the batch over, because its lease had run out."""


def apply_batch(change: BulkChange, batch: BulkChangeBatch, *, actor: User, all_or_nothing: bool) -> None:
    """Change the users of one batch, in the caller's transaction: sets, history (by trigger), emails owed and counts.

    Short of seats it raises SeatsShort if `all_or_nothing`, else skips users. Raises LostClaim if another worker has the batch.
    """
    facts: dict[str, Any] = {
        "change": change.pk,
        "batch": batch.pk,
        "first": batch.first_user,
        "last": batch.last_user,
        "wanted": change.products,
        "preserved": change.preserved,
    }
    target = TARGET[Mode(change.mode)]
    with connection.cursor() as cursor:
        cursor.execute(LOCK, facts)
        locked, targets = cursor.fetchone()
        mine = BulkChangeBatch.objects.filter(pk=batch.pk, attempts=batch.attempts, state=BulkChangeBatch.State.WAITING)
        if not mine.update(state=BulkChangeBatch.State.DONE, lease_until=None, error=""):
            raise LostClaim
        if locked < targets or actor.role == Role.MANAGER:
            _skip_out_of_reach(batch, actor)
        if change.mode != Mode.REMOVE:
            _take_seats(change, batch, facts, all_or_nothing=all_or_nothing)
        with history.acting(actor_id=actor.pk, change_id=change.pk, source=Source(change.source)):
            cursor.execute(
                f"UPDATE products_productaccess SET products = {target}, ever = ever | {target} "
                f"WHERE user_id = ANY(({REACHED})::int[]) AND products <> {target}",
                facts,
            )
            changed = cursor.rowcount
        cursor.execute(COUNTS, facts)
        recorded, suspended, restored, skipped = cursor.fetchone()
        assert recorded == changed, f"{changed} users changed, {recorded} in the history"
    _owe_emails(change, facts)
    BulkChange.objects.filter(pk=change.pk).update(
        changed=F("changed") + changed,
        unchanged=F("unchanged") + targets - skipped - changed,
        skipped=F("skipped") + skipped,
        suspended=F("suspended") + suspended,
        restored=F("restored") + restored,
    )


def _skip_out_of_reach(batch: BulkChangeBatch, actor: User) -> None:
    """Note the users of a batch who are gone, have left the actor's scope (rule S3) or outrank the actor."""
    visible, visible_params = as_sql(visible_to(actor).order_by().values("id"))
    changeable, changeable_params = as_sql(visible_to(actor).filter(changeable_by(actor)).order_by().values("id"))
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            INSERT INTO products_bulkchangeskip (change_id, user_id, reason)
            SELECT b.change_id, t.id, CASE
                WHEN access.user_id IS NULL THEN 'GONE' WHEN visible.id IS NULL THEN 'OUT_OF_SCOPE' ELSE 'OUTRANKS' END
            FROM products_bulkchangebatch b CROSS JOIN unnest(b.user_ids) AS t(id)
            LEFT JOIN products_productaccess access ON access.user_id = t.id
            LEFT JOIN ({visible}) visible ON visible.id = t.id
            LEFT JOIN ({changeable}) changeable ON changeable.id = t.id
            WHERE b.id = %s AND (access.user_id IS NULL OR changeable.id IS NULL)
            ON CONFLICT DO NOTHING
            """,
            [*visible_params, *changeable_params, batch.pk],
        )


def _take_seats(change: BulkChange, batch: BulkChangeBatch, facts: dict[str, Any], *, all_or_nothing: bool) -> None:
    """Give back the reserved seats that this batch is about to use, and see that there are enough.

    Short of seats the change is refused, or, once it runs, the last users in order are skipped: others took the seats meanwhile.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM products_seat WHERE product_id = ANY(%(wanted)s) AND seats IS NOT NULL LIMIT 1", facts)
        if cursor.fetchone() is None:
            return
        # All rows, for the trigger is going to touch others than the wanted ones, and the order must hold.
        cursor.execute("SELECT 1 FROM products_seat ORDER BY product_id FOR NO KEY UPDATE")
        cursor.execute(
            """
            SELECT s.product_id, s.seats - s.used - s.reserved, coalesce(r.reserved, 0) FROM products_seat s
            LEFT JOIN products_seatreservation r ON r.product_id = s.product_id AND r.change_id = %(change)s
            WHERE s.product_id = ANY(%(wanted)s) AND s.seats IS NOT NULL ORDER BY s.product_id
            """,
            facts,
        )
        needs = []
        for product_id, free, own in cursor.fetchall():
            seats = {**facts, "product": product_id, "free": max(free + own, 0)}
            cursor.execute(GAINING.format("count(*)"), seats)
            need = SeatNeed(product_id=product_id, needed=cursor.fetchone()[0], free=seats["free"])
            needs.append(need)
            if need.missing and not all_or_nothing:
                cursor.execute(SKIP_SEATLESS, seats)
            if own:
                cursor.execute(TAKE_RESERVED, {**seats, "taken": min(need.needed, need.free, own)})
        if all_or_nothing:
            refuse_if_short(needs)


GAINING = (
    "SELECT {} FROM products_productaccess WHERE NOT products @> ARRAY[%(product)s]::int[] "
    f"AND user_id = ANY(({REACHED})::int[])"
)
SKIP_SEATLESS = f"""
INSERT INTO products_bulkchangeskip (change_id, user_id, reason)
SELECT %(change)s, user_id, 'NO_SEAT' FROM ({GAINING.format("user_id, row_number() OVER (ORDER BY user_id) AS place")}) gaining
WHERE place > %(free)s
"""
TAKE_RESERVED = """
WITH taken AS (
    UPDATE products_seatreservation SET reserved = reserved - %(taken)s WHERE change_id = %(change)s AND product_id = %(product)s
) UPDATE products_seat SET reserved = reserved - %(taken)s WHERE product_id = %(product)s
"""


def _owe_emails(change: BulkChange, facts: dict[str, Any]) -> None:
    """Owe a change email to everyone changed, unless switched off, and an onboarding email for every first-ever activation."""
    source, params = [], []
    if change.notify:
        source.append("SELECT user_id, 'CHANGE', change_id FROM products_accesschange WHERE " + RECORDED)
        params += [facts["change"], facts["first"], facts["last"]]
    welcoming = list(Product.objects.filter(onboarding=True, id__in=change.products).order_by("id").values_list("id", flat=True))
    if welcoming and change.mode != Mode.REMOVE:
        source.append(
            "SELECT user_id, 'ONBOARDING', product FROM products_accesschange, unnest(first & %s::int[]) AS product WHERE "
            + RECORDED
        )
        params += [welcoming, facts["change"], facts["first"], facts["last"]]
    if source:
        notifications.queue(" UNION ALL ".join(source), params)


RECORDED = "change_id = %s AND user_id BETWEEN %s AND %s"


def as_sql(users: QuerySet[User, Any]) -> tuple[str, tuple[Any, ...]]:
    """Return a queryset of ids as SQL, to be part of a larger statement."""
    try:
        sql, params = users.query.sql_with_params()
    except EmptyResultSet:
        return "SELECT NULL::integer AS id WHERE false", ()
    return sql, tuple(params)
