"""The course of a bulk change: cancelled, paused and resumed, and what becomes of users whom the database refuses to change."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.utils import timezone, translation

from products import actions, queries, running
from products.batch import LostClaim
from products.models import AccessChange, BulkChange, BulkChangeBatch, Entitlement, Mode, Seat, SeatReservation
from products.pauses import pause_of
from tests.factories import NOW, change, give, held_by, limit, make_group, make_user, make_users, not_reached, product, run, undo
from tests.processes import wait_until
from tests.products.conftest import breaches
from users.models import Role, User

State = BulkChange.State


@pytest.fixture(autouse=True)
def nothing_is_broken(admin) -> Iterator[None]:
    """See to it that sets, history, counters, seats and emails agree after every story of this file."""
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


# Cancel


def test_a_cancelled_change_keeps_what_is_done_and_reaches_nobody_else(admin, users, in_batches):
    made = cancel(admin, step(change(admin, users, "rescue"), 2))

    assert (made.state, made.state_by, made.finished_at) == (State.CANCELLED, admin, NOW)
    assert run(made).state == State.CANCELLED
    assert holders(users, "rescue") == [0, 1, 2, 3, 4, 5]
    assert made.moves.get().gained == 6


def test_it_says_exactly_who_was_and_was_not_reached(admin, users, in_batches):
    give(users[0], "rescue")
    made = change(admin, users, "rescue")
    gone, users[1].pk = users[1].pk, None
    User.objects.filter(pk=gone).delete()
    made = cancel(admin, step(made))

    assert counts(made) == (8, 1, 1, 1, 5)
    assert made.reached + made.not_reached == made.targets
    everybody_else = [user.pk for user in users[3:]]
    assert not_reached(made) == everybody_else
    assert queries.skipped_by_reason(made) == {"GONE": 1}


def test_a_change_can_be_cancelled_before_anybody_was_reached(admin, users, in_batches):
    made = cancel(admin, change(admin, users, "rescue"))

    assert counts(made) == (8, 0, 0, 0, 8)
    assert not AccessChange.objects.exists()


def test_a_paused_change_can_be_cancelled(admin, users, in_batches):
    made = step(change(admin, users, "rescue"))
    actions.pause_change(actor=admin, change_id=made.pk)

    assert counts(cancel(admin, made)) == (8, 3, 0, 0, 5)


def test_a_cancelled_change_gives_its_seats_back(admin, users, in_batches):
    limit("rescue", 10)
    made = step(change(admin, users, "rescue"))
    assert seats("rescue") == (3, 5)

    cancel(admin, made)
    assert seats("rescue") == (3, 0)
    assert not SeatReservation.objects.exists()
    assert change(admin, users[3:5], "rescue").changed == 2


def test_who_was_to_be_left_out_is_not_reached_when_the_change_is_cancelled(admin, users, in_batches):
    limit("rescue", 4)
    made = cancel(admin, step(change(admin, users, "rescue", until_full=True)))

    assert counts(made) == (8, 3, 0, 0, 5)
    assert queries.skipped_by_reason(made) == {}
    assert not_reached(made) == [user.pk for user in users[3:]]


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume", "retry"])
def test_a_cancelled_change_is_over_for_good(admin, users, in_batches, verb):
    made = cancel(admin, change(admin, users, "rescue"))
    verbs = {
        "cancel": lambda: cancel(admin, made),
        "pause": lambda: actions.pause_change(actor=admin, change_id=made.pk),
        "resume": lambda: actions.resume_change(actor=admin, change_id=made.pk),
        "retry": lambda: actions.retry_failed(actor=admin, change_id=made.pk),
    }
    with pytest.raises(actions.NotNow):
        verbs[verb]()


def test_a_finished_change_cannot_be_cancelled(admin, users):
    made = change(admin, users, "rescue")
    with pytest.raises(actions.NotNow):
        cancel(admin, made)

    made.refresh_from_db()
    assert made.state == State.FINISHED


def test_later_overlapping_changes_go_on_once_it_is_cancelled(admin, users, in_batches):
    first, second = change(admin, users, "rescue"), change(admin, users, "central")
    assert actions.advance_bulk_change(change_id=second.pk, now=NOW) is actions.Step.WAIT

    cancel(admin, first)
    assert run(second).changed == 8


# Cancel, while a worker is at work: each in a connection of its own


def in_the_background(work: Any) -> tuple[threading.Thread, list[Any]]:
    """Start some work in a thread with a connection of its own; return the thread, and where to find what came out."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(work())
        except Exception as error:
            outcome.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def waits_for(watcher: psycopg.Connection, query: str) -> bool:
    """Return whether some statement that contains this text waits for a lock."""
    found = watcher.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
        "AND strpos(query, %s) > 0",
        [query],
    ).fetchone()
    watcher.rollback()
    return found != (0,)


