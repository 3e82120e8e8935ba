"""What the tests of bulk changes share: who acts, changes in small batches and their numbers, users whom the database refuses."""

from collections.abc import Iterator

import psycopg
import pytest
from django.db import connection, transaction
from pytest_django import DjangoDbBlocker

from products import actions
from products.models import BulkChange, Entitlement, Seat
from tests.database import Cluster, Database, use
from tests.factories import NOW, make_user, make_users
from tests.faults.invariants import breaches_seen_by
from users.models import Role, User

REFUSE = """
CREATE TABLE poison (user_id integer PRIMARY KEY, code text, words text);
GRANT SELECT, INSERT, DELETE ON poison TO PUBLIC;
CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$
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


@pytest.fixture
def admin(request: pytest.FixtureRequest) -> User:
    """Return who acts: in the database of `committed_db` or `poison` if the test takes one of them, else in that of `db`."""
    asked_for = [name for name in ("committed_db", "poison") if name in request.fixturenames]
    request.getfixturevalue(asked_for[0] if asked_for else "db")
    return make_user("Ada Admin", role=Role.ADMIN)


@pytest.fixture
def in_batches(settings) -> None:
    """Let a change of more than two users be a large one, in batches of three."""
    settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE = 2, 3


@pytest.fixture(scope="session")
def poisonable(cluster: Cluster, django_db_blocker: DjangoDbBlocker) -> Iterator[Database]:
    """Return a database whose owner lets tests name users to refuse."""
    with django_db_blocker.unblock():
        database = cluster.clone()
    with psycopg.connect(database.owner) as owner:
        owner.execute(REFUSE)
    yield database
    cluster.drop(database.name)


class Poison:
    """Names users whose access the database refuses to change."""

    def __call__(self, *users: User, words: str = "poison", code: str = "raise_exception") -> None:
        """Refuse to change these users, with these words and this error code."""
        with connection.cursor() as cursor:
            for user in users:
                cursor.execute("INSERT INTO poison VALUES (%s, %s, %s)", [user.pk, code, words])

    def heal(self) -> None:
        """Refuse nobody any more."""
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM poison")


@pytest.fixture
def poison(poisonable: Database, django_db_blocker: DjangoDbBlocker) -> Iterator[Poison]:
    """Give a way to make users whom the database refuses to change, in a test that is rolled back."""
    with django_db_blocker.unblock(), use(poisonable), transaction.atomic():
        yield Poison()
        transaction.set_rollback(True)


def breaches() -> list[str]:
    """Return which rules of tests/faults/invariants.py are broken in this test's database, as it is now."""
    connection.ensure_connection()
    assert connection.connection is not None
    return breaches_seen_by(connection.connection)


@pytest.fixture
def nothing_is_broken(admin) -> Iterator[None]:
    """See to it that sets, history, counters, seats and emails agree after the test."""
    yield
    assert breaches() == []


@pytest.fixture
def users(admin) -> list[User]:
    return make_users(8)


def step(made: BulkChange, batches: int = 1) -> BulkChange:
    """Apply so many batches of a change and return it as it is then."""
    for _ in range(batches):
        actions.advance_bulk_change(change_id=made.pk, now=NOW)
    made.refresh_from_db()
    return made


def cancel(actor: User, made: BulkChange) -> BulkChange:
    return actions.cancel_change(actor=actor, change_id=made.pk, now=NOW)


def counts(made: BulkChange) -> tuple[int, int, int, int, int]:
    return made.targets, made.changed, made.unchanged, made.skipped, made.not_reached


def seats(code: str) -> tuple[int, int]:
    return Seat.objects.values_list("used", "reserved").get(product__code=code)


def holders(users: list[User], code: str) -> list[int]:
    """Return the places of those who hold a product."""
    found = set(Entitlement.objects.filter(product__code=code).values_list("user_id", flat=True))
    return [place for place, user in enumerate(users) if user.pk in found]
