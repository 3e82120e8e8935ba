"""Large changes on a real Celery worker and a real broker, and what is left of them when either dies (rule B7)."""

import time

import pytest
from django.db import connection
from django.utils import timezone

from notifications.models import Notification
from products import actions, queries, tasks
from products.models import AccessChange, BulkChange, BulkChangeBatch, Source
from tests.factories import change, make_user, make_users
from tests.processes import Worker, wait_until
from users.models import Role

pytestmark = pytest.mark.worker


@pytest.fixture
def made(committed_db, settings) -> BulkChange:
    """Give a large change of 120 users in 40 batches, not started."""
    settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE = 0, 3
    return change(make_user(role=Role.ADMIN), make_users(120), "meeting", now=timezone.now())


def is_over(made: BulkChange) -> bool:
    made.refresh_from_db()
    return made.is_over


def assert_applied_once(made: BulkChange) -> None:
    made.refresh_from_db()
    assert (made.state, made.changed, made.reached) == (BulkChange.State.FINISHED, 120, 120)
    assert AccessChange.objects.filter(change=made).count() == AccessChange.objects.values("user").distinct().count() == 120
    assert set(AccessChange.objects.values_list("actor", "source", "db_role")) == {(made.actor_id, Source.CONSOLE, "console")}
    assert Notification.objects.filter(kind="CHANGE").count() == Notification.objects.filter(kind="ONBOARDING").count() == 120


def test_a_worker_runs_a_large_change_to_its_end_in_one_session(made, worker):
    tasks.ring_for(made)
    wait_until(lambda: is_over(made), 30)

    assert_applied_once(made)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT backend_start FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert min(cursor.fetchall())[0] < AccessChange.objects.earliest("at").at


def test_a_change_goes_on_where_a_killed_worker_left_it(made, broker, tmp_path):
    with Worker(tmp_path) as worker:
        tasks.ring_for(made)
        wait_until(lambda: made.batches.filter(state=BulkChangeBatch.State.DONE).count() >= 5, 30)
        worker.kill()
    done = made.batches.filter(state=BulkChangeBatch.State.DONE).count()
    assert 5 <= done < 40

    broker.empty()  # and the broker forgets
    BulkChangeBatch.objects.update(lease_until=None, done_at=None)  # a while ago
    assert queries.stalled() == [made.pk]
    with Worker(tmp_path):
        tasks.sweep()
        wait_until(lambda: is_over(made), 30)

    assert_applied_once(made)


def test_a_small_change_is_finished_with_the_broker_down(committed_db, broker):
    broker.kill()
    admin, grace = make_user(role=Role.ADMIN), make_user()
    started = time.monotonic()
    made = change(admin, [grace], "rescue")
    tasks.ring_for(made)

    assert made.is_over
    assert time.monotonic() - started < 2


def test_a_large_change_asked_for_while_the_broker_was_down_starts_when_it_is_back(made, broker, tmp_path):
    broker.kill()
    tasks.ring_for(made)  # says nothing, waits for nothing
    broker.start()
    with Worker(tmp_path):
        wait_until(lambda: (tasks.sweep(), is_over(made))[1], 30)

    assert_applied_once(made)


def test_the_same_task_delivered_three_times_is_applied_once(made, worker):
    for _ in range(3):
        tasks.run_bulk_change.delay(change_id=made.pk)
    wait_until(lambda: is_over(made), 30)

    assert_applied_once(made)


def test_a_task_for_an_unknown_change_does_nothing(committed_db):
    assert actions.advance_bulk_change(change_id=999, now=timezone.now()) is actions.Step.OVER
