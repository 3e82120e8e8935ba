"""Undoing a bulk change: previewed, asked for, refused."""

import re
from typing import Any

import pytest
from django.test import Client

from notifications.models import Notification
from products.models import BulkChange
from tests.console.change_pages import listed, page_of, undo_of
from tests.console.pages import shown
from tests.factories import change, give, held_by, limit, make_user
from users.models import Role, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def done(ada: User) -> BulkChange:
    """Return Ada's change that took Rescue from two and gave three GoTo Meeting; one of them was changed again since."""
    users = [give(make_user("Grace Hopper"), "rescue"), give(make_user("Hedy Lamarr"), "rescue"), make_user("Anna Alt")]
    made = change(ada, users, "meeting", reason="New contract")
    change(ada, users[:1], "meeting", "central")
    return made


def test_the_preview_of_an_undo_tells_what_it_would_do(client: Client, done: BulkChange) -> None:
    words = shown(client.get(f"/changes/{done.pk}/undo/"))

    assert f"Undo change #{done.pk}" in words
    assert "1 user becomes Suspended" in words
    assert "2 Set back" in words.replace("Set back 2", "2 Set back")
    assert "Left alone 1" in words
    assert "Removed GoTo Meeting 2 users Granted Rescue 1 user" in words
    assert "Changed again since 1" in words
    assert "About the change none, not notified" in words
    asked = client.get(f"/changes/{done.pk}/undo/?notify=on", headers={"HX-Request": "true", "HX-Target": "undo-preview"})
    assert "About the change 2" in shown(asked)


def test_an_undo_is_silent_and_links_both_ways(client: Client, done: BulkChange) -> None:
    Notification.objects.all().delete()

    response = undo_of(client, done, reason="A mistake")

    undo = BulkChange.objects.get(undoes=done)
    assert "2 users changed" in shown(response)
    assert "users-changed" in response["HX-Trigger"]
    assert (undo.notify, undo.reason, Notification.objects.count()) == (False, "A mistake", 0)
    assert f"Undo #{done.pk}" in listed(client)
    assert f"Undone by #{undo.pk}" in listed(client)
    assert f"Undo #{undo.pk}" in listed(client)  # the undo can be undone, the list does not offer what was undone once more
    assert f'id="undo-{done.pk}"' not in client.get("/changes/").content.decode()
    assert f'<a href="/changes/{undo.pk}/">' in page_of(client, done).content.decode()
    assert f"Undone by #{undo.pk}" in shown(page_of(client, done))
    assert f"This undoes #{done.pk}" in shown(page_of(client, undo))


def test_an_undo_tells_the_users_if_asked(client: Client, done: BulkChange) -> None:
    Notification.objects.all().delete()

    undo_of(client, done, notify="on")

    assert Notification.objects.count() == 2


def test_without_a_script_an_undo_leads_to_its_page(client: Client, done: BulkChange) -> None:
    page = client.get(f"/changes/{done.pk}/undo/").content.decode()
    hidden = dict(re.findall(r'<input type="hidden" name="(key|expected)" value="([^"]+)"', page))

    response = client.post(f"/changes/{done.pk}/undo/", hidden)

    assert (response.status_code, response["Location"]) == (303, f"/changes/{BulkChange.objects.get(undoes=done).pk}/")
    assert client.post(f"/changes/{done.pk}/undo/", hidden)["Location"] == response["Location"]  # twice is once


def test_an_undo_of_many_asks_to_type_the_number(client: Client, done: BulkChange, settings: Any) -> None:
    settings.BULK_CONFIRM_ABOVE = 2

    assert "Type 3 to confirm" in shown(client.get(f"/changes/{done.pk}/undo/"))
    refused = undo_of(client, done, confirmed="2", reason="A mistake")
    assert refused.status_code == 422
    assert "Type that number to confirm." in shown(refused)
    assert "A mistake" in refused.content.decode()
    assert undo_of(client, done, confirmed="3").status_code == 200


def test_an_undo_for_others_than_shown_is_asked_again(client: Client, done: BulkChange) -> None:
    refused = undo_of(client, done, expected="7")

    assert refused.status_code == 422
    assert "The selection changed since the preview" in shown(refused)
    assert not BulkChange.objects.filter(undoes=done).exists()


def test_an_undo_without_seats_is_refused(client: Client, done: BulkChange) -> None:
    limit("rescue", 0)

    assert "Rescue: 1 needed, 0 free, 1 missing" in shown(client.get(f"/changes/{done.pk}/undo/"))
    assert undo_of(client, done).status_code == 422
    assert not BulkChange.objects.filter(undoes=done).exists()


def test_what_is_undone_has_nothing_to_undo(client: Client, done: BulkChange) -> None:
    undo_of(client, done)

    words = shown(client.get(f"/changes/{done.pk}/undo/"))

    assert "There is nothing to undo: nobody holds what this change wrote." in words
    assert "Undo the change" not in words


def test_an_undo_can_be_undone(client: Client, ada: User) -> None:
    grace = give(make_user(), "rescue")
    made = change(ada, [grace], "meeting")

    undo_of(client, made)
    assert held_by(grace) == {"rescue"}
    undo_of(client, BulkChange.objects.get(undoes=made))
    assert held_by(grace) == {"meeting"}


def test_the_undo_of_a_change_that_runs_is_refused(client: Client, half_done: BulkChange) -> None:
    assert "Undo…" not in shown(page_of(client, half_done))
    assert client.get(f"/changes/{half_done.pk}/undo/").status_code == 409
    assert client.post(f"/changes/{half_done.pk}/undo/").status_code == 409


def test_who_may_undo(client: Client, done: BulkChange) -> None:
    assert "Undo…" in shown(page_of(client, done))
    client.force_login(make_user(role=Role.SUPPORT))
    assert "Undo" not in shown(page_of(client, done)).replace("Undone", "")
    assert client.get(f"/changes/{done.pk}/undo/").status_code == 403
    client.force_login(make_user(role=Role.MANAGER))
    assert client.get(f"/changes/{done.pk}/undo/").status_code == 404
    client.force_login(make_user(role=Role.ADMIN))
    assert client.get(f"/changes/{done.pk}/undo/").status_code == 200
    assert client.post(f"/changes/{done.pk}/undo/", {"key": "x", "expected": "2"}).status_code == 400
