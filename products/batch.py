"""One batch of a bulk change: SQL over sets of users, in a constant number of statements, never a Python object per user.

Lock order everywhere: access rows in user order, then seat rows in product order. Locks are taken in one statement and other
tables read in the next, for a join in the locking statement would see what was before the wait.
"""

from typing import Any

from django.db import connection
from django.db.models import F

from notifications import actions as notifications
from products import history
from products.models import BulkChange, BulkChangeBatch, Mode, Product, Source
from products.previews import SeatNeed
from products.refusals import refuse_if_short
from products.selection import as_sql
from products.targets import (
    BESIDE,
    ONLY_WHERE,
    TARGET,
    UNDONE,
    WHY_NOT_BACK,
    Among,
    among_ids,
    facts_of,
    left_out,
    rows,
    seats_needed,
)
from users.models import Role, User
from users.queries import changeable_by, visible_to

# Nobody's, when everybody holds already what they shall: then there is nothing to write, not even a lock.
LOCK = """
SELECT count(*) FROM (
    SELECT a.user_id {rows} AND EXISTS (SELECT {rows} AND a.products <> {target}) ORDER BY a.user_id FOR NO KEY UPDATE OF a
) locked
"""
CLAIMED = """
UPDATE products_bulkchangebatch SET state = 'DONE', lease_until = NULL, error = '', done_at = clock_timestamp()
WHERE id = %(batch)s AND attempts = %(attempt)s AND state = 'WAITING'
RETURNING size, (SELECT count(*) FROM products_productaccess a WHERE a.user_id = ANY(user_ids))
"""
# Batches of a change have no range of users in common.
SKIPPED = "SELECT user_id FROM products_bulkchangeskip WHERE change_id = %(change)s AND user_id BETWEEN %(first)s AND %(last)s"
IDS = "(SELECT user_ids FROM products_bulkchangebatch WHERE id = %(batch)s)::int[]"
REACHED = f"{IDS} - ARRAY({SKIPPED})"
UPDATE = """
UPDATE products_productaccess a SET products = {target}, ever = a.ever | {target} {beside}
WHERE {only_where} AND {reached} AND a.products <> {target}
"""
RECORDED = "change_id = %(change)s AND user_id BETWEEN %(first)s AND %(last)s"
# Counted from the history of the batch, grouped by what users held before and after: far fewer than users.
TALLY = f"""
WITH recorded AS MATERIALIZED (
    SELECT before, after, first & %(welcoming)s::int[] AS welcomed, count(*)::int AS users
    FROM products_accesschange WHERE {RECORDED} GROUP BY 1, 2, 3
), moved AS (
    INSERT INTO products_bulkchangemove (change_id, product_id, gained, lost, onboarding)
    SELECT %(change)s, product, sum(gained), sum(lost), sum(onboarding) FROM recorded CROSS JOIN LATERAL (
        SELECT unnest(after - before), users, 0, 0
        UNION ALL SELECT unnest(before - after), 0, users, 0
        UNION ALL SELECT unnest(welcomed), 0, 0, users
    ) moves (product, gained, lost, onboarding) GROUP BY product ORDER BY product
    ON CONFLICT (change_id, product_id) DO UPDATE SET gained = products_bulkchangemove.gained + excluded.gained,
        lost = products_bulkchangemove.lost + excluded.lost, onboarding = products_bulkchangemove.onboarding + excluded.onboarding
) SELECT coalesce(sum(users), 0), coalesce(sum(users) FILTER (WHERE after = '{{}}'), 0),
    coalesce(sum(users) FILTER (WHERE before = '{{}}'), 0) FROM recorded
"""


class LostClaim(Exception):
    """The batch is not ours any more: its lease had run out and another worker took it over, or the change was cancelled."""


def apply_batch(change: BulkChange, batch: BulkChangeBatch, *, actor: User, all_or_nothing: bool) -> None:
    """Change the users of one batch, in the caller's transaction: sets, history (by trigger), emails owed and counts.

    Short of seats it raises SeatsShort if `all_or_nothing`, else skips users. Raises LostClaim if the batch is not ours any more.
    """
    facts: dict[str, Any] = {
        **facts_of(change),
        "change": change.pk,
        "batch": batch.pk,
        "attempt": batch.attempts,
        "first": batch.first_user,
        "last": batch.last_user,
    }
    mode, target = change.mode, TARGET[change.mode]
    with connection.cursor() as cursor:
        cursor.execute(LOCK.format(rows=rows(mode, among_ids(mode, IDS)), target=target), facts)
        (locked,) = cursor.fetchone()
        cursor.execute(CLAIMED, facts)
        claimed = cursor.fetchone()
        if claimed is None:
            raise LostClaim
        targets, present = claimed
        if present < targets or actor.role == Role.MANAGER:
            skip_out_of_reach(change, actor=actor, first=batch.first_user, last=batch.last_user)
        if mode == Mode.UNDO:
            _skip_what_cannot_come_back(facts)
        changed = suspended = restored = 0
        if locked:
            if mode != Mode.REMOVE:
                _take_seats(mode, facts, all_or_nothing=all_or_nothing)
            changed = _set(change, facts, actor)
            facts["welcoming"] = _welcoming(change)
            _owe_emails(change, facts)
            cursor.execute(TALLY, facts)
            recorded, suspended, restored = cursor.fetchone()
            assert recorded == changed, f"{changed} users changed, {recorded} in the history"
        cursor.execute(f"SELECT count(*) FROM ({SKIPPED}) skipped", facts)
        skipped = cursor.fetchone()[0]
    BulkChange.objects.filter(pk=change.pk).update(
        changed=F("changed") + changed,
        unchanged=F("unchanged") + targets - skipped - changed,
        skipped=F("skipped") + skipped,
        suspended=F("suspended") + suspended,
        restored=F("restored") + restored,
    )


