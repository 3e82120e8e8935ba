"""What the database refuses by itself: a group inside itself, and an organisation without a Super admin (rule B13)."""

import threading
from collections.abc import Callable

import psycopg
import pytest
from django.contrib.auth.hashers import make_password
from django.db import IntegrityError, connection, transaction

from tests.database import Database
from tests.factories import make_group, make_user
from users import actions
from users.models import Role, User, UserGroup

AT_ONCE = "SET CONSTRAINTS ALL IMMEDIATE"
TREE, LAST = "would be inside itself", "the last Super admin"


def sql(statement: str, *params: int | str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)


def refused_by(rule: str) -> "pytest.RaisesExc[IntegrityError]":
    return pytest.raises(IntegrityError, match=rule)


# No group inside itself.


def test_a_group_can_move_where_there_is_no_circle(db: None) -> None:
    world, europe, benelux = make_group(), make_group(), make_group()
    UserGroup.objects.filter(pk=benelux.pk).update(parent=europe)
    UserGroup.objects.filter(pk=europe.pk).update(parent=world)
    UserGroup.objects.filter(pk=benelux.pk).update(parent=world)
    UserGroup.objects.filter(pk=benelux.pk).update(parent=None)


def test_a_group_cannot_be_inside_itself(db: None) -> None:
    group = make_group()
    with refused_by(TREE):
        sql("UPDATE users_usergroup SET parent_id = id WHERE id = %s", group.pk)


def test_a_group_cannot_be_inside_its_subgroup(db: None) -> None:
    world = make_group()
    benelux = make_group(inside=make_group(inside=make_group(inside=world)))
    world.parent = benelux
    with refused_by(TREE):
        world.save()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO users_usergroup (id, name, parent_id) VALUES (-1, 'self', -1)",
        "INSERT INTO users_usergroup (id, name, parent_id) VALUES (-1, 'one', -2), (-2, 'two', -1)",
    ],
)
def test_groups_cannot_arrive_inside_each_other(db: None, statement: str) -> None:
    with refused_by(TREE):
        sql(statement)


def test_a_replica_session_refuses_a_circle_too(db: None, superuser_connection: psycopg.Connection) -> None:
    superuser_connection.execute("SET session_replication_role = replica")
    with pytest.raises(psycopg.errors.CheckViolation, match=TREE):
        superuser_connection.execute("INSERT INTO users_usergroup (id, name, parent_id) VALUES (-1, 'self', -1)")


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
def test_two_moves_at_once_close_no_circle(committed_db: Database, isolation: str) -> None:
    left, right = make_group("Left"), make_group("Right")
    errors = at_once(
        committed_db,
        isolation,
        ("UPDATE users_usergroup SET parent_id = %s WHERE id = %s", (right.pk, left.pk)),
        ("UPDATE users_usergroup SET parent_id = %s WHERE id = %s", (left.pk, right.pk)),
    )
    assert len(errors) == 1
    assert UserGroup.objects.filter(parent=None).count() == 1


# Never without a Super admin.


def every_way_out(user: User) -> dict[str, Callable[[], object]]:
    """Return the ways by which a Super admin could go."""

    def saved(**fields: object) -> None:
        for name, value in fields.items():
            setattr(user, name, value)
        user.save()

    return {
        "role saved": lambda: saved(role=Role.ADMIN),
        "deactivated and saved": lambda: saved(is_active=False),
        "password made unusable": lambda: saved(password=make_password(None)),
        "password emptied": lambda: User.objects.filter(pk=user.pk).update(password=""),
        "updated": lambda: User.objects.filter(pk=user.pk).update(role=Role.MEMBER),
        "bulk updated": lambda: User.objects.bulk_update([User(pk=user.pk, role=Role.SUPPORT)], ["role"]),
        "raw update": lambda: sql("UPDATE users_user SET is_active = false"),
        "upserted": lambda: sql(
            "INSERT INTO users_user (email, password, role) VALUES (%s, '', 'MEMBER')"
            " ON CONFLICT (email) DO UPDATE SET role = EXCLUDED.role",
            user.email,
        ),
        "deleted": lambda: User.objects.filter(pk=user.pk).delete(),
        "raw delete": lambda: sql("DELETE FROM users_user"),
    }


WAYS = list(every_way_out(User()))


@pytest.mark.parametrize("way", WAYS)
def test_the_last_super_admin_stays(db: None, way: str) -> None:
    grace = make_user(role=Role.SUPER_ADMIN)
    make_user(role=Role.SUPER_ADMIN, is_active=False)
    make_user(role=Role.SUPER_ADMIN, password=make_password(None))  # invited, to a mistyped address perhaps
    make_user(role=Role.ADMIN)
    with refused_by(LAST), transaction.atomic():
        every_way_out(grace)[way]()
        sql(AT_ONCE)


