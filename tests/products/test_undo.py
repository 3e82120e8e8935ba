"""Undo is a change of its own: it gives back what users held, to whom nothing else happened since (rule B10)."""

import uuid
from collections.abc import Iterator

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from notifications.models import Notification
from products import actions, queries
from products.catalogue import add_product
from products.models import AccessChange, BulkChange, Mode, Product, Seat
from tests.factories import NOW, change, give, held_by, limit, make_group, make_holders, make_user, make_users, product, run, undo
from tests.products.conftest import breaches
from users.models import Role, User


@pytest.fixture(autouse=True)
def nothing_is_broken(admin) -> Iterator[None]:
    """See to it that sets, history, counters, seats and emails agree after every story of this file."""
    yield
    assert breaches() == []


def counts(made: BulkChange) -> tuple[int, int, int, int]:
    return made.targets, made.changed, made.unchanged, made.skipped


def reasons(made: BulkChange) -> dict[int, str]:
    """Return why a change left users alone, by user."""
    return dict(made.skips.values_list("user_id", "reason"))


def owed() -> set[tuple[int, str, int]]:
    """Return every email that is owed: (user, kind, id of what it tells of)."""
    return set(Notification.objects.values_list("user", "kind", "about"))


# What comes back


@pytest.mark.parametrize("mode", [Mode.REPLACE, Mode.ADD, Mode.REMOVE])
def test_everybody_gets_back_exactly_what_they_held(admin, mode):
    before = [{"rescue", "central"}, {"meeting"}, {"rescue", "meeting", "webinar"}, set()]
    users = [give(make_user(), *codes) for codes in before]
    made = change(admin, users, "rescue", "webinar", mode=mode)
    assert [held_by(user) for user in users] != before

    undone = undo(admin, made)
    assert (undone.state, undone.mode, undone.undoes) == (BulkChange.State.FINISHED, Mode.UNDO, made)
    assert [held_by(user) for user in users] == before
    assert counts(undone) == (made.changed, made.changed, 0, 0)


def test_it_is_for_those_whom_the_change_changed_and_for_nobody_else(admin):
    changed, unchanged, stranger = make_user(), give(make_user(), "rescue"), give(make_user(), "rescue")
    undone = undo(admin, change(admin, [changed, unchanged], "rescue"))

    assert counts(undone) == (1, 1, 0, 0)
    assert held_by(unchanged) == held_by(stranger) == {"rescue"}


def test_who_changed_again_since_is_left_alone_and_listed(admin):
    grace, alan = give(make_user(), "central"), give(make_user(), "central")
    made = change(admin, [grace, alan], "rescue")
    change(admin, [alan], "meeting", mode=Mode.ADD)
    undone = undo(admin, made)

    assert (held_by(grace), held_by(alan)) == ({"central"}, {"rescue", "meeting"})
    assert counts(undone) == (2, 1, 0, 1)
    assert reasons(undone) == {alan.pk: "CHANGED_SINCE"}


def test_who_changed_since_and_back_again_holds_what_the_change_wrote_and_is_restored(admin):
    grace = give(make_user(), "central")
    made = change(admin, [grace], "rescue")
    change(admin, [grace])
    change(admin, [grace], "rescue")
    undo(admin, made)

    assert held_by(grace) == {"central"}


def test_who_is_as_before_already_gets_no_write_no_history_no_email(admin):
    grace = give(make_user(), "central")
    made = change(admin, [grace], "rescue", notify=False)
    change(admin, [grace], "central", notify=False)
    told_before = AccessChange.objects.count()
    undone = undo(admin, made, notify=True)

    assert counts(undone) == (1, 0, 1, 0)
    assert AccessChange.objects.count() == told_before
    assert owed() == set()


def test_who_is_gone_before_their_turn_is_listed(admin, in_batches):
    users = make_holders(4, "central")
    made = run(change(admin, users, "rescue"))
    undone = undo(admin, made)
    gone = users[3].pk
    users[3].delete()
    run(undone)

    assert counts(undone) == (4, 3, 0, 1)
    assert reasons(undone) == {gone: "GONE"}


