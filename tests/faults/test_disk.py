"""The disk of the history is full: a change pauses, says why, and goes on when there is room."""

import pytest

from products import actions, tasks
from products.models import BulkChange
from tests.faults.house import APPLY, LOCK_ONE, House, Visitor, form, held
from tests.processes import wait_until
from users.models import User

pytestmark = [pytest.mark.faults, pytest.mark.slow]


def test_a_full_disk_pauses_a_change_and_room_lets_it_finish(house: House, admin: User) -> None:
    if not house.has_small_disk:
        pytest.skip("This account may mount no disk that would be soon full, and no namespace of its own to do it in.")
    people = house.people(120, "rescue")
    with house.history_on_small_disk() as disk:
        with held(house, LOCK_ONE, people[60]):  # or it might be over before there is no room
            made = house.ask(admin, people, "meeting")
            wait_until(lambda: house.waiting_for_locks() and house.done(made) >= 2, 20, "two batches and a lock")
            disk.fill()
        wait_until(lambda: BulkChange.objects.get(pk=made.pk).state == BulkChange.State.PAUSED, 30, "the pause")
        made.refresh_from_db()
        house.assert_well("on a full disk")

        assert 20 <= made.changed < 120
        assert (made.state_cause, "No space left on device" in made.state_reason) == ("DISK_FULL", True)

        visitor, posted = Visitor(house, admin.email), form(admin, house.people(8), "meeting")
        refused = visitor.fetch(APPLY, **posted)
        assert (refused.status, "no room left on its disk" in refused.text) == (503, True)
        assert not BulkChange.objects.filter(key=posted["key"]).exists()
        actions.resume_change(actor=admin, change_id=made.pk)  # too early
        tasks.ring_for(made)
        wait_until(lambda: BulkChange.objects.get(pk=made.pk).state == BulkChange.State.PAUSED, 30, "the next pause")
        disk.empty()
        actions.resume_change(actor=admin, change_id=made.pk)
        tasks.ring_for(made)
        small = visitor.insists(APPLY, **posted).change()
        house.settled(made, small)
    assert small.changed == 8
    assert made.changed == 120