@pytest.mark.parametrize("way", [way for way in WAYS if "raw" not in way])
def test_one_of_two_super_admins_may_go(db: None, way: str) -> None:
    grace = make_user(role=Role.SUPER_ADMIN)
    make_user(role=Role.SUPER_ADMIN)
    every_way_out(grace)[way]()
    sql(AT_ONCE)


def test_the_role_can_be_handed_over_in_either_order(db: None) -> None:
    grace, ada = make_user(role=Role.SUPER_ADMIN), make_user()
    with transaction.atomic():
        User.objects.filter(pk=grace.pk).update(role=Role.MEMBER)
        User.objects.filter(pk=ada.pk).update(role=Role.SUPER_ADMIN)
    sql(AT_ONCE)


def test_who_never_chose_a_password_is_not_the_last_super_admin(db: None) -> None:
    grace, ada = (make_user(role=Role.SUPER_ADMIN, password=make_password(None)) for _times in range(2))
    User.objects.filter(pk=grace.pk).update(role=Role.MEMBER)
    make_user(role=Role.SUPER_ADMIN)
    ada.delete()
    sql(AT_ONCE)


def test_an_organisation_without_a_super_admin_yet_is_fine(db: None) -> None:
    ada = make_user(role=Role.ADMIN)
    User.objects.filter(pk=ada.pk).update(role=Role.MEMBER)
    ada.delete()
    sql(AT_ONCE)


def test_users_cannot_be_truncated_away(db: None, owner_connection: psycopg.Connection) -> None:
    owner_connection.execute("INSERT INTO users_user (email, password, role) VALUES ('grace@tests.example', 'x', 'SUPER_ADMIN')")
    owner_connection.execute(AT_ONCE)
    with pytest.raises(psycopg.Error, match=f"{LAST}|refused"):
        owner_connection.execute("TRUNCATE users_user CASCADE")


def test_a_replica_session_cannot_remove_the_last_one_either(db: None, superuser_connection: psycopg.Connection) -> None:
    superuser_connection.execute("SET session_replication_role = replica")
    superuser_connection.execute(
        "INSERT INTO users_user (email, password, role) VALUES ('grace@tests.example', 'x', 'SUPER_ADMIN')"
    )
    superuser_connection.execute("UPDATE users_user SET is_active = false WHERE email = 'grace@tests.example'")
    with pytest.raises(psycopg.errors.CheckViolation, match=LAST):
        superuser_connection.execute(AT_ONCE)


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
@pytest.mark.parametrize("way", ["UPDATE users_user SET role = 'MEMBER' WHERE id = %s", "DELETE FROM users_user WHERE id = %s"])
def test_two_super_admins_removing_each_other_at_once_leave_one(committed_db: Database, isolation: str, way: str) -> None:
    grace, ada = make_user(role=Role.SUPER_ADMIN), make_user(role=Role.SUPER_ADMIN)
    errors = at_once(committed_db, isolation, (way, (grace.pk,)), (way, (ada.pk,)))
    assert len(errors) == 1
    assert User.objects.filter(role=Role.SUPER_ADMIN).count() == 1


def test_two_super_admins_taking_each_others_role_at_once_leave_one(committed_db: Database) -> None:
    grace, ada = make_user(role=Role.SUPER_ADMIN), make_user(role=Role.SUPER_ADMIN)
    outcomes: list[str] = []
    together = threading.Barrier(2)

    def take(actor: User, user: User) -> None:
        together.wait()
        try:
            actions.change_role(actor=actor, user=user, role=Role.MEMBER)
            outcomes.append("taken")
        except actions.LastSuperAdmin:
            outcomes.append("refused")
        finally:
            connection.close()

    threads = [threading.Thread(target=take, args=pair) for pair in ((grace, ada), (ada, grace))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused", "taken"]
    assert User.objects.filter(role=Role.SUPER_ADMIN).count() == 1


def at_once(database: Database, isolation: str, *statements: tuple[str, tuple[int, int] | tuple[int]]) -> list[psycopg.Error]:
    """Run the statements in a transaction each, none committed before all have begun; return the errors that they met."""
    errors: list[psycopg.Error] = []
    begun = threading.Barrier(len(statements))

    def run(statement: str, params: tuple[int, ...]) -> None:
        try:
            with psycopg.connect(database.console) as session:
                session.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
                session.execute("SELECT FROM users_user LIMIT 1")  # takes the snapshot
                begun.wait()
                session.execute(statement, params)
        except psycopg.Error as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=statement) for statement in statements]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors
