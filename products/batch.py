"""One batch of a bulk change: SQL over sets of users, in a constant number of statements, never a Python object per user.

Lock order everywhere: access rows in user order, then seat rows in product order. Locks are taken in one statement and other
tables read in the next, for a join in the locking statement would see what was before the wait.
"""

from collections.abc import Set as AbstractSet
from typing import Any

from django.db import connection

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
from users.models import User
from users.queries import changeable_by, sees_everybody, visible_to

# Nobody's is taken when everybody holds already what they shall: then there is nothing to write, not even a lock.
LOOK = (
    "SELECT count(*), count(*) FILTER (WHERE NOT a.erased AND a.products <> {target}) FROM products_productaccess a WHERE {among}"
)
LOCK = """
SELECT count(*) FROM (SELECT user_id FROM products_productaccess a WHERE {among} ORDER BY user_id FOR NO KEY UPDATE) locked
"""
CLAIMED = """
UPDATE products_bulkchangebatch SET state = 'DONE', lease_until = NULL, error = '', done_at = clock_timestamp()
WHERE id = %(batch)s AND attempts = %(attempt)s AND state = 'WAITING'
AND EXISTS (SELECT FROM products_bulkchange c WHERE c.id = change_id AND c.state = 'RUNNING') RETURNING size
"""
# Batches of a change have no range of users in common.
SKIPPED = "SELECT user_id FROM products_bulkchangeskip WHERE change_id = %(change)s AND user_id BETWEEN %(first)s AND %(last)s"
IDS = "(SELECT user_ids FROM products_bulkchangebatch WHERE id = %(batch)s)::int[]"
REACHED = f"{IDS} - ARRAY({SKIPPED})"
HELD = "SELECT min(product) FROM products_productaccess a, unnest(a.products & %(lost)s::int[]) product WHERE {reached}"
UPDATE = """
UPDATE products_productaccess a SET products = {target}, ever = a.ever | {target} {beside}
WHERE {only_where} AND {reached} AND a.products <> {target}
"""
RECORDED = "change_id = %(change)s AND user_id BETWEEN %(first)s AND %(last)s"
# What the trigger told of the UPDATE, added to what the change has done so far.
COUNTED = f"""
WITH told AS MATERIALIZED (SELECT current_setting('console.tally')::jsonb AS tally WHERE %(changed)s > 0), moved AS (
    INSERT INTO products_bulkchangemove (change_id, product_id, gained, lost, onboarding)
    SELECT %(change)s, key::int, (value ->> 0)::int, (value ->> 1)::int,
        CASE WHEN key::int = ANY(%(welcoming)s) THEN (value ->> 2)::int ELSE 0 END
    FROM told, jsonb_each(tally) WHERE jsonb_typeof(value) = 'array' ORDER BY 2
    ON CONFLICT (change_id, product_id) DO UPDATE SET gained = products_bulkchangemove.gained + excluded.gained,
        lost = products_bulkchangemove.lost + excluded.lost, onboarding = products_bulkchangemove.onboarding + excluded.onboarding
)
UPDATE products_bulkchange SET
    changed = changed + %(changed)s,
    unchanged = unchanged + %(targets)s - skips.number - %(changed)s,
    skipped = skipped + skips.number,
    suspended = suspended + coalesce((tally -> 'suspended')::int, 0),
    restored = restored + coalesce((tally -> 'restored')::int, 0)
FROM (SELECT count(*) AS number FROM ({SKIPPED}) skipped) skips LEFT JOIN told ON true WHERE id = %(change)s
RETURNING (tally -> 'changed')::int
"""


class LostClaim(Exception):
    """The batch is not ours any more: its lease ran out and another worker took it, or the change was paused or cancelled."""


class OutOfReach(Exception):
    """A user of the batch holds a product that the change would take and its actor may no longer touch."""

    def __init__(self, product_id: int) -> None:
        super().__init__(product_id)
        self.product_id = product_id


def apply_batch(
    change: BulkChange,
    batch: BulkChangeBatch,
    *,
    actor: User,
    all_or_nothing: bool,
    lost: AbstractSet[int] = frozenset(),
) -> int:
    """Change the users of one batch, in the caller's transaction: sets, history (by trigger), emails owed and counts.

    Return how many changed. Short of seats it raises SeatsShort if `all_or_nothing`, else skips users. Raises LostClaim if the
    batch is not ours any more, OutOfReach if a Replace would take from somebody one of the products that the actor `lost`.
    """
    facts: dict[str, Any] = {
        **facts_of(change),
        "change": change.pk,
        "batch": batch.pk,
        "attempt": batch.attempts,
        "first": batch.first_user,
        "last": batch.last_user,
    }
    mode = change.mode
    with connection.cursor() as cursor:
        present, different = _held(mode, facts)
        cursor.execute(CLAIMED, facts)
        claimed = cursor.fetchone()
        if claimed is None:
            raise LostClaim
        (targets,) = claimed
        if present < targets or not sees_everybody(actor):
            skip_out_of_reach(change, actor=actor, first=batch.first_user, last=batch.last_user)
        if mode == Mode.UNDO:
            # How many ids an array has PostgreSQL cannot tell. It takes them for ten, and would look for each user in turn.
            cursor.execute("SET LOCAL enable_nestloop = off")
            _skip_what_cannot_come_back(facts)
        facts |= {"targets": targets, "changed": 0, "welcoming": []}
        if different:
            if lost and mode == Mode.REPLACE:
                _refuse_to_take(lost, facts)
            products = Product.objects.filter(id__in=change.products).select_related("seat")
            limited = {product.pk for product in products if product.seat.seats is not None}
            facts["welcoming"] = sorted(product.pk for product in products if product.onboarding)
            if limited and mode != Mode.REMOVE:
                _take_seats(mode, facts, all_or_nothing=all_or_nothing)
            facts["changed"] = _set(change, facts, actor)
            _owe_emails(change, facts)
        cursor.execute(COUNTED, facts)
        (recorded,) = cursor.fetchone()
        assert (recorded or 0) == facts["changed"], f"{facts['changed']} users changed, {recorded} in the history"
        return int(facts["changed"])


