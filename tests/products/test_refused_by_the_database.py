"""What becomes of users whom the database refuses to change, of their batches, and of the change."""

import pytest
from django.utils import timezone, translation

from products import actions, queries, running
from products.models import BulkChange, BulkChangeBatch, Mode
from products.pauses import pause_of
from tests.factories import change, give, limit, make_user, make_users, not_reached, product, run, undo
from tests.products.conftest import breaches, cancel, counts, holders, seats, step
from users.models import Role, User

pytestmark = pytest.mark.usefixtures("nothing_is_broken")
State = BulkChange.State


def test_poison_users_are_found_and_everybody_else_is_changed(admin, settings, poison):
    settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE = 0, 30
    users = make_users(60)
    poison(users[4], words="Not this one.")
    poison(users[29], words="Nor that one.\nFor a long reason.")
    made = run(change(admin, users, "meeting"))

    assert (made.state, counts(made)) == (State.FAILED, (60, 58, 0, 2, 0))
    assert list(made.skips.order_by("user_id").values_list("user_id", "reason", "detail")) == [
        (users[4].pk, "FAILED", "Not this one."),
        (users[29].pk, "FAILED", "Nor that one."),
    ]
    assert holders(users, "meeting") == [place for place in range(60) if place not in (4, 29)]
    assert queries.moves(made) == {product("meeting").pk: (58, 0, 58)}


def test_a_batch_that_is_refused_is_split_into_ten_until_one_user_is_left(admin, settings, poison):
    settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE = 0, 100
    users = make_users(100)
    poison(users[55])
    made = run(change(admin, users, "rescue"))

    sizes = made.batches.order_by("depth", "n").values_list("depth", "size", "state")
    assert [each for each in sizes if each[2] != "DONE"] == [(0, 100, "SPLIT"), (1, 10, "SPLIT"), (2, 1, "FAILED")]
    assert [made.batches.filter(depth=depth).count() for depth in (0, 1, 2)] == [1, 10, 10]


def test_a_poison_user_in_a_small_change_is_found_by_the_worker(admin, users, poison):
    limit("rescue", 10)
    poison(users[2])
    made = change(admin, users, "rescue")
    assert (made.state, counts(made), seats("rescue")) == (State.RUNNING, (8, 0, 0, 0, 8), (0, 8))

    run(made)
    assert (made.state, counts(made), seats("rescue")) == (State.FAILED, (8, 7, 0, 1, 0), (7, 0))
    assert holders(users, "rescue") == [0, 1, 3, 4, 5, 6, 7]


def test_the_log_tells_no_values_of_rows_that_the_database_refused(admin, users, poison, caplog):
    poison(users[0], words="Refused.\nFailing row contains (7, somebody).")
    step(change(admin, users, "rescue"))

    assert [record.error for record in caplog.records if record.message == "batch_failed"] == ["Refused.", "Refused."]


def test_a_poison_user_who_needs_no_change_does_no_harm(admin, users, poison):
    give(users[2], "rescue")
    poison(users[2])

    assert counts(change(admin, users, "rescue")) == (8, 7, 1, 0, 0)


def test_a_poison_user_cannot_spoil_an_undo(admin, users, in_batches, poison):
    made = run(change(admin, users, "rescue"))
    poison(users[7])
    undone = run(undo(admin, made))

    assert (undone.state, counts(undone)) == (State.FAILED, (8, 7, 0, 1, 0))
    assert holders(users, "rescue") == [7]


def test_who_failed_can_be_tried_again_once_the_cause_is_gone(admin, users, in_batches, poison):
    limit("rescue", 8)
    poison(users[2], users[4])
    made = run(change(admin, users, "rescue"))
    assert seats("rescue") == (6, 0)

    again = actions.retry_failed(actor=admin, change_id=made.pk)
    assert (again.state, counts(again), again.finished_at) == (State.RUNNING, (8, 6, 0, 0, 2), None)
    assert run(again).state == State.FAILED  # they are poison still
    poison.heal()
    run(actions.retry_failed(actor=admin, change_id=made.pk))
    made.refresh_from_db()
    assert (made.state, counts(made), seats("rescue")) == (State.FINISHED, (8, 8, 0, 0, 0), (8, 0))
    assert queries.skipped_by_reason(made) == {}


