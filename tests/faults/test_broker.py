"""The broker is stopped, hangs, forgets or is full, and tasks come more than once: it is a doorbell, so nothing is lost by it."""

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from admin_console.celery import Ticker, publisher
from products import tasks
from products.models import BulkChange
from tests.faults.house import LONG, House
from tests.processes import wait_until
from users.models import User

pytestmark = [pytest.mark.faults, pytest.mark.slow]
FEW, MANY = 8, 400 if LONG else 120  # a change of the first is made at once, one of the other takes seconds


def test_a_broker_that_ends_hangs_or_is_full_holds_nobody_up(house: House, admin: User) -> None:
    made = [house.ask(admin, house.people(MANY, "rescue"), "meeting", "webinar")]
    wait_until(lambda: house.done(*made) > 1, 20, "the beginning of the change")

    def ask_meanwhile() -> None:
        """See that a small change is made at once and a large one is taken, soon."""
        began = time.monotonic()
        small, large = house.ask(admin, house.people(FEW), "meeting"), house.ask(admin, house.people(30), "meeting")
        assert small.is_over
        assert time.monotonic() - began < 5
        made.extend([small, large])
        if LONG:
            time.sleep(30)

    def all_goes_on(after: str) -> None:
        since = time.monotonic()
        done = {change: house.done(change) for change in (made if LONG else made[-1:])}
        for change in done:
            house.resumes(change, after=after, done=done[change], since=since)

    (number,) = house.processes("broker")
    os.kill(number, signal.SIGKILL)
    ask_meanwhile()
    wait_until(lambda: house.processes("broker") not in ([], [number]), 15, "another broker")
    if LONG:
        all_goes_on("the broker's end")
    with house.hung_broker():
        ask_meanwhile()
    if LONG:
        all_goes_on("a hung broker")
    with house.full_broker():
        ask_meanwhile()
        with house.broker() as client, pytest.raises(redis.ResponseError):
            client.set("anything", "at all")
    all_goes_on("a full broker")
    house.settled(*made)


@contextlib.contextmanager
def meanwhile(*work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run these beside the block, each in a thread, until it ends and tells them so."""
    stop = threading.Event()
    threads = [threading.Thread(target=each, args=[stop]) for each in work]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_broker_that_forgets_everything_costs_seconds(house: House, admin: User) -> None:
    def wipe(stop: threading.Event) -> None:
        with house.broker() as client:
            while not stop.wait(2 if LONG else 0.5):
                client.flushall()

    with meanwhile(wipe):
        made = [house.ask(admin, house.people(MANY, "rescue"), "meeting") for _ in range(10 if LONG else 1)]
        wait_until(lambda: house.over(*made), 120, "the end of the changes")
    house.settled(*made)


def test_tasks_that_come_three_times_and_three_schedulers_change_nothing_twice(house: House, admin: User) -> None:
    def schedule(stop: threading.Event) -> None:
        ticker = Ticker()
        for now in itertools.count(step=10):  # Launchers ring every few seconds; these hurry.
            ticker.ring(float(now))
            if stop.wait(0.2):
                break
        publisher.close()

    made: list[BulkChange] = []
    with meanwhile(*[schedule] * 3):
        for _ in range(10 if LONG else 1):
            made.append(house.ask(admin, house.people(MANY, "rescue"), "meeting"))
            for _time in range(3):
                tasks.run_bulk_change.delay(change_id=made[-1].pk)
        wait_until(lambda: house.over(*made), 120, "the end of the changes")
    house.settled(*made)
    with house.broker() as client:
        wait_until(lambda: client.llen("celery") < 5, 60 if LONG else 10, "the end of the doorbells")
