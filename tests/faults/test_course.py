"""An admin steers a change while it runs, and batches fail: the numbers stay exact."""

import threading
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from products import actions, tasks
from products.models import BulkChange, BulkChangeBatch
from products.queries import skipped_by_reason
from tests.faults.house import House, held, refusing
from tests.processes import wait_until
from users.models import User

pytestmark = [pytest.mark.faults, pytest.mark.slow]
SEATS = "SELECT 1 FROM products_seat FOR UPDATE"  # held, a batch waits after it was taken, before it is done


def in_flight(house: House, admin: User, people: list[int]) -> BulkChange:
    """Return a change of which some batches are done, and the next one waits for the seats."""
    made = house.ask(admin, people, "meeting")
    wait_until(lambda: house.done(made) >= 2, 20, "two batches")
    return made


class Beside(threading.Thread):
    """Runs a verb beside the test, on a connection of its own; `outcome` is what it returned or raised."""

    def __init__(self, verb: Any) -> None:
        super().__init__()
        self._verb = verb
        self.outcome: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.outcome = self._verb()
        except Exception as error:
            self.outcome = error
        finally:
            connection.close()


def test_cancelled_while_a_batch_is_applied_that_batch_counts_or_does_not(house: House, admin: User) -> None:
    people = house.people(160, "rescue")
    made = in_flight(house, admin, people)
    with held(house, SEATS):
        wait_until(house.waiting_for_locks, 10, "a batch waiting for seats")
        cancelling = Beside(lambda: actions.cancel_change(actor=admin, change_id=made.pk, now=timezone.now()))
        wait_until(lambda: house.waiting_for_locks() >= 2, 10, "the cancelling waiting for the batch")
    cancelling.join(30)

    assert isinstance(cancelling.outcome, BulkChange), cancelling.outcome
    house.settled(made, state="CANCELLED")
    assert 30 <= made.changed <= made.changed + made.not_reached == 160
    reached = made.changed
    with pytest.raises(actions.NotNow):
        actions.resume_change(actor=admin, change_id=made.pk)
    tasks.run_bulk_change.delay(change_id=made.pk)  # a doorbell that comes late
    other = house.ask(admin, house.people(30), "webinar")
    house.settled(other)
    made.refresh_from_db()
    assert (made.state, made.changed) == ("CANCELLED", reached)


def test_paused_and_resumed_while_a_batch_is_applied_nothing_surfaces(house: House, admin: User) -> None:
    made = in_flight(house, admin, house.people(160, "rescue"))
    with held(house, SEATS):
        wait_until(house.waiting_for_locks, 10, "a batch waiting for seats")
        pausing = Beside(lambda: actions.pause_change(actor=admin, change_id=made.pk))
        wait_until(lambda: house.waiting_for_locks() >= 2, 10, "the pausing waiting for the batch")
        resuming = Beside(lambda: actions.resume_change(actor=admin, change_id=made.pk))
        resuming.join(30)
    pausing.join(30)

    assert isinstance(resuming.outcome, actions.NotNow), resuming.outcome  # it is not paused yet
    assert isinstance(pausing.outcome, BulkChange), pausing.outcome
    tasks.ring_for(actions.resume_change(actor=admin, change_id=made.pk))
    house.settled(made)
    assert made.changed == 160


def test_a_paused_change_rests_whoever_rings(house: House, admin: User) -> None:
    made = in_flight(house, admin, house.people(100, "rescue"))
    actions.pause_change(actor=admin, change_id=made.pk)
    house.settled(house.ask(admin, house.people(20), "webinar"))
    done = house.done(made)
    assert made.batches.filter(state=BulkChangeBatch.State.WAITING).exists()
    tasks.run_bulk_change.delay(change_id=made.pk)
    house.settled(house.ask(admin, house.people(20), "webinar"))

    assert house.done(made) == done
    actions.resume_change(actor=admin, change_id=made.pk)
    tasks.ring_for(made)
    house.settled(made)
    assert made.changed == 100


def test_an_undo_leaves_alone_who_was_changed_since(house: House, admin: User) -> None:
    people = house.people(60, "rescue", "webinar")
    made = house.ask(admin, people, "meeting")
    house.settled(made)
    house.ask(admin, people[:8], "central")
    undo = house.undo(admin, made)
    house.settled(undo)

    assert (undo.changed, skipped_by_reason(undo)) == (52, {"CHANGED_SINCE": 8})


def test_users_who_cannot_be_changed_are_tried_again(house: House, admin: User) -> None:
    people = house.people(60, "rescue")
    with refusing(house, people[17], "webinar"):
        made = house.ask(admin, people, "webinar")
        house.settled(made, state="FAILED")
        assert (made.changed, skipped_by_reason(made)) == (59, {"FAILED": 1})
        assert "poison" in made.skips.get(user_id=people[17]).detail
    actions.retry_failed(actor=admin, change_id=made.pk)
    tasks.ring_for(made)
    house.settled(made)
    assert (made.changed, made.skipped) == (60, 0)
