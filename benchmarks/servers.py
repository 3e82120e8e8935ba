"""The bench's own PostgreSQL: programs and settings as of `make run`, on disk, in a folder thrown away afterwards."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGKILL

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from admin_console.embedded import SUPERUSER, Postgres, postgres_options, private_folder, spawn, stop
from tests.database import OWNER, Database


@contextmanager
def postgres_in(home: Path) -> Iterator[str]:
    """Run a server whose data is in `home` and yield a superuser's conninfo; what `home` holds is gone afterwards."""
    home.chmod(0o711)  # PostgreSQL may run under another account, whose folders are in it.
    postgres = Postgres.at(home, home / "pg")
    private_folder(postgres.sockets, postgres.account)
    postgres.initialise()
    with (home / "postgres.log").open("wb") as log:
        process = spawn(
            postgres.command(postgres_options()), output=log, account=postgres.account, folder=Path("/"), death_signal=SIGKILL
        )
    try:
        postgres.wait_until_ready(process)
        yield postgres.conninfo(SUPERUSER)
    finally:
        stop(process, SIGKILL)
        shutil.rmtree(home / "postgres", ignore_errors=True)


@contextmanager
def clone(superuser: str, template: str, name: str) -> Iterator[Database]:
    """Yield a copy of the database `template`, equal to it block by block, and drop it afterwards."""
    with psycopg.connect(superuser, autocommit=True) as server:
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        server.execute(drop)
        server.execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(name), sql.Identifier(OWNER), sql.Identifier(template)
            )
        )
        try:
            yield Database(name, make_conninfo(superuser, dbname=name))
        finally:
            server.execute(drop)
