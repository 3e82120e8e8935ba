"""Seats: setting how many there are of a product, and counting anew how many are taken."""

import logging
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import connection, connections, transaction
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from notifications import actions as notifications
from products.models import Seat
from products.refusals import ChangeRefused, NotAllowed
from users.models import CAPABILITIES, Action, Capability, Role, User
from users.queries import can
from users.record import record

logger = logging.getLogger(__name__)


class TooFewSeats(ChangeRefused):
    """More seats are taken than there would be: `taken` says how many."""

    def __init__(self, message: str, *, taken: int) -> None:
        super().__init__(message)
        self.taken = taken


def set_seats(*, actor: User, product_id: int, seats: int | None) -> Seat:
    """Set how many users may hold a product (None: as many as wanted) and return its seats. Raises NotAllowed, TooFewSeats."""
    if not can(actor, Capability.MANAGE_USERS):
        raise NotAllowed(_("Your role does not let you set the number of seats."))
    with transaction.atomic():
        seat = Seat.objects.select_for_update(no_key=True).get(pk=product_id)
        taken = seat.used + seat.reserved
        if seats is not None and seats < taken:
            sentence = ngettext(
                "There cannot be fewer seats than are taken: %(used)s is used, and %(reserved)s reserved for changes that run.",
                "There cannot be fewer seats than are taken: %(used)s are used, and %(reserved)s reserved for changes that run.",
                seat.used,
            )
            numbers = {"used": seat.used, "reserved": seat.reserved}
            written = {name: number_format(number, force_grouping=True) for name, number in numbers.items()}
            raise TooFewSeats(sentence % written, taken=taken)
        if seats == seat.seats:
            return seat
        logger.info("seats_set", extra={"actor": actor.pk, "product": product_id, "before": seat.seats, "after": seats})
        before, seat.seats = seat.seats, seats
        seat.save(update_fields=["seats"])
        told = {"before": {"seats": before}, "after": {"seats": seats}}
        record(Action.PRODUCT_SEATS_CHANGED, actor=actor, subject=product_id, **told)
    return seat


def warn_of_low_seats(*, now: datetime) -> int:
    """Owe an email to everyone who may set seats for each product whose free seats ran low since; return for how many products.

    Low is SEATS_LOW_PERCENT of the seats or fewer. Told once: again only after there were enough in between.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(LOW_NO_MORE, {"percent": settings.SEATS_LOW_PERCENT, "now": now})
        cursor.execute(LOW, {"percent": settings.SEATS_LOW_PERCENT, "now": now})
        found = [row[0] for row in cursor]
        if found:
            who = "SELECT u.id, w.id FROM users_user u, products_seatwarning w WHERE u.is_active AND u.role = ANY(%(roles)s)"
            roles = [role for role in Role if Capability.MANAGE_USERS in CAPABILITIES[role]]
            notifications.queue("SEATS", f"{who} AND w.id = ANY(%(found)s)", {"roles": roles, "found": found})
    return len(found)


def low_on_seats() -> set[int]:
    """Return the ids of the products with SEATS_LOW_PERCENT of their seats free or fewer: the email about seats warns of them."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT s.product_id FROM products_seat s WHERE {IS_LOW}", {"percent": settings.SEATS_LOW_PERCENT})
        return {product for (product,) in cursor}


IS_LOW = "(s.seats - s.used - s.reserved) * 100::bigint <= s.seats * %(percent)s::bigint"
LOW_NO_MORE = f"""
UPDATE products_seatwarning w SET over_at = %(now)s FROM products_seat s
WHERE s.product_id = w.product_id AND w.over_at IS NULL AND (s.seats IS NULL OR NOT {IS_LOW})
"""
LOW = f"""
INSERT INTO products_seatwarning (product_id, free, seats, at)
SELECT s.product_id, s.seats - s.used - s.reserved, s.seats, %(now)s
FROM products_seat s JOIN products_product p ON p.id = s.product_id
WHERE s.seats > 0 AND p.retired_at IS NULL AND {IS_LOW}
AND NOT EXISTS (SELECT FROM products_seatwarning w WHERE w.product_id = s.product_id AND w.over_at IS NULL)
ON CONFLICT DO NOTHING RETURNING id
"""


@dataclass(frozen=True)
class Recount:
    """The counters of one product, and what they should be: the users who hold it, and what unfinished changes reserved."""

    product_id: int
    name: str
    seats: int | None
    used: int
    holders: int
    reserved: int
    set_aside: int

    @property
    def is_right(self) -> bool:
        """Whether the counters are what they should be."""
        return (self.used, self.reserved) == (self.holders, self.set_aside)

    @property
    def is_oversold(self) -> bool:
        """Whether there are fewer seats than are truly taken, which no counter may say."""
        return self.seats is not None and self.holders + self.set_aside > self.seats


COUNTED = """
SELECT p.id, p.name, s.seats, s.used, coalesce(held.holders, 0), s.reserved, coalesce(kept.set_aside, 0)
FROM products_product p JOIN products_seat s ON s.product_id = p.id
LEFT JOIN (
    SELECT product, count(*) AS holders FROM products_productaccess, unnest(products) AS product GROUP BY product
) held ON held.product = p.id
LEFT JOIN (
    SELECT product_id, sum(r.reserved)::integer AS set_aside FROM products_seatreservation r
    JOIN products_bulkchange c ON c.id = r.change_id AND c.state IN ('RUNNING', 'PAUSED') GROUP BY product_id
) kept ON kept.product_id = p.id
ORDER BY p.position, p.id
"""


def recounted(*, using: str = "default") -> list[Recount]:
    """Return the counters of every product beside what they should be, all of one moment: one statement sees one state."""
    with connections[using].cursor() as cursor:
        cursor.execute(COUNTED)
        return [Recount(*row) for row in cursor]


def repair_seats(*, using: str) -> list[Recount]:
    """Set the counters right as the owner of the tables, and return what they were; what is oversold stays as it is.

    Nobody else may lock access rows meanwhile: who has locked some goes on to the seats, and that order must hold here too.
    """
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        cursor.execute("LOCK TABLE products_productaccess IN EXCLUSIVE MODE")
        cursor.execute("SELECT 1 FROM products_seat ORDER BY product_id FOR UPDATE")
        found = recounted(using=using)
        cursor.execute(
            "DELETE FROM products_seatreservation r USING products_bulkchange c "
            "WHERE c.id = r.change_id AND c.state NOT IN ('RUNNING', 'PAUSED')"
        )
        for wrong in [each for each in found if not each.is_right and not each.is_oversold]:
            cursor.execute(
                "UPDATE products_seat SET used = %s, reserved = %s WHERE product_id = %s",
                [wrong.holders, wrong.set_aside, wrong.product_id],
            )
    return found