def test_a_retired_product_does_not_come_back_but_goes(admin):
    loser, gainer = give(make_user(), "joinme"), make_user()
    lost, gained = change(admin, [loser]), change(admin, [gainer], "joinme")
    Product.objects.filter(code="joinme").update(retired_at=NOW)

    assert reasons(undo(admin, lost)) == {loser.pk: "RETIRED"}
    assert undo(admin, gained).changed == 1
    assert (held_by(loser), held_by(gainer)) == (set(), set())


def test_it_says_who_becomes_suspended_who_comes_back_and_what_moved(admin):
    coming, going = make_user(), give(make_user(), "rescue", "central")
    made = change(admin, [coming, going], "rescue")
    emptied = change(admin, [going])
    undone = undo(admin, emptied)
    assert (undone.suspended, undone.restored) == (0, 1)
    assert queries.moves(undone) == {product("rescue").pk: (1, 0, 0)}

    undone = undo(admin, made)
    assert (undone.suspended, undone.restored) == (1, 0)
    assert queries.moves(undone) == {product("rescue").pk: (0, 1, 0), product("central").pk: (1, 0, 0)}


def test_the_history_tells_of_the_undo_in_the_name_of_who_undid(admin):
    other, grace = make_user(role=Role.ADMIN), give(make_user(), "central")
    undone = undo(other, change(admin, [grace], "rescue"), reason="By mistake")
    row = AccessChange.objects.filter(user=grace).latest("id")

    assert (row.actor, row.change, undone.reason) == (other, undone, "By mistake")


# Emails


def test_it_is_silent_unless_told_otherwise(admin):
    users = [give(make_user(), "central"), make_user()]
    made = change(admin, users, "rescue", notify=False)
    undo(admin, made)
    assert owed() == set()

    made = change(admin, users, "rescue", notify=False)
    undone = undo(admin, made, notify=True)
    assert owed() == {(user.pk, "CHANGE", undone.pk) for user in users}


def test_nobody_is_welcomed_again_after_undo_and_redo(admin):
    grace = make_user()
    made = change(admin, [grace], "meeting", "webinar", notify=False)
    welcomed = owed()
    assert len(welcomed) == 2

    undone = undo(admin, made)
    redone = undo(admin, undone)
    change(admin, [grace], notify=False)
    change(admin, [grace], "meeting", "webinar", notify=False)
    assert owed() == welcomed
    assert [sum(onboarding for *_, onboarding in queries.moves(each).values()) for each in (made, undone, redone)] == [2, 0, 0]


def test_who_gets_a_product_back_that_they_held_before_the_console_is_not_welcomed(admin):
    grace = give(make_user(), "meeting")
    undo(admin, change(admin, [grace], notify=False))

    assert held_by(grace) == {"meeting"}
    assert owed() == set()


# Undone, and undone again


def test_an_undo_can_be_undone_and_that_again(admin):
    users = [give(make_user(), "central"), make_user()]
    made = change(admin, users, "rescue")
    for expected in ([{"central"}, set()], [{"rescue"}] * 2) * 2:
        made = undo(admin, made)
        assert [held_by(user) for user in users] == expected
        assert made.changed == 2


def test_undone_twice_by_two_admins_the_second_finds_nothing_to_do(admin):
    grace = give(make_user(), "central")
    made = change(admin, [grace], "rescue")
    undo(admin, made)
    again = undo(make_user(role=Role.ADMIN), made)

    assert counts(again) == (1, 0, 1, 0)
    assert held_by(grace) == {"central"}


def test_the_undo_of_an_undo_leaves_alone_whom_the_undo_left_alone(admin):
    grace, alan = give(make_user(), "central"), give(make_user(), "central")
    made = change(admin, [grace, alan], "rescue")
    change(admin, [alan], "meeting")
    redone = undo(admin, undo(admin, made))

    assert counts(redone) == (1, 1, 0, 0)
    assert (held_by(grace), held_by(alan)) == ({"rescue"}, {"meeting"})


