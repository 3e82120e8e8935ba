"""What a user holds after a change, as SQL: of everyone whose access a change sets, and of whom a product is granted.

Everything is said of `a`, a row of products_productaccess; for an undo also of `h`, the row of the history that it takes back.
Parameters are named: wanted and preserved (product ids), undoes (the change that is undone), first and last (a range of users).
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from django.db import connection

from products.models import BulkChange, Mode
from users.typed import LAST_ID

# What a user who was not erased holds afterwards, as SQL over `products`; `target` says it in Python. Who was erased is left out
# by a condition beside it: what is the same for everybody is worked out once, but not inside of a CASE on the row.
TARGET: Mapping[str, str] = {
    # Mostly nothing is preserved, and then the planner leaves the wanted ones as they are.
    Mode.REPLACE: "CASE WHEN %(preserved)s::int[] = '{}' THEN %(wanted)s::int[] "
    "ELSE %(wanted)s::int[] | (products & %(preserved)s::int[]) END",
    Mode.ADD: "(products | %(wanted)s::int[])",
    Mode.REMOVE: "(products - %(wanted)s::int[])",
    Mode.UNDO: "h.before",
}
# Why an undo leaves a user alone (rules B10, B12); null for those whom it does not.
WHY_NOT_BACK = """CASE
    WHEN a.erased THEN 'ERASED'
    WHEN a.products <> h.after THEN 'CHANGED_SINCE'
    WHEN ((h.before - h.after) | (h.after - h.before)) && %(preserved)s::int[] THEN 'NOT_ALLOWED'
    WHEN (h.before - h.after) && ARRAY(SELECT id FROM products_product WHERE retired_at IS NOT NULL) THEN 'RETIRED'
END"""
# The history of the undone change. Without its time every user is looked for in the partition of every month.
UNDONE = "h.change_id = %(undoes)s AND h.at BETWEEN %(since)s AND now() + interval '2 days'"
# Whose access is set: of everyone, but by an undo only of those whom it does not leave alone.
ONLY_WHERE: Mapping[str, str] = {
    **dict.fromkeys((Mode.REPLACE, Mode.ADD, Mode.REMOVE), "NOT a.erased"),
    Mode.UNDO: f"{UNDONE} AND h.user_id BETWEEN %(first)s AND %(last)s AND a.user_id BETWEEN %(first)s AND %(last)s "
    f"AND h.user_id = a.user_id AND ({WHY_NOT_BACK}) IS NULL",
}
BESIDE: Mapping[str, str] = {Mode.UNDO: "products_accesschange h"}
SLACK = timedelta(days=2)  # by which the clocks of the console and of the database may differ, at the most
EVERYBODY = {"first": 0, "last": LAST_ID}


def target(held: Iterable[int], *, mode: str, wanted: Iterable[int], preserved: Iterable[int]) -> frozenset[int]:
    """Return what a user who holds `held` and was not erased holds after a change (rule B1); the same as TARGET says in SQL."""
    held, wanted = frozenset(held), frozenset(wanted)
    match mode:
        case Mode.REPLACE:
            return wanted | (held & frozenset(preserved))
        case Mode.ADD:
            return held | wanted
        case _:
            return held - wanted


def facts_of(change: BulkChange) -> dict[str, Any]:
    """Return the parameters that the SQL of a change takes, for users of all ids."""
    facts: dict[str, Any] = {"wanted": change.products, "preserved": change.preserved, "undoes": change.undoes_id, **EVERYBODY}
    if change.undoes:
        facts["since"] = change.undoes.requested_at - SLACK
    return facts


class Among(NamedTuple):
    """Some users, as SQL: a condition on `a`, and the tables that it needs beside."""

    where: str
    tables: tuple[str, ...] = ()


def among_ids(mode: str, ids: str) -> Among:
    """Return the users whose ids are in an array, given as SQL.

    Joined to the history, who is reached first is for the planner to say, and then each would be compared with each: so hashed.
    """
    return Among(f"a.user_id IN (SELECT unnest({ids}))" if mode in BESIDE else f"a.user_id = ANY({ids})")


def among_frozen(mode: str) -> Among:
    """Return the users of all batches of a change, but those who are skipped."""
    ids = (
        "b.user_ids - ARRAY(SELECT user_id FROM products_bulkchangeskip s "
        "WHERE s.change_id = b.change_id AND s.user_id BETWEEN b.first_user AND b.last_user)"
    )
    of_change = "b.change_id = %(change)s"
    if mode in BESIDE:
        return Among(f"a.user_id IN (SELECT unnest({ids}) FROM products_bulkchangebatch b WHERE {of_change})")
    # Batch by batch: a million ids in one list make a plan that is eight times as slow.
    return Among(f"{of_change} AND a.user_id = ANY({ids})", ("products_bulkchangebatch b",))


def rows(mode: str, among: Among) -> str:
    """Return the FROM and WHERE of those of some users whom a change of this mode sets; more conditions may follow with AND."""
    tables = ["products_productaccess a", *among.tables, *([BESIDE[mode]] if mode in BESIDE else [])]
    return f"FROM {', '.join(tables)} WHERE {ONLY_WHERE[mode]} AND {among.where}"


def granted(mode: str, product: str) -> str:
    """Return the condition that a change grants a product; `product` is SQL."""
    return f"(NOT a.erased AND {product} <> ALL(a.products) AND {product} = ANY({TARGET[mode]}))"


# Seats: who gets one while there are some. All or nothing per user, in the order in which users were added (rule B9).


def seats_needed(
    mode: str, facts: Mapping[str, Any], products: Iterable[int], among: Among, without: str = "false"
) -> dict[int, int]:
    """Return how many users a change grants each of these products; `without` is the condition of who is left out."""
    ids = list(products)
    if not ids:
        return {}
    counts = ", ".join(f"count(*) FILTER (WHERE {granted(mode, str(product))})" for product in ids)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {counts} {rows(mode, among)} AND NOT ({without})", facts)
        return dict(zip(ids, cursor.fetchone(), strict=True))


def left_out(mode: str, facts: Mapping[str, Any], free: Mapping[int, int], among: Among) -> str:
    """Return the condition on `a` of those who get no seat when so many are free of each product; "false" when all get one.

    Whoever needs a product that is used up keeps what they have, and takes no seat of another product from those after them.
    So the products are rationed in the order in which they run out: before the first who is left out, nobody is.
    """
    cuts: dict[int, int] = {}
    while found := _first_without(mode, facts, {p: n for p, n in free.items() if p not in cuts}, among, _beyond(mode, cuts)):
        user, product = min(found)
        cuts[product] = user
    return _beyond(mode, cuts)


def _beyond(mode: str, cuts: Mapping[int, int]) -> str:
    parts = [f"a.user_id >= {user} AND {granted(mode, str(product))}" for product, user in cuts.items()]
    return " OR ".join(f"({part})" for part in parts) or "false"


def _first_without(
    mode: str, facts: Mapping[str, Any], free: Mapping[int, int], among: Among, without: str
) -> list[tuple[int, int]]:
    """Return (user, product) for each product: the first user, beside those left out already, for whom no seat is left."""
    short = [
        product for product, needed in seats_needed(mode, facts, free, among, without).items() if needed > max(free[product], 0)
    ]
    found = []
    with connection.cursor() as cursor:
        for product in short:
            cursor.execute(
                f"SELECT a.user_id {rows(mode, among)} AND {granted(mode, str(product))} AND NOT ({without}) "
                f"ORDER BY a.user_id OFFSET {max(free[product], 0)} LIMIT 1",
                facts,
            )
            found.append((cursor.fetchone()[0], product))
    return found