def test_a_batch_that_is_being_applied_when_the_change_is_cancelled_counts_as_done(
    committed_db, admin, users, in_batches, superuser_connection
):
    made = change(admin, users, "rescue")
    with psycopg.connect(committed_db.console) as other:  # holds the worker up after it has its batch, at the counters
        other.execute("SELECT 1 FROM products_bulkchange WHERE id = %s FOR UPDATE", [made.pk])
        working, applied = in_the_background(lambda: actions.advance_bulk_change(change_id=made.pk, now=NOW))
        wait_until(lambda: waits_for(superuser_connection, "UPDATE products_bulkchange SET"), 10)
        cancelling, cancelled = in_the_background(lambda: cancel(admin, made))
        wait_until(lambda: waits_for(superuser_connection, "CANCELLED"), 10)
    working.join(30)
    cancelling.join(30)

    assert counts(cancelled[0]) == (8, 3, 0, 0, 5)
    assert holders(users, "rescue") == [0, 1, 2]
    assert applied[0] in (actions.Step.MORE, actions.Step.OVER)


@pytest.mark.parametrize("verb", ["cancel", "pause"])
def test_who_steers_a_change_does_not_wait_for_ever_for_a_batch_that_is_held_up(
    committed_db, admin, users, in_batches, monkeypatch, verb
):
    monkeypatch.setattr(actions, "PATIENCE", "100ms")
    made = change(admin, users, "rescue")
    steer = {"cancel": lambda: cancel(admin, made), "pause": lambda: actions.pause_change(actor=admin, change_id=made.pk)}[verb]
    with psycopg.connect(committed_db.console) as other:
        other.execute("SELECT 1 FROM products_bulkchangebatch WHERE change_id = %s FOR UPDATE", [made.pk])
        with pytest.raises(actions.NotNow, match="Try again later"):
            steer()
    made.refresh_from_db()
    assert (made.state, made.state_by) == (State.RUNNING, None)
    assert steer().state_by == admin


def test_a_batch_that_is_not_begun_when_the_change_is_cancelled_is_lost_as_a_whole(
    committed_db, admin, users, in_batches, superuser_connection
):
    made = change(admin, users, "rescue", "meeting")
    batch = running._claim(made)
    assert batch is not None
    with psycopg.connect(committed_db.console) as other:  # holds the worker up before it has the users of its batch
        other.execute("SELECT 1 FROM products_productaccess WHERE user_id = %s FOR UPDATE", [users[1].pk])
        working, applied = in_the_background(lambda: running._apply_claimed(made, batch))
        wait_until(lambda: waits_for(superuser_connection, "FOR NO KEY UPDATE"), 10)
        cancelled = cancel(admin, made)
    working.join(30)

    assert isinstance(applied[0], LostClaim)
    assert counts(cancelled) == (8, 0, 0, 0, 8)
    assert holders(users, "rescue") == []
    assert not AccessChange.objects.exists()


@pytest.mark.parametrize("verb", ["pause and resume", "cancel"])
def test_no_deadlock_surfaces_however_often_a_change_is_steered_while_workers_are_at_it(committed_db, admin, settings, verb):
    settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE = 0, 1
    made = change(admin, make_users(20), "rescue")

    def work() -> None:
        while not BulkChange.objects.get(pk=made.pk).is_over:
            actions.advance_bulk_change(change_id=made.pk, now=NOW)

    workers = [in_the_background(work) for _ in range(3)]
    wait_until(lambda: BulkChange.objects.get(pk=made.pk).reached >= 3, 10)
    with suppress(actions.NotNow):  # it may be over first
        for _ in range(10 if verb == "pause and resume" else 0):
            actions.pause_change(actor=admin, change_id=made.pk)
            actions.resume_change(actor=admin, change_id=made.pk)
        if verb == "cancel":
            cancel(admin, made)
    for worker, _outcome in workers:
        worker.join(30)

    made.refresh_from_db()
    assert [outcome for _worker, outcome in workers] == [[None]] * 3
    assert made.is_over
    assert made.reached + made.not_reached == 20 == made.reached + len(not_reached(made))


# Pause and resume


