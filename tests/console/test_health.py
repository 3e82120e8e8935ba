"""What whoever watches the console is told."""

import dataclasses

import pytest
from django.test import Client
from psycopg.conninfo import make_conninfo
from pytest_django import DjangoDbBlocker

from tests.database import Database, use


def test_a_console_that_serves(client: Client, db: None) -> None:
    assert (client.get("/healthz").status_code, client.get("/readyz").status_code) == (200, 200)


def test_a_database_that_is_away(client: Client, session_database: Database, django_db_blocker: DjangoDbBlocker) -> None:
    nowhere = dataclasses.replace(session_database, superuser=make_conninfo(session_database.superuser, host="/nowhere"))
    with django_db_blocker.unblock(), use(nowhere):
        assert client.get("/healthz").status_code == 200
        answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.content == b"the database does not answer\n"


@pytest.mark.parametrize("address", ["/healthz", "/readyz"])
def test_nothing_is_kept_and_nothing_is_written(client: Client, db: None, address: str) -> None:
    assert "no-store" in client.get(address).headers["Cache-Control"]
    assert client.post(address).status_code == 405
    assert not client.get(address).cookies
