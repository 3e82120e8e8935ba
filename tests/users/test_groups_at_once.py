"""Several who change groups at once: each test commits in a database of its own."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any

import psycopg
import pytest
from django.db import connection

from tests.database import Database, waits_for_lock
from tests.factories import make_group, make_user
from tests.processes import wait_until
from users import actions
from users.models import Action, AdminAction, GroupMembership, Role, UserGroup

pytestmark = pytest.mark.usefixtures("committed_db")


def at_once(*verbs: Callable[[], Any]) -> list[Exception | None]:
    """Call each verb on a connection of its own, all at the same time; return what each raised."""
    start = Barrier(len(verbs))

    def call(verb: Callable[[], Any]) -> Exception | None:
        try:
            start.wait(10)
            verb()
        except Exception as error:
            return error
        finally:
            connection.close()
        return None

    with ThreadPoolExecutor(len(verbs)) as threads:
        return list(threads.map(call, verbs))


def test_of_two_choices_of_managed_groups_one_holds_and_the_record_has_both_in_their_order() -> None:
    sue, manager = make_user(role=Role.SUPER_ADMIN), make_user(role=Role.MANAGER)
    choices = [[make_group()], [make_group()]]
    assert at_once(*(partial(actions.let_manage, actor=sue, user=manager, groups=groups) for groups in choices)) == [None, None]

    assert list(manager.managed_groups.all()) in choices
    first, second = AdminAction.objects.filter(action=Action.USER_MANAGED_GROUPS_CHANGED).order_by("id")
    assert (first.before["groups"], second.before) == ([], first.after)


def test_a_group_that_is_deleted_gets_no_member_nor_subgroup_meanwhile() -> None:
    sue, grace = make_user(role=Role.SUPER_ADMIN), make_user()
    for _time in range(5):
        group = make_group()
        deleted, joined, inside = at_once(
            partial(actions.delete_group, actor=sue, group=group),
            partial(actions.put_in_groups, actor=sue, user=grace, groups=[group]),
            partial(actions.add_group, actor=sue, name=f"Inside {group.pk}", parent=group),
        )
        is_there = UserGroup.objects.filter(pk=group.pk).exists()
        assert isinstance(deleted, actions.GroupHasSubgroups) if is_there else deleted is None
        assert inside is None if is_there else isinstance(inside, actions.GroupGone)
        assert joined is None or isinstance(joined, actions.GroupGone)
        assert GroupMembership.objects.filter(group=group).exists() is (is_there and joined is None)


def test_who_edits_a_group_waits_for_the_group_above_before_locking_it(
    committed_db: Database, superuser_connection: psycopg.Connection
) -> None:
    """Who puts a user in both groups locks them in order: each would wait for the other."""
    sue, sales = make_user(role=Role.SUPER_ADMIN), make_group("Sales")
    benelux = make_group("Benelux", inside=sales)
    locked = "SELECT FROM users_usergroup WHERE id = %s FOR NO KEY UPDATE NOWAIT"
    edit = partial(actions.edit_group, actor=sue, group=benelux, name="Low Countries", parent=sales)
    with ThreadPoolExecutor() as threads, psycopg.connect(committed_db.console) as other:
        other.execute(locked, [sales.pk])
        edited = threads.submit(at_once, edit)
        wait_until(lambda: waits_for_lock(superuser_connection), 10)
        other.execute(locked, [benelux.pk])
        other.commit()
        assert edited.result(20) == [None]
