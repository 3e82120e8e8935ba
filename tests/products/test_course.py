"""The course of a bulk change: cancelled, paused and resumed."""

import threading
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from django.db import connection

from products import actions, queries, running
from products.batch import LostClaim
from products.models import AccessChange, BulkChange, SeatReservation
from tests.factories import NOW, change, give, held_by, limit, make_group, make_user, make_users, not_reached, run
from tests.processes import wait_until
from tests.products.conftest import REFUSE, Poison, cancel, counts, holders, seats, step
from users.models import Role, User

pytestmark = pytest.mark.usefixtures("nothing_is_broken")
State = BulkChange.State


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


def test_the_parts_of_a_batch_that_is_split_while_the_change_is_cancelled_are_cancelled_too(
    committed_db, admin, users, in_batches, superuser_connection
):
    made = change(admin, users, "rescue")
    batch = running._claim(made)
    assert batch is not None
    with psycopg.connect(committed_db.console) as other:  # holds the split up after it has its batch, at the change
        other.execute("SELECT 1 FROM products_bulkchange WHERE id = %s FOR UPDATE", [made.pk])
        splitting, split = in_the_background(lambda: running._divide(batch, "refused"))
        wait_until(lambda: waits_for(superuser_connection, "FOR UPDATE"), 10)
        cancelling, cancelled = in_the_background(lambda: cancel(admin, made))
        wait_until(lambda: waits_for(superuser_connection, "CANCELLED"), 10)
    splitting.join(30)
    cancelling.join(30)

    assert split == [actions.Step.MORE]
    assert counts(cancelled[0]) == (8, 0, 0, 0, 8)
    assert {(parts.state, parts.depth) for parts in made.batches.all()} == {("SPLIT", 0), ("CANCELLED", 0), ("CANCELLED", 1)}


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


def test_who_tries_again_whom_a_change_failed_for_is_told_of_no_deadlock(
    committed_db, admin, users, in_batches, superuser_connection
):
    with psycopg.connect(committed_db.owner) as owner:
        owner.execute(REFUSE)
    Poison()(users[0])
    made = run(change(admin, users, "rescue"))
    Poison().heal()
    with psycopg.connect(committed_db.console) as other:  # each waits for the other, until the database ends who waited first
        other.execute("SELECT 1 FROM products_bulkchangebatch WHERE change_id = %s FOR UPDATE", [made.pk])
        trying, tried = in_the_background(lambda: actions.retry_failed(actor=admin, change_id=made.pk))
        wait_until(lambda: waits_for(superuser_connection, 'UPDATE "products_bulkchangebatch"'), 10)
        other.execute("SELECT 1 FROM products_bulkchange WHERE id = %s FOR UPDATE", [made.pk])
    trying.join(30)

    assert [(again.state, counts(again)) for again in tried] == [(State.RUNNING, (8, 7, 0, 0, 1))]
    assert counts(run(made)) == (8, 8, 0, 0, 0)


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


def test_no_batch_begins_once_the_change_is_paused_though_its_worker_knew_it_as_running(admin, users, in_batches):
    made = step(change(admin, users, "rescue"))
    actions.pause_change(actor=admin, change_id=made.pk)
    claimed = running._claim(made)
    assert claimed is not None
    with pytest.raises(LostClaim):
        running._apply_claimed(made, claimed)

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
