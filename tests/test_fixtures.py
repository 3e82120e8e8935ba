"""The databases that tests get are what conftest.py promises."""

import os
import subprocess
import sys
import threading

import psycopg
import pytest
from django.db import ProgrammingError, connection, transaction

from tests.database import Cluster, Database


def who_and_where() -> tuple[str, str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user, current_database()")
        user, database = cursor.fetchone()
        return user, database


def test_the_console_role_works_in_a_transaction(db: None, session_database: Database) -> None:
    assert who_and_where() == ("console", session_database.name)
    assert connection.in_atomic_block


def test_the_console_role_owns_nothing(db: None) -> None:
    with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("CREATE TABLE mine (id int)")
    with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("TRUNCATE django_session")


def test_committing_tests_have_a_database_of_their_own(committed_db: Database, session_database: Database) -> None:
    assert who_and_where() == ("console", committed_db.name) != ("console", session_database.name)
    assert not connection.in_atomic_block
    seen = []

    def look() -> None:
        seen.append(who_and_where())
        connection.close()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [("console", committed_db.name)]


def test_subprocesses_of_a_committing_test_use_its_database(committed_db: Database) -> None:
    code = "import django; django.setup(); from tests.test_fixtures import who_and_where; print(who_and_where()[1])"
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "admin_console.settings"}
    seen = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
    assert seen.strip() == committed_db.name


def test_other_roles(
    db: None, session_database: Database, owner_connection: psycopg.Connection, superuser_connection: psycopg.Connection
) -> None:
    question = "SELECT current_user::text, current_database()::text"
    assert owner_connection.execute(question).fetchone() == ("console_owner", session_database.name)
    assert superuser_connection.execute(question).fetchone() == ("postgres", session_database.name)


def test_clones_are_dropped(cluster: Cluster, superuser_connection: psycopg.Connection) -> None:
    database = cluster.clone()
    cluster.drop(database.name)
    assert not superuser_connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database.name]).fetchone()
