"""One console for all faults: each test breaks a part of it, and leaves it whole."""

import os
import random
import signal
from collections.abc import Iterator

import pytest
from pytest_django import DjangoDbBlocker

from products.models import Seat
from tests.database import use
from users.models import User
from users.queries import first_super_admin

pytest.register_assert_rewrite("tests.faults.house")

from tests.faults.house import House  # noqa: E402


@pytest.fixture(scope="session")
def started_house() -> Iterator[House]:
    """Start a console; take `house` instead."""
    with House() as house:
        yield house
        assert house.console.end(signal.SIGTERM) == 0  # Ctrl-C is what test_run_console.py stops its own by
        assert house.console.processes() == {}
        for kind, seconds in sorted(house.resumed_after.items()):
            print(f"went on after the death of {kind}: {len(seconds)} times, after at most {max(seconds):.1f} s")


@pytest.fixture
def house(started_house: House, settings: object, django_db_blocker: DjangoDbBlocker) -> Iterator[House]:
    """Give the test a whole console; Django's connections and what this process publishes go to it."""
    from admin_console.celery import app, publisher

    settings.BULK_AT_ONCE = settings.BULK_BATCH_SIZE = 10  # type: ignore[attr-defined]
    before, app.conf.broker_url = app.conf.broker_url, started_house.broker_url
    publisher.resume()
    with django_db_blocker.unblock(), use(started_house.database):
        started_house.witness()
        yield started_house
        Seat.objects.update(seats=None)
    app.conf.broker_url = before
    publisher.resume()


@pytest.fixture
def chance() -> random.Random:
    """Return where random points come from. A failed test shows the seed; FAULTS_SEED gives it back."""
    seed = int(os.environ.get("FAULTS_SEED") or random.randrange(1_000_000))
    print(f"FAULTS_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def admin(house: House) -> User:
    """Return the first Super admin, whose password the console knows."""
    found = first_super_admin()
    assert found
    return found
