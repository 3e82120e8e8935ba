"""Fixtures for every test.

- `db` (pytest-django's): the test runs in a transaction on this process's database and is rolled back.
- `committed_db`: the test commits. It gets a fresh clone of the migrated template, dropped afterwards; there is no flush,
  for the entitlement history refuses TRUNCATE. `django.db.connection`, the test's threads and, by DATABASE_URL, its
  subprocesses (started with `environment()` of tests.processes) all use the clone.
- `broker`: a throwaway Valkey to which this test's tasks are published (else publishing goes nowhere); `worker` adds a real
  Celery worker that runs them in the database of `committed_db`.
- `owner_connection`, `superuser_connection`: psycopg connections to the current test's database under other roles.

Set TEST_DATABASE_URL to a superuser's URL to use a PostgreSQL server of your own instead of a throwaway one.
"""

import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pytest_django import DjangoDbBlocker

from admin_console.embedded import sockets_folder
from tests.database import Cluster, Database, remove_cluster, started_cluster, use
from tests.processes import Broker, Worker

HOME = Path(os.environ["TEST_HOME"])
gc.set_threshold(50_000, 20, 20)  # Looking for cycles of garbage as often as Python does would take a twentieth of the time.


def pytest_configure(config: pytest.Config) -> None:
    """Make the run's temporary folder, and remove those of runs that were killed."""
    if hasattr(config, "workerinput"):
        return
    for folder in HOME.parent.glob("admin-console-test-[0-9]*"):
        number = folder.name.rpartition("-")[2]
        if number.isdigit() and not Path(f"/proc/{number}").exists():
            for console in folder.glob("admin console *"):
                shutil.rmtree(sockets_folder(console), ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)
    (HOME / "static").mkdir(parents=True)
    HOME.chmod(0o711)  # Servers may run under another account, whose folders are in it.


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove what the run left in the temporary folder."""
    if hasattr(config, "workerinput"):
        return
    for home, (_superuser, process) in config.stash.get(_STARTED, {}).items():
        remove_cluster(home, process)
    if given := os.environ.get("TEST_DATABASE_URL"):
        Cluster(given, HOME).drop_template()
    shutil.rmtree(HOME, ignore_errors=True)


_STARTED = pytest.StashKey[dict[Path, tuple[str, Any]]]()


def _superuser(config: pytest.Config, home: Path) -> str:
    """Return a superuser's conninfo, starting the server in `home` at the first call."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        return given
    started = config.stash.setdefault(_STARTED, {})
    if home not in started:
        home.mkdir(exist_ok=True)
        started[home] = started_cluster(home)
    return started[home][0]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """With pytest-xdist each process has a server of its own: sealing waits for every transaction that a server has open."""
    node.workerinput["superuser"] = _superuser(node.config, HOME / node.gateway.id)


# What these start is dear and shared by their tests: each is run by one of pytest-xdist's processes, and first. (Its own way of
# saying so, `--dist loadgroup`, does nothing with pytest 9.2.)
TOGETHER = ("tests/journeys/", "tests/faults/", "tests/console/test_run_console.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give out tests one by one, but those of `TOGETHER` together."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return next((start for start in TOGETHER if nodeid.startswith(start)), nodeid)

    return Scheduling(config, log)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """Return the PostgreSQL server of this test run."""
    worker = getattr(request.config, "workerinput", None)
    if not worker:
        return Cluster(_superuser(request.config, HOME), HOME)
    return Cluster(worker["superuser"], HOME if os.environ.get("TEST_DATABASE_URL") else HOME / worker["workerid"])


@pytest.fixture(scope="session")
def session_database(cluster: Cluster, django_db_blocker: DjangoDbBlocker) -> Iterator[Database]:
    """Return this process's own database, for the tests that are rolled back."""
    with django_db_blocker.unblock():
        database = cluster.clone()
    yield database
    cluster.drop(database.name)


@pytest.fixture(scope="session")
def django_db_setup(
    session_database: Database, django_test_environment: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[None]:
    """Replace pytest-django's own making of test databases."""
    with use(session_database):
        yield
        with django_db_blocker.unblock():
            from django.db import connections

            connections.close_all()


@pytest.fixture
def committed_db(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, django_db_blocker: DjangoDbBlocker) -> Iterator[Database]:
    """Give the test a database of its own in which it commits."""
    with django_db_blocker.unblock():
        database = cluster.clone()
        for name, value in database.environment.items():
            monkeypatch.setenv(name, value)
        with use(database):
            yield database
        cluster.drop(database.name)


@pytest.fixture
def current_database(request: pytest.FixtureRequest) -> Database:
    """Return the database that the test works on."""
    name = "committed_db" if "committed_db" in request.fixturenames else "session_database"
    database: Database = request.getfixturevalue(name)
    return database


@pytest.fixture
def owner_connection(current_database: Database) -> Iterator[psycopg.Connection]:
    """Return a connection of the role that owns the tables; roll back what you do on it unless you took `committed_db`."""
    with psycopg.connect(current_database.owner) as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def superuser_connection(current_database: Database) -> Iterator[psycopg.Connection]:
    """Return a connection of the superuser; roll back what you do on it unless you took `committed_db`."""
    with psycopg.connect(current_database.superuser) as connection:
        yield connection
        connection.rollback()


@pytest.fixture(scope="session")
def valkey() -> Iterator[Broker]:
    """Return a Valkey for this test process; take `broker` instead."""
    folder = HOME / f"valkey-{os.getpid()}"
    folder.mkdir()
    server = Broker(folder)
    yield server
    server.kill()


@pytest.fixture
def broker(valkey: Broker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    """Give the test an empty broker that runs, for this process and (by REDIS_URL) its subprocesses."""
    from admin_console.celery import app, publisher

    valkey.start()
    valkey.empty()
    monkeypatch.setenv("REDIS_URL", valkey.redis_url)
    before, app.conf.broker_url = app.conf.broker_url, valkey.celery_url
    publisher.resume()
    yield valkey
    app.conf.broker_url = before
    publisher.resume()


@pytest.fixture
def worker(committed_db: Database, broker: Broker, tmp_path: Path) -> Iterator[Worker]:
    """Give the test a real Celery worker on its broker and its database."""
    with Worker(tmp_path) as process:
        yield process
