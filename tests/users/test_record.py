"""The record of what admins do: append-only for everybody, and what names a person in it can be erased."""

import hashlib

import psycopg
import pytest
from django.db import DatabaseError, ProgrammingError, connection, transaction

from tests.factories import make_user
from users.models import Action, AdminAction, Role
from users.record import record

pytestmark = pytest.mark.django_db


def run(sql: str, *params: object) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, params)


def test_what_is_recorded_is_stamped_by_the_database():
    ada, grace = make_user("Ada Admin", role=Role.ADMIN), make_user()
    record(Action.USER_ROLE_CHANGED, actor=ada, subject=grace.pk, before={"role": "MEMBER"}, after={"role": "SUPPORT"})

    row = AdminAction.objects.get()
    assert (row.actor, row.subject, row.subject_id, row.db_role) == (ada, "user", grace.pk, "console")
    assert (row.before, row.after, row.words, row.salt, row.words_digest) == (
        {"role": "MEMBER"}, {"role": "SUPPORT"}, None, None, None
    )  # fmt: skip
    assert row.sentence == "Changed the role of a user"


def test_words_are_sealed_by_a_salted_digest():
    for _time in range(2):
        record(Action.USER_ADDED, actor=None, words={"email": "grace@tests.example"})

    one, two = AdminAction.objects.order_by("id")
    assert one.words_digest == hashlib.sha256(bytes(one.salt) + b'{"email": "grace@tests.example"}').digest()
    assert one.words_digest != two.words_digest


def test_who_writes_cannot_choose_the_time_the_role_or_the_salt():
    run(
        "INSERT INTO users_adminaction (action, at, db_role, words, salt, words_digest) "
        "VALUES ('user.added', '2001-01-01', 'somebody', '{}', 'salt', 'digest')"
    )

    row = AdminAction.objects.get()
    assert row.at.year > 2001
    assert (row.db_role, len(row.salt), len(row.words_digest)) == ("console", 16, 32)


@pytest.mark.parametrize("way", ["", "OVERRIDING SYSTEM VALUE"])
def test_who_writes_cannot_choose_the_number(way):
    """Below what is sealed it would be damage for ever, and the next ones would let nothing be recorded."""
    with pytest.raises(ProgrammingError, match="permission denied"):
        run(f"INSERT INTO users_adminaction (id, action) {way} VALUES (7, 'user.added')")
    with pytest.raises(ProgrammingError, match="permission denied"):
        run("SELECT setval('users_adminaction_id_seq', 7)")


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE users_adminaction SET actor_id = 1",
        "UPDATE users_adminaction SET words = NULL, salt = NULL",
        "UPDATE users_adminaction SET words = '{}'",
        "DELETE FROM users_adminaction",
        "TRUNCATE users_adminaction",
    ],
)
@pytest.mark.parametrize("role", ["console", "owner", "superuser", "superuser as replica"])
def test_nobody_rewrites_the_record(sql, role, owner_connection, superuser_connection):
    if role == "console":
        record(Action.USER_ADDED, actor=None, words={"email": "grace@tests.example"})
        with pytest.raises(ProgrammingError, match=r"permission denied|is refused"):
            run(sql)
        return
    attacker = owner_connection if role == "owner" else superuser_connection
    attacker.execute("INSERT INTO users_adminaction (action, words) VALUES ('user.added', '{}')")
    if role == "superuser as replica":
        attacker.execute("SET session_replication_role = replica")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="is refused"):
        attacker.execute(sql)


def test_the_record_of_an_erasure_erases_the_words_that_it_names_and_nothing_else():
    first, second = (
        record(Action.USER_ADDED, actor=None, after={"role": "MEMBER"}, words={"email": "g@h.example"}) for _ in "ab"
    )
    record(Action.USER_ERASED, actor=None, subject=1, after={"words": [first.pk]})

    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.words, first.salt, first.is_erased) == (None, None, True)
    assert (len(first.words_digest), first.after) == (32, {"role": "MEMBER"})
    assert second.words == {"email": "g@h.example"}


def test_an_erasure_that_is_recorded_lets_nobody_erase_other_words():
    """Neither in its own transaction nor in one that began before: both could take any words, when that was enough."""
    record(Action.USER_ADDED, actor=None, words={"email": "grace@tests.example"})
    record(Action.USER_ERASED, actor=None, subject=1, after={"words": []})

    with pytest.raises(ProgrammingError, match="permission denied"):
        run("UPDATE users_adminaction SET words = NULL, salt = NULL WHERE action = 'user.added'")
    # By a trigger of one's own neither, though the erasing is done by one.
    run("CREATE TEMPORARY TABLE bait (x int)")
    run(
        "CREATE FUNCTION pg_temp.bite() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "UPDATE users_adminaction SET words = NULL, salt = NULL; RETURN NULL; END $$"
    )
    run("CREATE TRIGGER bite AFTER INSERT ON bait EXECUTE FUNCTION pg_temp.bite()")
    with pytest.raises(ProgrammingError, match="permission denied"):
        run("INSERT INTO bait VALUES (1)")
    assert AdminAction.objects.get(action=Action.USER_ADDED).words == {"email": "grace@tests.example"}


@pytest.mark.parametrize("role", ["owner", "superuser", "superuser as replica"])
def test_not_even_an_owner_erases_other_words_beside_an_erasure(role, owner_connection, superuser_connection):
    attacker = owner_connection if role == "owner" else superuser_connection
    attacker.execute("INSERT INTO users_adminaction (action, words) VALUES ('user.added', '{}')")
    attacker.execute("INSERT INTO users_adminaction (action, after) VALUES ('user.erased', '{\"words\": []}')")
    if role == "superuser as replica":
        attacker.execute("SET session_replication_role = replica")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="is refused"):
        attacker.execute("UPDATE users_adminaction SET words = NULL, salt = NULL")


@pytest.mark.parametrize("after", ["NULL", "'{}'", """'{"words": 7}'"""])
def test_an_erasure_that_names_no_actions_is_not_recorded(after):
    with pytest.raises(DatabaseError, match="names the actions"):
        run(f"INSERT INTO users_adminaction (action, after) VALUES ('user.erased', {after})")


DROPPED = "INSERT INTO users_adminaction (action) VALUES ('history.dropped')"


def test_only_who_owns_the_history_records_that_some_was_dropped(owner_connection, superuser_connection):
    """For it excuses rows that are gone."""
    with pytest.raises(ProgrammingError, match="only who owns the history"):
        run(DROPPED)
    assert owner_connection.execute(DROPPED).rowcount == 1
    superuser_connection.execute("CREATE ROLE deputy IN ROLE console_owner")
    superuser_connection.execute("SET SESSION AUTHORIZATION deputy")
    assert superuser_connection.execute(DROPPED).rowcount == 1


def test_every_action_has_a_sentence_and_names_what_it_is_done_to():
    assert all(action.label and "." in action.value for action in Action)


def test_an_action_that_is_no_more_is_still_told_of():
    assert AdminAction(action="user.teleported").sentence == "user.teleported"
