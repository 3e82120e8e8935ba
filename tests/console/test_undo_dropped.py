"""Undoing a change of months that were dropped: whom it changed then nobody can give back what they held, and it says so."""

from datetime import timedelta

import psycopg
from django.test import Client
from django.utils import timezone

from products.models import BulkChange
from tests.console.change_pages import page_of, undo_of
from tests.console.pages import shown
from tests.database import Database
from tests.factories import change, held_by, make_user
from users.models import Role, User

NOTHING = "There is nothing to undo: nobody holds what this change wrote."


def drop_history_of(database: Database, *users: User) -> None:
    """Let what the history tells of these users be of another month, and drop that, on record as `drop_history` does."""
    month = timezone.now().replace(day=1) + timedelta(days=32)
    with psycopg.connect(database.superuser) as superuser:
        superuser.execute("ALTER TABLE products_accesschange DISABLE TRIGGER USER")
        ids = [user.pk for user in users]
        superuser.execute("UPDATE products_accesschange SET at = %s WHERE user_id = ANY(%s)", [month, ids])
        superuser.execute("ALTER TABLE products_accesschange ENABLE TRIGGER USER")
        superuser.execute(f"DROP TABLE products_accesschange_{month:%Y_%m}")
    with psycopg.connect(database.owner) as owner:
        owner.execute("INSERT INTO users_adminaction (action) VALUES ('history.dropped')")


def told(number: int, made: BulkChange) -> str:
    users = "1 user" if number == 1 else f"{number} users"
    return f"The history of {users} whom change #{made.pk} changed was dropped, so they cannot be given back what they held."


def test_whose_history_was_dropped_is_told_before_and_after_the_others_are_set_back(
    committed_db: Database, client: Client
) -> None:
    client.force_login(ada := make_user("Ada Admin", role=Role.ADMIN))
    dropped, kept = [make_user(), make_user()], make_user()
    made = change(ada, [*dropped, kept], "meeting")
    assert "was dropped" not in shown(client.get(f"/changes/{made.pk}/undo/"))
    drop_history_of(committed_db, *dropped)

    before = shown(client.get(f"/changes/{made.pk}/undo/"))
    after = undo_of(client, made)

    assert "Set back 1" in before
    assert told(2, made) in before
    undone = BulkChange.objects.get(undoes=made)
    assert "1 user changed" in shown(after)
    assert told(2, made) in shown(after)
    assert told(2, made) in shown(page_of(client, undone))
    assert [held_by(user) for user in (*dropped, kept)] == [{"meeting"}, {"meeting"}, set()]
    again = shown(client.get(f"/changes/{made.pk}/undo/"))
    assert told(2, made) in again
    assert NOTHING not in again


def test_of_a_change_whose_whole_history_was_dropped_nobody_is_said_to_hold_something_else(
    committed_db: Database, client: Client
) -> None:
    client.force_login(ada := make_user("Ada Admin", role=Role.ADMIN))
    grace = make_user()
    made = change(ada, [grace], "meeting")
    drop_history_of(committed_db, grace)

    words = shown(client.get(f"/changes/{made.pk}/undo/"))

    assert told(1, made) in words
    assert NOTHING not in words
    assert "Undo the change" not in words
