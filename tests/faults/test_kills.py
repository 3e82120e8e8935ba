"""Processes die by kill -9 at random points while changes run: what is begun goes on, nothing is done twice or lost (rule B7)."""

import itertools
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from products.models import BulkChange
from products.queries import skipped_by_reason
from tests.factories import ids, limit
from tests.faults.house import APPLY, LONG, House, Visitor, form, refusing
from tests.processes import wait_until
from users.models import User

pytestmark = [pytest.mark.faults, pytest.mark.slow]
# How often each is killed.
KILLS = (
    {"worker": 50, "pool child": 70, "web": 30, "web child": 30, "launcher": 20, "postmaster": 20}
    if LONG
    else {"worker": 1, "pool child": 1, "web": 1, "web child": 1, "postmaster": 1}
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


def test_changes_survive_the_death_of_any_process_at_any_point(house: House, admin: User, chance: random.Random) -> None:
    to_come = list(Counter(KILLS).elements())
    chance.shuffle(to_come)
    plain, poisoned, undone = house.people(1_500 if LONG else 200), house.people(100), house.people(60, "rescue", "webinar")
    taken = house.rows("SELECT used FROM products_seat WHERE product_id = %s", *ids("rescue"))[0][0]
    limit("rescue", taken + len(plain))  # exactly enough
    wanted = itertools.cycle([("meeting", "rescue"), ("webinar",), ("rescue",), ()])
    refused = itertools.cycle([("webinar",), ("meeting",)])
    with refusing(house, poisoned[37], "webinar"):
        while to_come:
            earlier = house.ask(admin, undone, "meeting")
            house.settled(earlier)
            house.witness()
            made = [
                house.ask(admin, plain, *next(wanted)),
                house.ask(admin, poisoned, *next(refused)),
                house.undo(admin, earlier),
            ]
            asked = strikes(house, admin, made, to_come, chance)

            wait_until(lambda made=made: house.over(*made), 120, "the end of the changes")  # type: ignore[misc]
            one_is_refused = made[1].products == ids("webinar")
            house.settled(made[0], made[2], *asked)
            house.settled(made[1], state="FAILED" if one_is_refused else "FINISHED")
            assert (made[0].changed, made[2].changed) == (len(plain), len(undone))
            assert skipped_by_reason(made[1]) == ({"FAILED": 1} if one_is_refused else {})
            assert made[1].changed + made[1].unchanged == len(poisoned) - one_is_refused


def strikes(house: House, admin: User, made: list[BulkChange], to_come: list[str], chance: random.Random) -> list[BulkChange]:
    """Kill what is to come while these changes run, and see each time that they go on; return the changes asked for meanwhile."""
    asked = []
    while to_come and not house.over(*made):
        # One after another, or several before anything can go on.
        volley = [to_come.pop() for _ in range(min(len(to_come), chance.choice([1, 2, 3, 5, 8]) if LONG else 5))]
        for kind in volley:
            time.sleep(chance.random() / 3)
            if kind.startswith("web"):
                asked.append(asked_while_dying(house, admin, kind, chance))
            since = house.kill(kind, chance) if not kind.startswith("web") else time.monotonic()
        house.wait_for_database()
        done = {change: house.done(change) for change in (*made, *asked)}
        for change in done:
            house.resumes(change, after=", ".join(volley), done=done[change], since=since)
        house.assert_well(f"after the death of {volley}")
    return asked


def asked_while_dying(house: House, admin: User, kind: str, chance: random.Random) -> BulkChange:
    """Kill a process of the web server at a random point of asking for a change, ask until it answers, and return the change."""
    house.wait_for_database()
    visitor = Visitor(house, admin.email)
    posted = form(admin, house.people(chance.choice([8, 30])), "meeting")
    with ThreadPoolExecutor(1) as other:
        answer = other.submit(visitor.insists, APPLY, **posted)
        time.sleep(chance.random() / 5)
        house.kill(kind, chance)
    made = answer.result().change()
    assert BulkChange.objects.filter(actor=admin, key=posted["key"]).count() == 1
    return made
