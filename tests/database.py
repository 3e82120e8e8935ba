"""Throwaway databases for tests: one cluster per test run, one migrated template in it, clones of that template."""

import fcntl
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from urllib.parse import quote

import psycopg
from django.core.management import call_command
from django.db import connections
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from admin_console.embedded import SUPERUSER, Postgres, private_folder, spawn, stop
from admin_console.provision import provide_database

OWNER, ROLE = "console_owner", "console"
# What a crash would lose does not matter here; what it costs does.
QUICK = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
    "shared_buffers": "128MB",
    "max_connections": "150",
    "jit": "off",
    "max_wal_size": "256MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Database:
    """One database of the test run, and how each of the three roles reaches it."""

    name: str
    superuser: str  # psycopg's conninfo, as are the next two

    @property
    def owner(self) -> str:
        return make_conninfo(self.superuser, user=OWNER, password=OWNER)

    @property
    def console(self) -> str:
        return make_conninfo(self.superuser, user=ROLE, password=ROLE)

    @property
    def environment(self) -> dict[str, str]:
        """Return what a process of the console needs in its environment to work on this database."""
        at = conninfo_to_dict(self.superuser)
        place = "&".join(f"{key}={quote(str(at[key]))}" for key in ("host", "port") if at.get(key))
        return {
            "DATABASE_URL": f"postgresql://{ROLE}:{ROLE}@/{self.name}?{place}",
            "DATABASE_OWNER_URL": f"postgresql://{OWNER}:{OWNER}@/{self.name}?{place}",
        }


class Cluster:
    """A PostgreSQL server for one test run."""

    def __init__(self, superuser: str, home: Path) -> None:
        self.superuser = superuser
        self.home = home
        self._run = home.name.replace("-", "_")
        self._template = f"{self._run}_template"

    def template(self) -> str:
        """Return the name of the migrated database, made by whoever asks first."""
        name = self._template
        with (self.home / "template.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            ready = self.home / "template.ready"
            if not ready.exists():
                provide_database(self.superuser, name, owner=OWNER, role=ROLE, password=ROLE)
                self._migrate(name)
                ready.touch()
        return name

    def clone(self) -> Database:
        """Return a new database with the tables of the template."""
        name = f"{self._run}_{os.getpid()}_{next(_numbers)}"
        with psycopg.connect(self.superuser, autocommit=True) as server:
            server.execute(
                sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {} STRATEGY FILE_COPY").format(
                    sql.Identifier(name), sql.Identifier(OWNER), sql.Identifier(self.template())
                )
            )
        return Database(name, make_conninfo(self.superuser, dbname=name))

    def drop(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        with psycopg.connect(self.superuser, autocommit=True) as server:
            server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def drop_template(self) -> None:
        """Leave nothing on a server that outlives the run."""
        self.drop(self._template)

    def _migrate(self, name: str) -> None:
        with use(Database(name, make_conninfo(self.superuser, dbname=name))):
            call_command("migrate", verbosity=0, interactive=False)


@contextmanager
def use(database: Database) -> Iterator[None]:
    """Make Django's connections, those of other threads included, go to `database`."""
    at = conninfo_to_dict(database.superuser)
    before = {}
    for alias, user in (("default", ROLE), ("owner", OWNER)):
        connections[alias].close()
        # Threads that open a connection later read the same dictionary.
        settings = connections.settings[alias]
        before[alias] = dict(settings)
        settings.update(NAME=database.name, HOST=at.get("host", ""), PORT=at.get("port", ""), USER=user, PASSWORD=user)
    try:
        yield
    finally:
        for alias, earlier in before.items():
            connections[alias].close()
            connections.settings[alias].update(earlier)


def waits_for_lock(watcher: psycopg.Connection) -> bool:
    """Return whether anybody waits for a lock in the database that the watcher is connected to."""
    found = watcher.execute(
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ).fetchall()
    watcher.rollback()
    return bool(found)


def started_cluster(home: Path) -> tuple[str, subprocess.Popen[bytes]]:
    """Start a server in `home`; return a superuser's conninfo and its process."""
    home.chmod(0o711)  # PostgreSQL may run under another account, whose folders are in it.
    postgres = Postgres.at(home, home / "pg")
    private_folder(postgres.sockets, postgres.account)
    postgres.initialise(durable=False)
    with (home / "postgres.log").open("wb") as log:
        process = spawn(postgres.command(QUICK), output=log, account=postgres.account, folder=Path("/"), death_signal=SIGKILL)
    postgres.wait_until_ready(process)
    return postgres.conninfo(SUPERUSER), process


def remove_cluster(home: Path, process: subprocess.Popen[bytes]) -> None:
    """Stop the server started in `home` and remove its files."""
    stop(process, SIGKILL)
    shutil.rmtree(home / "postgres", ignore_errors=True)
