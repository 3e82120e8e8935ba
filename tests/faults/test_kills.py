"""Processes die by kill -9 at random points while changes run: what is begun goes on, nothing is done twice or lost (rule B7)."""

import itertools
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from products.models import BulkChange
from tests.factories import ids, limit
from tests.faults.house import APPLY, LONG, House, Visitor, form
from tests.processes import wait_until
from users.models import User

pytestmark = [pytest.mark.faults, pytest.mark.slow]
# How often each is killed.
KILLS = (
    {"worker": 50, "pool child": 70, "web": 30, "web child": 30, "launcher": 20, "postmaster": 20}
    if LONG
    else {"worker": 1, "pool child": 2, "web": 1, "web child": 1, "launcher": 1, "postmaster": 1}
)


@pytest.mark.parametrize("size", [8, 40])
def test_fifty_posts_of_one_form_at_once_are_one_change(house: House, admin: User, size: int) -> None:
    visitor = Visitor(house, admin.email)
    posted = form(admin, house.people(size, "rescue"), "meeting")
    with ThreadPoolExecutor(50) as many:
        answers = list(many.map(lambda _: visitor.fetch(APPLY, **posted), range(50)))

    (made,) = {answer.change() for answer in answers}
    assert BulkChange.objects.filter(actor=admin, key=posted["key"]).count() == 1
    house.settled(made)
    assert made.changed == size


def test_a_change_survives_the_death_of_any_process_at_any_point(house: House, admin: User, chance: random.Random) -> None:
    to_come = list(Counter(KILLS).elements())
    chance.shuffle(to_come)
    people = house.people(600 if LONG else 250)
    taken = house.rows("SELECT used FROM products_seat WHERE product_id = %s", *ids("rescue"))[0][0]
    limit("rescue", taken + len(people))  # exactly enough
    wanted = itertools.cycle([("meeting", "rescue"), ("webinar",), ("rescue",), ()])
    made: list[BulkChange] = []
    while to_come:
        if house.over(*made):
            house.settled(*made)
            house.witness()
            made = [house.ask(admin, people, *next(wanted))]
        if to_come[-1].startswith("web"):
            made.append(asked_while_dying(house, admin, to_come.pop(), chance))
        elif strike(house, made[0], to_come[-1], chance):
            to_come.pop()
    house.settled(*made)


def strike(house: House, made: BulkChange, kind: str, chance: random.Random) -> bool:
    """Kill a process of a kind at a random point of a change, and see that it goes on; return False if it was over before."""
    enough = house.done(made) + chance.randrange(4)
    wait_until(lambda: house.done(made) >= enough or house.over(made), 20, "some batches")
    time.sleep(chance.random() / 10)
    if house.over(made):
        return False
    done, since = house.done(made), house.kill(kind, chance)
    house.resumes(made, after=kind, done=done, since=since)
    house.assert_well(f"after the death of {kind}")
    return True


def asked_while_dying(house: House, admin: User, kind: str, chance: random.Random) -> BulkChange:
    """Kill a process of the web server at a random point of asking for a change, ask until it answers, and return the change."""
    visitor = Visitor(house, admin.email)
    posted = form(admin, house.people(chance.choice([8, 30])), "meeting")
    with ThreadPoolExecutor(1) as other:
        answer = other.submit(visitor.insists, APPLY, **posted)
        time.sleep(chance.random() / 5)
        house.kill(kind, chance)
    made = answer.result().change()
    assert BulkChange.objects.filter(actor=admin, key=posted["key"]).count() == 1
    return made