def test_who_is_tried_again_when_no_seat_is_left_keeps_what_they_had(admin, users, in_batches, poison):
    limit("rescue", 8)
    poison(users[2])
    made = run(change(admin, users, "rescue"))
    change(admin, [make_user()], "rescue")
    poison.heal()
    again = run(actions.retry_failed(actor=admin, change_id=made.pk))

    assert (again.state, counts(again)) == (State.FINISHED, (8, 7, 0, 1, 0))
    assert queries.skipped_by_reason(again) == {"NO_SEAT": 1}


def test_a_change_that_failed_and_was_cancelled_is_cancelled(admin, users, in_batches, poison):
    poison(users[0])
    made = step(change(admin, users, "rescue"), 5)
    assert made.skipped == 1

    cancelled = cancel(admin, made)
    assert (cancelled.state, cancelled.reached + len(not_reached(cancelled))) == (State.CANCELLED, 8)


def test_who_failed_in_a_cancelled_change_can_be_tried_again_and_nobody_else_is_reached(admin, users, in_batches, poison):
    limit("rescue", 8)
    poison(users[0])
    made = cancel(admin, step(change(admin, users, "rescue"), 5))
    assert (counts(made), not_reached(made)) == ((8, 5, 0, 1, 2), [users[1].pk, users[2].pk])

    again = actions.retry_failed(actor=make_user(role=Role.ADMIN), change_id=made.pk)
    assert (again.state, counts(again), queries.waiting_users(again)) == (State.RUNNING, (8, 5, 0, 0, 3), 1)
    assert (run(made).state, made.state_by, made.skipped) == (State.CANCELLED, admin, 1)  # it is poison still
    poison.heal()
    actions.retry_failed(actor=admin, change_id=made.pk)
    assert (run(made).state, counts(made), seats("rescue")) == (State.CANCELLED, (8, 6, 0, 0, 2), (6, 0))
    assert not_reached(made) == [users[1].pk, users[2].pk]
    with pytest.raises(actions.NotNow, match="nobody left"):
        actions.retry_failed(actor=admin, change_id=made.pk)
    assert run(undo(admin, made)).changed == 6


def test_a_change_that_pauses_while_some_have_failed_goes_on_with_the_rest_and_then_tries_them_again(
    admin, users, in_batches, poison
):
    poison(users[0])
    made = step(change(admin, users, "rescue"), 5)
    actions.pause_change(actor=admin, change_id=made.pk)
    with pytest.raises(actions.NotNow, match="Paused"):
        actions.retry_failed(actor=admin, change_id=made.pk)
    actions.resume_change(actor=admin, change_id=made.pk)
    assert (run(made).state, counts(made)) == (State.FAILED, (8, 7, 0, 1, 0))

    poison.heal()
    actions.pause_change(actor=admin, change_id=actions.retry_failed(actor=admin, change_id=made.pk).pk)
    assert (run(made).state, counts(made)) == (State.PAUSED, (8, 7, 0, 0, 1))
    actions.resume_change(actor=admin, change_id=made.pk)
    assert (run(made).state, counts(made)) == (State.FINISHED, (8, 8, 0, 0, 0))


def test_while_a_batch_waits_for_the_database_the_others_go_on(admin, users, in_batches, poison):
    poison(users[1], words="not now", code="lock_not_available")
    made = run(change(admin, users, "rescue"))
    assert (made.state, counts(made)) == (State.RUNNING, (8, 5, 0, 0, 3))
    waiting = made.batches.get(state="WAITING")
    assert (waiting.n, waiting.attempts, waiting.error.partition("\n")[0]) == (0, 1, "not now")
    assert waiting.lease_until is not None
    assert waiting.lease_until > timezone.now()

    poison.heal()
    made.batches.update(lease_until=None)
    assert run(made).state == State.FINISHED


def test_a_batch_that_the_database_cannot_do_five_times_is_split(admin, users, in_batches, poison):
    poison(users[1], words="never now", code="lock_not_available")
    made = change(admin, users, "rescue")
    for _ in range(2 * running.ATTEMPTS):  # as a batch of three, then alone
        run(made)
        made.batches.update(lease_until=None)

    assert (made.state, counts(made)) == (State.FAILED, (8, 7, 0, 1, 0))
    assert made.skips.get().detail == "never now"