def test_of_two_changes_the_later_is_undone_first(admin):
    grace = give(make_user(), "central")
    first = change(admin, [grace], "rescue")
    second = change(admin, [grace], "meeting", mode=Mode.ADD)
    assert reasons(undo(admin, first)) == {grace.pk: "CHANGED_SINCE"}

    undo(admin, second)
    assert undo(admin, first).changed == 1
    assert held_by(grace) == {"central"}


# Once, and refusals


def test_the_same_key_is_one_undo(admin):
    made, key = change(admin, [make_user()], "rescue"), uuid.uuid4()

    assert undo(admin, made, key=key) == undo(admin, made, key=key)
    assert BulkChange.objects.filter(mode=Mode.UNDO).count() == 1


@pytest.mark.parametrize("other", [{"notify": True}, {"reason": "other"}])
def test_the_same_key_with_other_content_is_refused(admin, other):
    made, key = change(admin, [make_user()], "rescue"), uuid.uuid4()
    undo(admin, made, key=key)
    with pytest.raises(actions.KeyReused):
        undo(admin, made, key=key, **other)


def test_the_key_of_the_change_itself_is_refused(admin):
    made = change(admin, [make_user()], "rescue")
    with pytest.raises(actions.KeyReused):
        undo(admin, made, key=made.key)


def test_a_change_that_goes_on_or_rests_cannot_be_undone(admin, in_batches):
    users = make_users(4)
    made = change(admin, users, "rescue")
    actions.advance_bulk_change(change_id=made.pk, now=NOW)
    with pytest.raises(actions.NotNow):
        undo(admin, made)
    actions.pause_change(actor=admin, change_id=made.pk)
    with pytest.raises(actions.NotNow):
        undo(admin, made)

    assert [held_by(user) for user in users] == [{"rescue"}] * 3 + [set()]
    assert BulkChange.objects.count() == 1


def test_a_change_that_changed_nobody_cannot_be_undone(admin):
    with pytest.raises(actions.NobodySelected):
        undo(admin, change(admin, [give(make_user(), "rescue")], "rescue"))


def test_above_the_threshold_the_number_is_typed(admin, settings):
    made = change(admin, [make_user(), make_user()], "rescue")
    settings.BULK_CONFIRM_ABOVE = 1
    with pytest.raises(actions.ConfirmationNeeded) as refused:
        undo(admin, made)

    assert refused.value.number == 2
    assert undo(admin, made, confirmed=2).changed == 2


def test_for_other_users_than_previewed_it_is_refused(admin):
    made = change(admin, [make_user(), make_user()], "rescue")
    with pytest.raises(actions.SelectionChanged) as refused:
        undo(admin, made, expected=3)

    assert (refused.value.previewed, refused.value.found) == (3, 2)


@pytest.mark.parametrize("role", [Role.MEMBER, Role.SUPPORT, Role.MANAGER])
def test_who_may_not_set_products_or_not_see_the_change_is_refused(admin, role):
    grace = make_user()
    made = change(admin, [grace], "rescue")
    with pytest.raises(actions.NotAllowed):
        undo(make_user(role=role), made)

    assert held_by(grace) == {"rescue"}


# Scope (S3, B12)


@pytest.fixture
def manager(admin) -> User:
    return make_user("Max Manager", role=Role.MANAGER, manages=[make_group("Sales")])


@pytest.fixture
def mine(manager) -> list[User]:
    """Return two users whom the manager manages."""
    return [give(make_user(groups=manager.managed_groups.all()), "central", "rescue") for _ in range(2)]


def test_a_manager_undoes_only_within_scope(manager, mine):
    made = change(manager, mine, "meeting")
    mine[1].memberships.all().delete()
    undone = undo(manager, made)

    assert counts(undone) == (1, 1, 0, 0)
    assert [held_by(user) for user in mine] == [{"central", "rescue"}, {"central", "meeting"}]


@pytest.mark.usefixtures("in_batches")
def test_who_leaves_the_scope_or_rises_above_the_manager_before_their_turn_is_listed(manager, mine):
    mine += [make_user(groups=manager.managed_groups.all()) for _ in range(2)]
    made = run(change(manager, mine, "meeting"))
    undone = undo(manager, made)
    mine[0].memberships.all().delete()
    User.objects.filter(pk=mine[3].pk).update(role=Role.ADMIN)
    run(undone)

    assert reasons(undone) == {mine[0].pk: "OUT_OF_SCOPE", mine[3].pk: "OUTRANKS"}
    assert [held_by(user) for user in mine] == [{"central", "meeting"}, {"central", "rescue"}, set(), {"meeting"}]


@pytest.mark.parametrize(
    ("before", "after"), [(["central", "rescue"], ["rescue"]), (["rescue"], ["central", "rescue"])], ids=["gain", "lose"]
)
def test_who_would_gain_or_lose_a_product_that_the_undoing_admin_may_not_set_is_left_alone(manager, mine, before, after):
    User.objects.filter(pk=manager.pk).update(role=Role.ADMIN)
    manager.refresh_from_db()
    touched, other = give(mine[0], *before), give(mine[1], "meeting")
    made = change(manager, [touched], *after)
    later = change(manager, [other], "rescue")
    User.objects.filter(pk=manager.pk).update(role=Role.MANAGER)
    manager.refresh_from_db()
    undone = undo(manager, made)

    assert reasons(undone) == {touched.pk: "NOT_ALLOWED"}
    assert held_by(touched) == set(after)
    assert undo(manager, later).changed == 1


@pytest.mark.usefixtures("in_batches")
@pytest.mark.parametrize(
    ("restricted", "ends"), [("notes", "FINISHED"), ("webinar", "FINISHED"), ("rescue", "PAUSED"), ("meeting", "PAUSED")]
)
def test_an_undo_pauses_when_a_product_goes_out_of_reach_that_the_change_moved_and_for_no_other(manager, restricted, ends):
    users = [give(make_user(groups=manager.managed_groups.all()), "rescue", "webinar") for _ in range(4)]
    undone = undo(manager, run(change(manager, users, "meeting", "webinar")))
    add_product(actor=make_user(role=Role.SUPER_ADMIN), name="Notes")
    Product.objects.filter(code=restricted).update(restricted=True)

    assert run(undone).state == ends
    before, after = {"rescue", "webinar"}, {"meeting", "webinar"}
    assert [held_by(user) for user in users] == [before if ends == "FINISHED" else after] * 4


def test_an_admin_who_may_no_longer_set_products_pauses_their_undo(admin, in_batches):
    made = run(change(admin, make_users(4), "rescue"))
    undone = undo(admin, made)
    User.objects.filter(pk=admin.pk).update(role=Role.SUPPORT)

    assert run(undone).state == BulkChange.State.PAUSED
    assert undone.changed == 0


# Seats (B9)


@pytest.mark.parametrize("size", ["small", "large"])
def test_seats_that_others_took_meanwhile_refuse_the_undo_with_the_exact_shortfall(admin, settings, size):
    settings.BULK_AT_ONCE = 1000 if size == "small" else 0
    users = make_holders(3, "rescue")
    made = run(change(admin, users, "meeting"))
    limit("rescue", 4)
    run(change(admin, [make_user(), make_user()], "rescue"))
    with pytest.raises(actions.SeatsShort, match="Rescue: 3 seats needed, 2 free, 1 missing"):
        undo(admin, made)

    assert [held_by(user) for user in users] == [{"meeting"}] * 3
    limit("rescue", 5)
    assert run(undo(admin, made)).changed == 3


@pytest.mark.parametrize("size", ["small", "large"])
def test_who_does_not_get_it_back_needs_no_seat(admin, settings, size):
    """Of three who lost a seat two get it back: one changed since, and one would get back a retired product too."""
    settings.BULK_AT_ONCE = 1000 if size == "small" else 0
    users = [give(make_user(), "rescue"), give(make_user(), "rescue"), give(make_user(), "rescue", "joinme")]
    made = run(change(admin, users))
    run(change(admin, users[:1], "central"))
    Product.objects.filter(code="joinme").update(retired_at=NOW)
    limit("rescue", 1)
    undone = run(undo(admin, made))

    assert reasons(undone) == {users[0].pk: "CHANGED_SINCE", users[2].pk: "RETIRED"}
    assert held_by(users[1]) == {"rescue"}


