"""The organisation moves under a change: users come, go and change groups, admins want the opposite, and others hold locks."""

import time

import pytest
from django.utils import timezone

from products import actions
from products.models import BulkChange
from products.queries import skipped_by_reason
from tests.factories import make_group, make_user
from tests.faults.house import APPLY, LOCK_ONE, LONG, House, Visitor, form, held
from tests.processes import wait_until
from users.models import GroupMembership, Role, User
from users.queries import UserFilter

pytestmark = [pytest.mark.faults, pytest.mark.slow]


def test_a_form_whose_users_came_or_went_since_the_preview_applies_nothing(house: House, admin: User) -> None:
    visitor, group, people = Visitor(house, admin.email), make_group(), house.people(41, "rescue")
    posted = form(admin, [], "meeting") | {"expected": 40}
    actions.select_everyone(owner=admin, wanted=UserFilter(group=(group.pk,)), now=timezone.now())
    GroupMembership.objects.bulk_create(GroupMembership(user_id=number, group=group) for number in people)

    assert visitor.insists(APPLY, **posted).status == 422  # one has come
    house.rows("DELETE FROM users_user WHERE id = ANY(%s)", people[:2])
    assert visitor.insists(APPLY, **posted).status == 422  # two are gone
    assert not BulkChange.objects.filter(key=posted["key"]).exists()
    house.assert_well()

    made = visitor.insists(APPLY, **posted | {"expected": 39}).change()
    house.settled(made)
    assert made.changed == 39


def test_users_who_leave_and_move_while_a_change_runs_are_told_apart(house: House) -> None:
    group, elsewhere = make_group(), make_group()
    manager = make_user(role=Role.MANAGER, manages=[group])
    people = house.people(120, "rescue")
    GroupMembership.objects.bulk_create(GroupMembership(user_id=number, group=group) for number in people)
    first, rest = people[0], people[1:]
    gone, moved, late = rest[:7], rest[7:20], rest[-30:]
    with held(house, LOCK_ONE, first):
        made = house.ask(manager, people, "meeting")
        wait_until(house.waiting_for_locks, 10, "the change waiting for a lock")
        house.rows("DELETE FROM users_user WHERE id = ANY(%s)", gone)
        house.rows("UPDATE users_groupmembership SET group_id = %s WHERE user_id = ANY(%s)", elsewhere.pk, moved)
        came = house.people(5, "rescue")  # too late to be a target
    for number in late:  # And while it runs, each meets the change before or after its batch.
        house.rows("DELETE FROM users_user WHERE id = %s", number)

    house.settled(made)
    skipped = skipped_by_reason(made)
    assert skipped["OUT_OF_SCOPE"] == len(moved)
    assert len(gone) <= skipped["GONE"] <= len(gone) + len(late)
    assert made.changed == 120 - made.skipped
    assert house.rows("SELECT count(*) FROM products_accesschange WHERE change_id = %s AND user_id = ANY(%s)", made.pk, came) == [
        (0,)
    ]


def test_opposite_changes_of_the_same_users_in_other_batches_end_in_their_order(house: House, settings: object) -> None:
    one, other, people = make_user(role=Role.ADMIN), make_user(role=Role.ADMIN), house.people(300 if LONG else 70, "rescue")
    wanted = [("meeting", "webinar"), (), ("rescue",), ("webinar",)]
    made: list[BulkChange] = []
    for actor, size, codes, some in zip(
        [one, other] * 2, [7, 11, 3, 13], wanted, [people, people[20:], people[:-20], people], strict=True
    ):
        settings.BULK_BATCH_SIZE = size  # type: ignore[attr-defined]
        made.append(house.ask(actor, some, *codes))

    house.settled(*made, seconds=120)
    assert house.rows("SELECT DISTINCT products FROM products_productaccess WHERE user_id = ANY(%s)", people) == [
        (made[-1].products,)
    ]


@pytest.mark.parametrize("statement", [LOCK_ONE, "LOCK TABLE products_productaccess IN ACCESS EXCLUSIVE MODE"])
def test_a_change_waits_for_a_lock_and_then_finishes(house: House, statement: str) -> None:
    people = house.people(120, "rescue")
    made = house.ask(make_user(role=Role.ADMIN), people, "meeting")
    wait_until(lambda: house.done(made) > 0, 20, "the beginning of the change")
    with held(house, statement, *people[-1:] * statement.count("%s")):
        wait_until(house.waiting_for_locks, 20, "the change waiting for the lock")
        time.sleep(60 if LONG else 1)
        assert house.rows("SELECT state FROM products_bulkchange WHERE id = %s", made.pk) == [("RUNNING",)]
    since = time.monotonic()

    house.resumes(made, after="holder of a lock", done=house.done(made), since=since)
    house.settled(made)
    assert house.rows("SELECT error FROM products_bulkchangebatch WHERE change_id = %s AND error <> ''", made.pk) == []