def test_a_paused_change_rests_until_it_is_resumed(admin, users, in_batches):
    made = step(change(admin, users, "rescue"))
    paused = actions.pause_change(actor=admin, change_id=made.pk)
    assert (paused.state, paused.state_by, queries.stalled()) == (State.PAUSED, admin, [])
    assert actions.advance_bulk_change(change_id=made.pk, now=NOW) is actions.Step.OVER
    assert holders(users, "rescue") == [0, 1, 2]

    resumed = actions.resume_change(actor=admin, change_id=made.pk)
    made.batches.update(done_at=None)  # its last batch was done a while ago
    assert (resumed.state, queries.stalled()) == (State.RUNNING, [made.pk])
    assert counts(run(made)) == (8, 8, 0, 0, 0)
    assert made.state == State.FINISHED


def test_a_paused_change_keeps_its_seats(admin, users, in_batches):
    limit("rescue", 8)
    made = step(change(admin, users, "rescue"))
    actions.pause_change(actor=admin, change_id=made.pk)
    with pytest.raises(actions.SeatsShort):
        change(admin, [make_user()], "rescue")

    actions.resume_change(actor=admin, change_id=made.pk)
    assert run(made).changed == 8


def test_a_batch_that_is_claimed_and_not_begun_when_the_change_is_paused_waits_with_it(admin, users, in_batches):
    made = step(change(admin, users, "rescue"))
    claimed = running._claim(made)
    actions.pause_change(actor=admin, change_id=made.pk)
    assert claimed is not None
    with pytest.raises(LostClaim):
        running._apply_claimed(made, claimed)
    assert holders(users, "rescue") == [0, 1, 2]

    actions.resume_change(actor=admin, change_id=made.pk)
    assert counts(run(made)) == (8, 8, 0, 0, 0)


def test_a_change_paused_during_its_last_batch_is_finished(admin, users, in_batches):
    made = step(change(admin, users, "rescue"), 3)
    actions.pause_change(actor=admin, change_id=made.pk)
    assert step(made).state == State.FINISHED

    assert (made.finished_at, counts(made)) == (NOW, (8, 8, 0, 0, 0))


def test_only_a_running_change_is_paused_and_only_a_paused_one_resumed(admin, users, in_batches):
    made = change(admin, users, "rescue")
    with pytest.raises(actions.NotNow):
        actions.resume_change(actor=admin, change_id=made.pk)
    actions.pause_change(actor=admin, change_id=made.pk)
    with pytest.raises(actions.NotNow):
        actions.pause_change(actor=admin, change_id=made.pk)
    actions.resume_change(actor=admin, change_id=made.pk)
    run(made)
    for verb in (actions.pause_change, actions.resume_change):
        with pytest.raises(actions.NotNow):
            verb(actor=admin, change_id=made.pk)


def test_a_paused_change_does_not_hold_back_later_ones_and_comes_first_again_when_resumed(admin, users, in_batches):
    first, second = change(admin, users, "rescue"), change(admin, users, "central")
    actions.pause_change(actor=admin, change_id=first.pk)
    step(second)
    assert holders(users, "central") == [0, 1, 2]

    actions.resume_change(actor=admin, change_id=first.pk)
    assert actions.advance_bulk_change(change_id=second.pk, now=NOW) is actions.Step.WAIT
    run(first)
    run(second)
    assert [sorted(held_by(user)) for user in users] == [["rescue"]] * 3 + [["central"]] * 5


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume", "retry"])
def test_only_who_asked_for_a_change_or_an_admin_who_sees_all_may_steer_it(admin, in_batches, verb):
    sales = make_group("Sales")
    manager = make_user(role=Role.MANAGER, manages=[sales])
    made = change(manager, [make_user(groups=[sales]) for _ in range(4)], "rescue")
    states = {"resume": State.PAUSED, "retry": State.FAILED}

    def steer(actor: User) -> BulkChange:
        BulkChange.objects.filter(pk=made.pk).update(state=states.get(verb, State.RUNNING), skipped=int(verb == "retry"))
        made.batches.filter(n=1).update(state="FAILED" if verb == "retry" else "WAITING")
        if verb == "cancel":
            return cancel(actor, made)
        action = {"pause": actions.pause_change, "resume": actions.resume_change, "retry": actions.retry_failed}[verb]
        return action(actor=actor, change_id=made.pk)

    strangers = [make_user(role=role) for role in (Role.MEMBER, Role.SUPPORT)]
    strangers += [make_user(role=Role.MANAGER, manages=[sales]), make_user(role=Role.ADMIN, is_active=False)]
    for stranger in strangers:
        with pytest.raises(actions.NotAllowed):
            steer(stranger)
    for actor in (manager, admin) if verb != "cancel" else (admin,):
        assert steer(actor).state_by == actor


# Users whom the database refuses to change


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