def test_a_large_undo_reserves_what_comes_back(admin, in_batches):
    users = make_holders(4, "rescue")
    made = run(change(admin, users))
    limit("rescue", 4)
    undone = undo(admin, made)
    assert Seat.objects.values_list("used", "reserved").get(product__code="rescue") == (0, 4)
    with pytest.raises(actions.SeatsShort):
        change(admin, [make_user()], "rescue")

    run(undone)
    assert Seat.objects.values_list("used", "reserved").get(product__code="rescue") == (4, 0)


# Large ones, and changes that did not reach everybody


def test_a_large_undo_runs_in_batches_with_true_numbers(admin, in_batches):
    users = [give(make_user(), "central") if n % 2 else make_user() for n in range(8)]
    made = run(change(admin, users, "rescue"))
    change(admin, users[7:], "meeting")
    undone = undo(admin, made)
    assert (undone.state, counts(undone)) == (BulkChange.State.RUNNING, (8, 0, 0, 0))

    assert actions.advance_bulk_change(change_id=undone.pk, now=NOW) is actions.Step.MORE
    undone.refresh_from_db()
    assert (counts(undone), undone.suspended) == ((8, 3, 0, 0), 2)
    assert breaches() == []

    run(undone)
    assert (undone.state, counts(undone), undone.suspended) == (BulkChange.State.FINISHED, (8, 7, 0, 1), 4)
    assert queries.moves(undone) == {product("rescue").pk: (0, 7, 0), product("central").pk: (3, 0, 0)}
    assert [held_by(user) for user in users] == [set(), {"central"}] * 3 + [set(), {"meeting"}]


def test_the_undo_of_a_cancelled_change_touches_only_who_was_changed(admin, in_batches):
    users = make_holders(5, "central")
    made = change(admin, users, "rescue")
    actions.advance_bulk_change(change_id=made.pk, now=NOW)
    actions.cancel_change(actor=admin, change_id=made.pk, now=NOW)
    undone = run(undo(admin, made))

    assert counts(undone) == (3, 3, 0, 0)
    assert all(held_by(user) == {"central"} for user in users)


def test_the_undo_of_a_failed_change_touches_only_who_was_changed(admin, in_batches, poison):
    users = make_holders(5, "central")
    poison(users[1])
    made = run(change(admin, users, "rescue"))
    assert (made.state, made.changed) == (BulkChange.State.FAILED, 4)

    undone = run(undo(admin, made))
    assert (undone.state, counts(undone)) == (BulkChange.State.FINISHED, (4, 4, 0, 0))
    assert all(held_by(user) == {"central"} for user in users)


def test_a_cancelled_undo_can_be_undone_and_then_done_again(admin, in_batches):
    users = make_holders(5, "central")
    made = run(change(admin, users, "rescue"))
    undone = undo(admin, made)
    actions.advance_bulk_change(change_id=undone.pk, now=NOW)
    actions.cancel_change(actor=admin, change_id=undone.pk, now=NOW)
    assert [held_by(user) for user in users] == [{"central"}] * 3 + [{"rescue"}] * 2

    run(undo(admin, undone))
    assert all(held_by(user) == {"rescue"} for user in users)
    assert run(undo(admin, made)).changed == 5


@pytest.mark.parametrize("mode", [Mode.REPLACE, Mode.ADD, Mode.REMOVE, Mode.UNDO])
def test_a_batch_costs_the_same_for_few_and_many(admin, settings, mode):
    settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE = 0, 1000
    limit("rescue", 1000)

    def statements(size: int) -> int:
        users = [give(make_user(), "central", "webinar") if n % 2 else make_user() for n in range(size)]
        if mode == Mode.UNDO:
            made = undo(admin, run(change(admin, users, "meeting", "rescue")))
        else:
            made = change(admin, users, "meeting", "rescue", "central", mode=mode)
        with CaptureQueriesContext(connection) as captured:
            run(made)
        assert made.is_over
        return len(captured)

    assert statements(4) == statements(60)