def _set(change: BulkChange, facts: dict[str, Any], actor: User) -> int:
    """Give those who are not skipped what they shall hold; return how many."""
    beside = f"FROM {BESIDE[change.mode]}" if change.mode in BESIDE else ""
    update = UPDATE.format(
        target=TARGET[change.mode],
        beside=beside,
        only_where=ONLY_WHERE.get(change.mode, "true"),
        reached=among_ids(change.mode, REACHED).where,
    )
    with (
        history.acting(actor_id=actor.pk, change_id=change.pk, source=Source(change.source)),
        connection.cursor() as cursor,
    ):
        cursor.execute(update, facts)
        return int(cursor.rowcount)


def skip_out_of_reach(change: BulkChange, *, actor: User, first: int, last: int) -> None:
    """Note the targets in a range of ids who are gone, have left the actor's scope (rule S3) or outrank the actor."""
    frozen = (
        "SELECT unnest(user_ids) FROM products_bulkchangebatch WHERE change_id = %s AND first_user >= %s AND last_user <= %s "
        "AND state IN ('WAITING', 'DONE')"
    )
    of = (change.pk, first, last)
    visible = visible_to(actor).order_by()
    changeable, params = as_sql(visible.filter(changeable_by(actor)).values("id"))
    seen, seen_params = as_sql(visible.values("id"))
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH frozen AS MATERIALIZED ({frozen}), out AS MATERIALIZED (
                SELECT * FROM frozen t(id) WHERE id NOT IN (SELECT id FROM ({changeable}) u WHERE id IN (SELECT * FROM frozen))
            )
            INSERT INTO products_bulkchangeskip (change_id, user_id, reason)
            SELECT %s, out.id, CASE
                WHEN NOT EXISTS (SELECT FROM products_productaccess a WHERE a.user_id = out.id) THEN 'GONE'
                WHEN out.id NOT IN (SELECT id FROM ({seen}) u WHERE id IN (SELECT id FROM out)) THEN 'OUT_OF_SCOPE'
                ELSE 'OUTRANKS' END
            FROM out ON CONFLICT DO NOTHING
            """,
            [*of, *params, change.pk, *seen_params],
        )


def _skip_what_cannot_come_back(facts: dict[str, Any]) -> None:
    """Note the targets of an undo who changed again since, or who may not become what they were (rules B10, B12)."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            INSERT INTO products_bulkchangeskip (change_id, user_id, reason)
            SELECT %(change)s, user_id, why FROM (
                SELECT a.user_id, {WHY_NOT_BACK} AS why
                FROM products_accesschange h JOIN products_productaccess a USING (user_id)
                WHERE {UNDONE}
                AND h.user_id BETWEEN %(first)s AND %(last)s AND a.products <> h.before
                AND h.user_id IN (SELECT unnest({IDS}))
            ) found WHERE why IS NOT NULL ON CONFLICT DO NOTHING
            """,
            facts,
        )


def _take_seats(mode: str, facts: dict[str, Any], *, all_or_nothing: bool) -> None:
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
            SELECT s.product_id, s.seats - s.used - s.reserved + coalesce(r.reserved, 0), coalesce(r.reserved, 0)
            FROM products_seat s
            LEFT JOIN products_seatreservation r ON r.product_id = s.product_id AND r.change_id = %(change)s
            WHERE s.product_id = ANY(%(wanted)s) AND s.seats IS NOT NULL ORDER BY s.product_id
            """,
            facts,
        )
        found = cursor.fetchall()
        free = {product: max(seats, 0) for product, seats, _own in found}
        reached = among_ids(mode, REACHED)
        needed = seats_needed(mode, facts, free, reached)
        if any(needed[product] > free[product] for product in free):
            if all_or_nothing:
                refuse_if_short(SeatNeed(product_id=p, needed=needed[p], free=free[p]) for p in free)
            skip_seatless(mode, facts, free, reached)
            needed = seats_needed(mode, facts, free, reached)
        for product, _seats, own in found:
            if taken := min(needed[product], own):
                cursor.execute(TAKE_RESERVED, {**facts, "product": product, "taken": taken})


def skip_seatless(mode: str, facts: dict[str, Any], free: dict[int, int], among: Among) -> None:
    """Leave out those for whom no seat is left, and note it (rule B9)."""
    out = left_out(mode, facts, free, among)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO products_bulkchangeskip (change_id, user_id, reason) SELECT %(change)s, a.user_id, 'NO_SEAT' "
            f"{rows(mode, among)} AND ({out})",
            facts,
        )


TAKE_RESERVED = """
WITH taken AS (
    UPDATE products_seatreservation SET reserved = reserved - %(taken)s WHERE change_id = %(change)s AND product_id = %(product)s
) UPDATE products_seat SET reserved = reserved - %(taken)s WHERE product_id = %(product)s
"""


def _welcoming(change: BulkChange) -> list[int]:
    """Return the products of the change whose first-ever activation is welcomed by an email (rule E2)."""
    return list(Product.objects.filter(onboarding=True, id__in=change.products).order_by("id").values_list("id", flat=True))


def _owe_emails(change: BulkChange, facts: dict[str, Any]) -> None:
    """Owe a change email to everyone changed, unless switched off, and an onboarding email for every first-ever activation."""
    if change.notify:
        notifications.queue("CHANGE", f"SELECT user_id, change_id FROM products_accesschange WHERE {RECORDED}", facts, anew=True)
    if facts["welcoming"]:
        welcomed = "products_accesschange, unnest(first & %(welcoming)s::int[]) AS product"
        notifications.queue("ONBOARDING", f"SELECT user_id, product FROM {welcomed} WHERE {RECORDED}", facts)