def _held(mode: str, facts: dict[str, Any]) -> tuple[int, int]:
    """Lock the access of the users; return how many of them there are, and how many may hold something else afterwards.

    If nobody may, nobody is locked.
    """
    among = f"a.user_id = ANY({IDS})"
    with connection.cursor() as cursor:
        if mode != Mode.UNDO:
            cursor.execute(LOOK.format(target=TARGET[mode], among=among), facts)
            present, different = cursor.fetchone()
            if not different:
                return present, 0
        cursor.execute(LOCK.format(among=among), facts)
        (locked,) = cursor.fetchone()
        return locked, locked


def _refuse_to_take(lost: AbstractSet[int], facts: dict[str, Any]) -> None:
    """Raise OutOfReach if somebody who is not skipped holds one of these products."""
    with connection.cursor() as cursor:
        cursor.execute(HELD.format(reached=among_ids(Mode.REPLACE, REACHED).where), {**facts, "lost": sorted(lost)})
        (product,) = cursor.fetchone()
    if product is not None:
        raise OutOfReach(product)


def _set(change: BulkChange, facts: dict[str, Any], actor: User) -> int:
    """Give those who are not skipped what they shall hold; return how many."""
    beside = f"FROM {BESIDE[change.mode]}" if change.mode in BESIDE else ""
    update = UPDATE.format(
        target=TARGET[change.mode],
        beside=beside,
        only_where=ONLY_WHERE[change.mode],
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
                AND h.user_id BETWEEN %(first)s AND %(last)s AND a.user_id BETWEEN %(first)s AND %(last)s
                AND a.products <> h.before AND h.user_id IN (SELECT unnest({IDS}))
            ) found WHERE why IS NOT NULL ON CONFLICT DO NOTHING
            """,
            facts,
        )


def _take_seats(mode: str, facts: dict[str, Any], *, all_or_nothing: bool) -> None:
    """Give back the reserved seats that this batch is about to use, and see that there are enough.

    Short of seats the change is refused, or, once it runs, the last users in order are skipped: others took the seats meanwhile.
    """
    with connection.cursor() as cursor:
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


# Of how to start with a product that was taken before the email was sent, and is held again.
NEEDED_AGAIN = """
UPDATE notifications_notification n SET state = 'QUEUED', attempts = 0, not_before = statement_timestamp(), last_words = ''
FROM products_productaccess a WHERE a.user_id = n.user_id AND n.about = ANY(a.products)
AND n.kind = 'ONBOARDING' AND n.state = 'NEEDLESS' AND {which}
"""
# An undo plans without looking up user by user, and would read what everybody holds.
OF_THE_BATCH = f"n.user_id = ANY({IDS}) AND a.user_id = ANY({IDS}) AND n.about = ANY(%(welcoming)s)"
JUST_ENDED = """
n.not_before > statement_timestamp() - interval '10 minutes'  -- when its fate was recorded
AND n.about IN (SELECT id FROM products_product WHERE onboarding)
"""


def _owe_emails(change: BulkChange, facts: dict[str, Any]) -> None:
    """Owe a change email to everyone changed, unless switched off, and an onboarding email for every first-ever activation.

    One that was not needed any more, for the product was taken again before it was sent, is owed again with the product.
    """
    if change.notify:
        notifications.queue("CHANGE", f"SELECT user_id, change_id FROM products_accesschange WHERE {RECORDED}", facts, anew=True)
    if facts["welcoming"]:
        welcomed = "products_accesschange, unnest(first & %(welcoming)s::int[]) AS product"
        notifications.queue("ONBOARDING", f"SELECT user_id, product FROM {welcomed} WHERE {RECORDED}", facts)
        with connection.cursor() as cursor:
            cursor.execute(NEEDED_AGAIN.format(which=OF_THE_BATCH), facts)


def owe_again() -> None:
    """Owe the onboarding emails again whose product was given again just when a sender found it taken.

    The batch that gave it cannot see a fate that is not recorded yet, and the sender no batch that had not committed.
    """
    with connection.cursor() as cursor:
        cursor.execute(NEEDED_AGAIN.format(which=JUST_ENDED))
