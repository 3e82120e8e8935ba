"""What the tests of bulk changes share: who acts, changes in small batches, users whom the database refuses to change."""

import psycopg
import pytest
from django.db import connection

from tests.database import Database
from tests.factories import make_user
from tests.faults.invariants import breaches_seen_by
from users.models import Role, User


@pytest.fixture
def admin(request: pytest.FixtureRequest) -> User:
    """Return who acts: in the database of `committed_db` if the test takes that, else in a test that is rolled back."""
    request.getfixturevalue("committed_db" if "committed_db" in request.fixturenames else "db")
    return make_user("Ada Admin", role=Role.ADMIN)


@pytest.fixture
def in_batches(settings) -> None:
    """Let a change of more than two users be a large one, in batches of three."""
    settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE = 2, 3


class Poison:
    """Users whose access the database refuses to change, by a trigger that its owner has put there."""

    def __init__(self, owner: psycopg.Connection) -> None:
        self._owner = owner
        owner.autocommit = True
        owner.execute(
            """
            CREATE TABLE poison (user_id integer PRIMARY KEY, code text, words text);
            CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
            DECLARE
                refused record;
            BEGIN
                SELECT * INTO refused FROM poison WHERE user_id = new.user_id;
                IF FOUND THEN
                    RAISE EXCEPTION '%', refused.words USING ERRCODE = refused.code;
                END IF;
                RETURN new;
            END $$;
            CREATE TRIGGER poison BEFORE UPDATE ON products_productaccess FOR EACH ROW EXECUTE FUNCTION poison()
            """
        )

    def __call__(self, *users: User, words: str = "poison", code: str = "raise_exception") -> None:
        """Refuse to change these users, with these words and this error code."""
        for user in users:
            self._owner.execute("INSERT INTO poison VALUES (%s, %s, %s)", [user.pk, code, words])

    def heal(self) -> None:
        """Refuse nobody any more."""
        self._owner.execute("DELETE FROM poison")


@pytest.fixture
def poison(committed_db: Database, owner_connection: psycopg.Connection) -> Poison:
    """Give a way to make users whom the database refuses to change."""
    return Poison(owner_connection)


def breaches() -> list[str]:
    """Return which rules of tests/faults/invariants.py are broken in this test's database, as it is now."""
    connection.ensure_connection()
    assert connection.connection is not None
    return breaches_seen_by(connection.connection)