# A change that pauses by itself


def test_a_full_disk_pauses_the_change_and_harms_nobody(admin, users, in_batches, poison):
    made = step(change(admin, users, "rescue"))
    poison(users[4], words="could not extend file: no space left", code="disk_full")
    run(made)
    assert (made.state, made.state_by, counts(made)) == (State.PAUSED, None, (8, 3, 0, 0, 5))
    assert str(pause_of(made)) == "The database has no room left: could not extend file: no space left"
    with translation.override("de"):
        assert str(pause_of(made)) == "Die Datenbank hat keinen Speicherplatz mehr: could not extend file: no space left"
    assert holders(users, "rescue") == [0, 1, 2]

    poison.heal()
    actions.resume_change(actor=admin, change_id=made.pk)
    assert (run(made).state, pause_of(made), counts(made)) == (State.FINISHED, None, (8, 8, 0, 0, 0))


def test_many_batches_that_fail_pause_the_change_and_resumed_it_counts_anew(admin, settings, poison):
    settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE = 0, 2
    users = make_users(16)
    poison(*users[0:10:2], words="Something is wrong.")
    made = run(change(admin, users, "rescue"))
    assert (made.state, made.failures, made.state_by) == (State.PAUSED, 3, None)
    assert str(pause_of(made)) == "3 of 8 batches failed. The database said: Something is wrong."
    assert made.reached == 0
    assert made.batches.filter(state="SPLIT").count() == 2  # the third waits as a whole

    resumed = actions.resume_change(actor=admin, change_id=made.pk)
    assert (resumed.failures, pause_of(resumed)) == (0, None)
    assert (run(made).state, made.failures) == (State.PAUSED, 3)
    actions.resume_change(actor=admin, change_id=made.pk)
    assert (run(made).state, counts(made)) == (State.FAILED, (16, 11, 0, 5, 0))


@pytest.mark.parametrize(("failing", "batches"), [(2, 2), (3, 60)], ids=["two of two", "one in twenty"])
def test_few_batches_that_fail_do_not_pause_a_change(admin, settings, poison, failing, batches):
    settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE = 0, 2
    users = make_users(2 * batches)
    poison(*users[: 2 * failing : 2])
    made = step(change(admin, users, "rescue"), 2 * failing)  # each is tried twice

    assert (made.state, made.failures) == (State.RUNNING, failing)


# What is left of a batch that was split, when the change goes another way


def test_parts_of_a_batch_are_cancelled_with_the_change(admin, settings, poison):
    settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE = 0, 20
    users = make_users(20)
    poison(users[19])
    made = cancel(admin, step(change(admin, users, "rescue"), 5))  # one that fails twice, then three parts of two

    assert (made.state, counts(made)) == (State.CANCELLED, (20, 6, 0, 0, 14))
    assert not_reached(made) == [user.pk for user in users[6:]]
    assert run(undo(admin, made)).changed == 6
    assert not made.batches.filter(state=BulkChangeBatch.State.WAITING).exists()


@pytest.mark.parametrize("mode", [Mode.REPLACE, Mode.ADD, Mode.REMOVE, Mode.UNDO])
def test_numbers_are_true_after_a_troubled_course(admin, settings, poison, mode):
    """Some are unchanged, one is gone, one is poison; paused, resumed and cancelled near the end."""
    settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE = 0, 4
    users = [give(make_user(), *[(), ("rescue",), ("rescue", "webinar"), ("central",)][n % 4]) for n in range(24)]
    if mode == Mode.UNDO:
        made = undo(admin, run(change(admin, users, "rescue", "meeting")))
    else:
        made = change(admin, users, "rescue", "meeting", mode=mode)
    poison(users[5])
    User.objects.filter(pk=users[9].pk).delete()
    step(made, 3)
    assert breaches() == []
    actions.pause_change(actor=admin, change_id=made.pk)
    actions.resume_change(actor=admin, change_id=made.pk)
    made = cancel(admin, step(made, 6))

    assert (made.targets, made.skipped) == (24, 2)
    assert made.reached + len(not_reached(made)) == 24
    assert queries.skipped_by_reason(made) == {"FAILED": 1, "GONE": 1}
