"""manage.py verify_seats: counted anew, the counters are right, or are said to be wrong and set right."""

from io import StringIO

import psycopg
import pytest
from django.core.management import call_command

from products.models import BulkChange, Seat, SeatReservation
from tests.database import Database
from tests.factories import give, limit, make_user, product
from users.models import Role


def verified(*arguments: str) -> tuple[int, str]:
    """Run the command and return how it exits and what it says."""
    said = StringIO()
    try:
        call_command("verify_seats", *arguments, stdout=said)
    except SystemExit as end:
        return int(str(end.code)), said.getvalue()
    return 0, said.getvalue()


def tamper(database: Database, code: str, **counters: int) -> None:
    """Write counters as only the owner of the tables can."""
    with psycopg.connect(database.owner) as owner:
        for name, value in counters.items():
            owner.execute(f"UPDATE products_seat SET {name} = %s WHERE product_id = %s", [value, product(code).pk])


@pytest.fixture(autouse=True)
def holders(committed_db: Database) -> None:
    """Let three hold Rescue, of which a paused change has set two aside and one that is over forgot to give back five."""
    for _ in range(3):
        give(make_user(), "rescue")
    limit("rescue", 100)
    actor = make_user(role=Role.ADMIN)
    for state, seats in (("PAUSED", 2), ("FINISHED", 5)):
        made = BulkChange.objects.create(
            actor=actor, products=[], preserved=[], selection={}, requested_at="2026-11-22T12:00Z", state=state
        )
        SeatReservation.objects.create(change=made, product=product("rescue"), reserved=seats)
    Seat.objects.filter(product__code="rescue").update(reserved=2)


def test_right_counters_are_said_to_be_right() -> None:
    assert verified() == (0, "The seats of all 12 products are counted right.\n")


def test_a_wrong_counter_is_told_and_set_right(committed_db: Database) -> None:
    tamper(committed_db, "rescue", used=7, reserved=9)
    tamper(committed_db, "central", used=1)
    rescue = "Rescue: used is 7, 3 hold it; reserved is 9, 2 are set aside"
    central = "Central: used is 1, 0 hold it; reserved is 0, 0 are set aside"

    assert verified() == (1, f"{rescue}\n{central}\n")
    assert verified("--repair") == (0, f"{rescue}, set right\n{central}, set right\n")
    assert verified()[0] == 0
    seat = Seat.objects.get(product__code="rescue")
    assert (seat.used, seat.reserved) == (3, 2)
    assert SeatReservation.objects.count() == 1  # that of the change which is not over


def test_what_is_oversold_is_not_hidden(committed_db: Database) -> None:
    tamper(committed_db, "rescue", used=0, reserved=0)
    limit("rescue", 4)

    code, said = verified("--repair")

    assert code == 1
    assert "3 hold it" in said
    assert "There are only 4 seats: set more, then repair." in said
