"""The broker is stopped, hangs, forgets or is full, and tasks come more than once: it is a doorbell, so nothing is lost by it."""

import itertools
import os
import signal
import threading
import time

import pytest
import redis

from admin_console.celery import Ticker, publisher
from products import tasks
from products.models import BulkChange
from tests.faults.house import LONG, House
from tests.processes import wait_until
from users.models import User

pytestmark = [pytest.mark.faults, pytest.mark.slow]
FEW, MANY = 8, 400 if LONG else 160  # a change of the first is made at once, one of the other takes seconds


@pytest.fixture
def begun(house: House, admin: User) -> BulkChange:
    """Return a large change at which the worker is."""
    made = house.ask(admin, house.people(MANY, "rescue"), "meeting", "webinar")
    wait_until(lambda: house.done(made) > 1, 20, "the beginning of the change")
    return made


def test_a_stopped_broker_loses_no_change(house: House, admin: User, begun: BulkChange) -> None:
    (number,) = house.processes("broker")
    done, since = house.done(begun), time.monotonic()
    os.kill(number, signal.SIGKILL)
    small = house.ask(admin, house.people(FEW), "meeting")

    assert small.is_over
    house.resumes(begun, after="broker", done=done, since=since)
    house.settled(begun, small)


def test_a_hanging_broker_holds_nobody_up(house: House, admin: User, begun: BulkChange) -> None:
    with house.hung_broker():
        asked_at = time.monotonic()
        small, large = house.ask(admin, house.people(FEW), "meeting"), house.ask(admin, house.people(40), "meeting")
        answered_in = time.monotonic() - asked_at
        time.sleep(30 if LONG else 1)
    since = time.monotonic()

    assert small.is_over
    assert not house.over(large)
    assert answered_in < 5
    house.resumes(large, after="hanging broker", done=0, since=since)
    house.settled(begun, small, large)


def test_a_broker_that_forgets_everything_costs_seconds(house: House, begun: BulkChange) -> None:
    stop = threading.Event()

    def wipe() -> None:
        with house.broker() as client:
            while not stop.wait(2 if LONG else 0.7):
                client.flushall()

    wiping = threading.Thread(target=wipe)
    wiping.start()
    try:
        wait_until(lambda: house.over(begun), 120, "the end of the change")
    finally:
        stop.set()
        wiping.join()
    house.settled(begun)


def test_a_full_broker_holds_nobody_up(house: House, admin: User, begun: BulkChange) -> None:
    with house.full_broker(), house.broker() as client:
        small, large = house.ask(admin, house.people(FEW), "meeting"), house.ask(admin, house.people(40), "meeting")
        with pytest.raises(redis.ResponseError):
            client.set("anything", "at all")
        time.sleep(30 if LONG else 1)
    since = time.monotonic()

    assert small.is_over
    assert not house.over(large)
    house.resumes(large, after="full broker", done=0, since=since)
    house.settled(begun, small, large)


def test_tasks_that_come_three_times_and_three_schedulers_change_nothing_twice(house: House, admin: User) -> None:
    people = house.people(MANY, "rescue")
    made = house.ask(admin, people, "meeting")
    for _ in range(3):
        tasks.run_bulk_change.delay(change_id=made.pk)
    stop = threading.Event()

    def schedule() -> None:
        ticker = Ticker()
        # Three launchers ring at their own pace; these hurry.
        for now in itertools.count(step=10):
            ticker.ring(float(now))
            if stop.wait(0.2):
                break
        publisher.close()

    schedulers = [threading.Thread(target=schedule) for _ in range(3)]
    for thread in schedulers:
        thread.start()
    try:
        wait_until(lambda: house.over(made), 60, "the end of the change")
    finally:
        stop.set()
        for thread in schedulers:
            thread.join()
    house.settled(made)
