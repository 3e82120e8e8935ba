"""The products column of an import of people: checked, forecast, and applied through the same bulk changes as everything else."""

import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from operator import itemgetter

from django.db import connection
from django.utils.translation import gettext as _

from products.actions import is_small, record_already_held, request_bulk_change
from products.models import BulkChange, Mode, Product, Source
from products.previews import SeatNeed, seat_needs
from products.queries import catalogue, out_of_reach
from products.refusals import refuse_if_short
from products.selection import Selection
from users.imports import PeopleImport


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What the products of an import do; dictionaries are by product, without zeros."""

    changed: int = 0
    suspending: int = 0  # have products now, and none afterwards
    gains: Mapping[Product, int] = field(default_factory=dict)
    losses: Mapping[Product, int] = field(default_factory=dict)
    first: Mapping[Product, int] = field(
        default_factory=dict
    )  # held for the first time ever, where that sends an onboarding email
    seats: tuple[SeatNeed, ...] = ()


def check(people: PeopleImport, *, already_held: bool) -> None:
    """Refuse lines with unknown products, with products that the actor may not grant, and with retired ones newly granted."""
    products = catalogue()
    known = {spelling.lower(): product for product in products for spelling in (product.code, product.name)}
    with connection.cursor() as cursor:
        cursor.execute(TABLE)
        cursor.execute("SELECT DISTINCT products FROM people_line WHERE products IS NOT NULL")
        sets = [names for (names,) in cursor.fetchall()]
        cursor.executemany(
            "INSERT INTO people_products VALUES (%s, %s, %s)",
            [
                (
                    names,
                    sorted({known[name].id for name in names if name in known}),
                    ", ".join(name for name in names if name not in known)[:200],
                )
                for names in sets
            ],
        )
        cursor.execute("ANALYZE people_products")  # no key tells that each set is there once: one may be longer than a key can be
    people.refuse(UNKNOWN, [_("There is no product “%(product)s”.") % {"product": "{name}"}])
    unreachable = out_of_reach(people.actor)
    for product in products:
        if product.id in unreachable:
            people.refuse(GRANTED, [_("You may not grant %(product)s.") % {"product": product}, product.id])
        elif product.retired_at and not already_held:
            people.refuse(NEWLY_GRANTED, [_("%(product)s is retired.") % {"product": product}, product.id, product.id])


def forecast(people: PeopleImport, *, already_held: bool) -> Forecast:
    """Return what `apply`, or `apply_already_held`, would do with the lines that were not refused.

    The seats needed are those at the worst moment of `apply`, which takes one set of products after the other. What a small set
    frees the next ones can take; what a large one frees is free only when a worker is done with it, after all have asked.
    """
    products = {product.id: product for product in catalogue()}
    changed = suspending = 0
    gains: Counter[Product] = Counter()
    losses: Counter[Product] = Counter()
    first: Counter[Product] = Counter()
    taken: Counter[Product] = Counter()  # more than now, after the sets so far
    needed: Counter[Product] = Counter()  # the most that were
    with connection.cursor() as cursor:
        cursor.execute(MOVES)
        for wanted, moves in groupby(cursor.fetchall(), key=itemgetter(0)):
            targets, granted, freed = 0, Counter[Product](), Counter[Product]()
            for _wanted, held, ever, users in moves:
                targets += users
                granted.update({products[each]: users for each in set(wanted) - set(held)})
                freed.update({products[each]: users for each in set(held) - set(wanted)})
                first.update({products[each]: users for each in set(wanted) - set(ever) if products[each].onboarding})
            changed += targets
            suspending += targets if not wanted else 0
            gains.update(granted)
            losses.update(freed)
            taken.update(granted)
            needed |= taken
            if is_small(targets):
                taken.subtract(freed)
    if already_held:  # all at once
        needed = gains - losses
    needs = seat_needs(products.values(), Counter({product.id: seats for product, seats in needed.items()}))
    return Forecast(changed=changed, suspending=suspending, gains=gains, losses=losses, first=first, seats=needs)


def apply(people: PeopleImport, *, notify: bool, reason: str, now: datetime) -> list[BulkChange]:
    """Let everyone hold what their line says, one bulk change for each distinct set of products; return the changes.

    Nothing is asked for users who hold that already. Raises a ChangeRefused, and the caller undoes the whole import.
    """
    refuse_if_short(forecast(people, already_held=False).seats)
    with connection.cursor() as cursor:
        cursor.execute(CHANGES)
        changes = cursor.fetchall()
    return [
        request_bulk_change(
            actor=people.actor,
            selection=Selection.of(user_ids),
            products=wanted,
            mode=Mode.REPLACE,
            notify=notify,
            key=uuid.uuid4(),
            reason=reason,
            now=now,
            source=Source.IMPORT,
            expected=len(user_ids),
            confirmed=len(user_ids),
        )
        for wanted, user_ids in changes
    ]


def apply_already_held(people: PeopleImport) -> int:
    """Record what the lines say as held since before the console; return how many users changed. Nobody is owed an email."""
    refuse_if_short(forecast(people, already_held=True).seats)
    return record_already_held(actor=people.actor, holdings=HOLDINGS, params=[])


TABLE = """
DROP TABLE IF EXISTS pg_temp.people_products;
CREATE TEMPORARY TABLE people_products (names text[] NOT NULL, wanted int[] NOT NULL, unknown text NOT NULL) ON COMMIT DROP
"""
UNKNOWN = """
SELECT l.line, l.last_line, 'products', replace(%s, '{name}', p.unknown)
FROM people_line l JOIN people_products p ON p.names = l.products WHERE p.unknown <> ''
"""
GRANTED = """
SELECT l.line, l.last_line, 'products', %s
FROM people_line l JOIN people_products p ON p.names = l.products WHERE p.wanted @> ARRAY[%s]::int[]
"""
NEWLY_GRANTED = """
SELECT l.line, l.last_line, 'products', %s
FROM people_line l JOIN people_products p ON p.names = l.products LEFT JOIN products_productaccess a ON a.user_id = l.user_id
WHERE p.wanted @> ARRAY[%s]::int[] AND NOT coalesce(a.products, '{}') @> ARRAY[%s]::int[]
"""
# Whose set changes. What frees more limited seats than it takes comes first. (Two sets that swap limited seats are refused.)
LINES = """
people_line l JOIN people_products p ON p.names = l.products LEFT JOIN products_productaccess a ON a.user_id = l.user_id
CROSS JOIN LATERAL (SELECT coalesce(a.products, '{}') AS held) now
CROSS JOIN (SELECT coalesce(array_agg(product_id), '{}') AS limited FROM products_seat WHERE seats IS NOT NULL) seats
WHERE held <> p.wanted
"""
TAKEN = "cardinality((p.wanted - held) & limited) - cardinality((held - p.wanted) & limited)"
MOVES = f"""
SELECT p.wanted, held, coalesce(a.ever, '{{}}') AS ever, count(*) FROM {LINES} GROUP BY p.wanted, 2, 3
ORDER BY sum(sum({TAKEN})) OVER (PARTITION BY p.wanted), p.wanted
"""
CHANGES = (
    f"SELECT p.wanted, array_agg(l.user_id ORDER BY l.user_id) FROM {LINES} GROUP BY p.wanted ORDER BY sum({TAKEN}), p.wanted"
)
HOLDINGS = """
SELECT l.user_id, p.wanted AS products FROM people_line l JOIN people_products p ON p.names = l.products
"""
