"""One user's page: who they are, what they hold and its editing, and what ever happened to it."""

import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import now

from notifications.models import Notification, State
from products.models import BulkChange, Mode, ProductAccess
from tests.console.pages import shown
from tests.factories import change, give, held_by, ids, limit, make_group, make_user, product
from users.models import LastSeen, Role, User

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true", "HX-Target": "products"}


@pytest.fixture
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put five events on a page of the timeline, so that a few changes fill more than one."""
    monkeypatch.setattr("admin_console.user_page.PAGE_SIZE", 5)


def page_of(user: User) -> str:
    return f"/users/{user.pk}/"


def editor_of(user: User) -> str:
    return f"/users/{user.pk}/products/"


def form(user: User, *codes: str, **fields: Any) -> dict[str, Any]:
    """Return what the editor posts."""
    fixed = {"key": uuid.uuid4(), "mode": Mode.REPLACE, "shown": Mode.REPLACE, "expected": 1, "user": user.pk}
    return {**fixed, "product": ids(*codes), **fields}


def part(response: Any, name: str) -> str:
    """Return the words of one section of the page."""
    found = re.search(rf'<section class="card" id="{name}".*?</section>', response.content.decode(), re.DOTALL)
    assert found
    return " ".join(re.sub(r"<[^>]+>", " ", found[0]).split())


# Who


def test_the_page_tells_who_it_is(client: Client, ada: User) -> None:
    benelux = make_group("Benelux", inside=make_group("Sales"))
    grace = make_user("Grace Hopper", email="grace@tests.example", groups=[benelux], language="nl", time_zone="Europe/Brussels")
    LastSeen.objects.create(user=grace, first_at=now(), at=now() - timedelta(days=2))
    give(grace, "rescue")

    words = shown(client.get(page_of(grace)))

    assert "Grace Hopper grace@tests.example Member Active" in words
    assert "Language Nederlands Time zone Europe/Brussels" in words
    assert "Last seen 2 days ago" in words
    assert "Sales / Benelux" in words


def test_a_bare_user_has_a_page_too(client: Client, ada: User) -> None:
    words = shown(client.get(page_of(make_user(email="bare@tests.example"))))

    assert "bare@tests.example" in words
    assert "Language Not known" in words
    assert "Last seen Never" in words
    assert "In no group." in words
    assert "No product This user shows as Suspended and can sign in to nothing." in words
    assert "Nothing happened yet" in words


def test_an_admin_without_products_is_suspended_with_console_access(client: Client, ada: User) -> None:
    words = shown(client.get(page_of(ada)))

    assert "Suspended console access" in words
    assert "can still open the console because of the role" in words


def test_groups_out_of_the_managers_scope_are_not_named(client: Client, manager: User) -> None:
    grace = make_user(groups=[*manager.managed_groups.all(), make_group("Works council")])

    words = shown(client.get(page_of(grace)))

    assert "Sales" in words
    assert "Works council" not in words


# What they hold


def test_the_pane_tells_since_when_and_by_which_change(client: Client, ada: User) -> None:
    grace = give(make_user(), "rescue")
    change(ada, [grace], "rescue", "meeting", now=now())
    change(ada, [grace], "rescue", now=now())
    last = change(ada, [grace], "rescue", "meeting", now=now())

    response = client.get(page_of(grace))

    assert re.search(rf"GoTo Meeting just now \S+ \S+ UTC · Change #{last.pk}\b", part(response, "products"))
    assert "Rescue Held since before the console" in part(response, "products")
    assert f'<a href="/changes/{last.pk}/">' in response.content.decode()


def test_a_manager_reads_of_anothers_change_without_a_link_to_it(client: Client, manager: User) -> None:
    grace = make_user(groups=manager.managed_groups.all())
    made = change(make_user("Otto Other", role=Role.ADMIN), [grace], "rescue")

    response = client.get(page_of(grace))

    assert f"Change #{made.pk}" in part(response, "products")
    assert "by Otto Other" in part(response, "timeline")
    assert f"/changes/{made.pk}/" not in response.content.decode()


# Editing


def test_edit_shows_what_they_hold(client: Client, ada: User) -> None:
    grace = give(make_user(), "rescue")

    response = client.get(editor_of(grace), headers=HTMX)

    boxes = re.findall(r'name="product" value="(\d+)"[^>]* checked', response.content.decode())
    assert [int(each) for each in boxes] == ids("rescue")
    words = shown(response)
    assert "If all boxes are unticked, products are removed and the user shows as Suspended." in words
    assert "Do not notify users about this change" in words
    assert "<html" not in response.content.decode()


def test_edit_without_javascript_is_the_page_with_the_boxes(client: Client, ada: User) -> None:
    response = client.get(editor_of(make_user("Grace Hopper")))

    assert "<h1>Grace Hopper</h1>" in response.content.decode()
    assert "Do not notify users about this change" in part(response, "products")
    assert ">Save</button>" in response.content.decode()


def test_save_is_a_bulk_change_of_one(client: Client, ada: User) -> None:
    grace = give(make_user(), "rescue")

    response = client.post(editor_of(grace), form(grace, "meeting", reason="Moved to Sales"), headers=HTMX)

    made = BulkChange.objects.get()
    assert (made.actor, made.targets, made.changed, made.reason) == (ada, 1, 1, "Moved to Sales")
    assert held_by(grace) == {"meeting"}
    assert "GoTo Meeting" in part(response, "products")
    assert "The products were changed." in shown(response)
    assert "Moved to Sales" in part(client.get(page_of(grace)), "timeline")
    swapped_too = re.findall(r'id="(\w+)"[^>]* hx-swap-oob="true"', response.content.decode())
    assert swapped_too == ["who", "timeline"]


def test_save_without_javascript_leads_back_to_the_page(client: Client, ada: User) -> None:
    grace = make_user()

    response = client.post(editor_of(grace), form(grace, "rescue"), follow=True)

    assert response.redirect_chain == [(page_of(grace), 303)]
    assert "The products were changed." in shown(response)


def test_no_box_ticked_suspends(client: Client, ada: User) -> None:
    grace = give(make_user(), "rescue")

    words = shown(client.post(editor_of(grace), form(grace), headers=HTMX))

    assert ProductAccess.objects.get(user=grace).suspended
    assert "Member Suspended" in words
    assert "became Suspended" in words


def test_saving_what_they_hold_changes_nothing(client: Client, ada: User) -> None:
    grace = give(make_user(), "rescue")

    assert "Nothing was changed" in shown(client.post(editor_of(grace), form(grace, "rescue"), headers=HTMX))


@pytest.mark.parametrize(
    ("seats", "at_once", "why"),
    [(0, 1, "Nobody changed Changed 0 Unchanged 0 Skipped 1"), (1, 0, "0 of 1 user 0 %")],
    ids=["left out", "left to the worker"],
)
def test_who_was_not_reached_is_not_said_to_have_held_it_already(
    client: Client, ada: User, settings: Any, seats: int, at_once: int, why: str
) -> None:
    limit("rescue", seats)
    settings.BULK_AT_ONCE = at_once
    grace = make_user()
    asked = form(grace, "rescue", until_full="on")

    followed = client.post(editor_of(grace), asked, follow=True)
    with_htmx = client.post(editor_of(grace), asked, headers=HTMX)

    page = f"/changes/{BulkChange.objects.get().pk}/"
    assert (followed.redirect_chain, with_htmx["HX-Redirect"]) == ([(page, 303)], page)
    assert why in shown(followed)
    assert "held already" not in shown(followed)


def test_save_may_be_silent(client: Client, ada: User) -> None:
    grace = make_user()

    client.post(editor_of(grace), form(grace, "rescue", quiet="on"), headers=HTMX)

    assert not Notification.objects.filter(kind="CHANGE").exists()


def test_too_few_seats_are_told_and_the_input_is_kept(client: Client, ada: User) -> None:
    limit("rescue", 0)
    grace = make_user()

    response = client.post(editor_of(grace), form(grace, "rescue", reason="Pilot"), headers=HTMX)

    assert response.status_code == 422
    assert "Rescue: 1 seat needed, 0 free, 1 missing." in shown(response)
    assert f'value="{product("rescue").pk}" id="product-{product("rescue").pk}"' in response.content.decode()
    assert ">Pilot</textarea>" in response.content.decode()
    assert held_by(grace) == set()


def test_the_form_of_another_user_is_refused(client: Client, ada: User) -> None:
    grace, alan = make_user(), make_user()

    assert client.post(editor_of(grace), form(alan, "rescue"), headers=HTMX).status_code == 400
    assert client.post(editor_of(grace), form(grace, "rescue", mode=Mode.REMOVE), headers=HTMX).status_code == 400
    assert client.post(editor_of(grace), form(grace, "rescue", role="ADMIN"), headers=HTMX).status_code == 400
    assert client.post(editor_of(grace), form(grace, "rescue") | {"user": [grace.pk] * 501}, headers=HTMX).status_code == 400
    assert not BulkChange.objects.exists()


def test_the_same_key_with_other_content_is_refused(client: Client, ada: User) -> None:
    grace, key = make_user(), uuid.uuid4()
    client.post(editor_of(grace), form(grace, "rescue", key=key), headers=HTMX)

    response = client.post(editor_of(grace), form(grace, "central", key=key), headers=HTMX)

    assert response.status_code == 409
    assert held_by(grace) == {"rescue"}


def test_the_products_of_who_outranks_the_manager_are_not_theirs_to_set(client: Client, manager: User) -> None:
    boss = make_user(role=Role.ADMIN, groups=manager.managed_groups.all())

    assert "Edit" not in part(client.get(page_of(boss)), "products")
    assert client.get(editor_of(boss)).status_code == 403
    assert client.post(editor_of(boss), form(boss, "rescue")).status_code == 403
    assert held_by(boss) == set()


# The timeline


def test_the_timeline_tells_what_when_who_which_change_and_why(client: Client, ada: User) -> None:
    grace = give(make_user(), "rescue")
    first = change(ada, [grace], "rescue", "meeting", reason="Pilot", now=now())
    second = change(ada, [grace], notify=False, now=now())
    third = change(ada, [grace], "meeting", "webinar", now=now())

    words = part(client.get(page_of(grace)), "timeline")

    assert f"Granted GoTo Meeting (first time) by Ada Admin · Change #{first.pk} Pilot" in words
    assert f"Removed GoTo Meeting , Rescue became Suspended by Ada Admin · Change #{second.pk} · not notified" in words
    assert "Granted GoTo Meeting , GoTo Webinar (first time: GoTo Webinar)" in words
    assert "Granted Rescue Held since before the console" in words
    order = [words.index(f"Change #{made.pk}") for made in (third, second, first)]
    assert order == sorted(order)


@pytest.mark.parametrize(
    ("zone", "read"), [("Europe/Berlin", "13:00:00 CET"), ("", "12:00:00 UTC"), ("Mars/Base", "12:00:00 UTC")]
)
def test_times_are_those_of_the_reader(client: Client, ada: User, zone: str, read: str) -> None:
    User.objects.filter(pk=ada.pk).update(time_zone=zone)
    grace = make_user(created_at=datetime(2026, 11, 22, 12, tzinfo=UTC))

    assert f'<span class="exact">2026-11-22 {read}</span>' in client.get(page_of(grace)).content.decode()


def test_a_change_from_outside_the_console_says_so(client: Client, ada: User) -> None:
    grace = make_user()
    ProductAccess.objects.filter(user=grace).update(products=ids("rescue"), ever=ids("rescue"))

    words = part(client.get(page_of(grace)), "timeline")

    assert re.search(r"Granted Rescue \(first time\) outside the console, as “\w+”", words)


def test_each_email_tells_its_fate(client: Client, ada: User) -> None:
    grace = make_user(email="grace@tests.example")
    made = change(ada, [grace], "meeting", now=now())
    Notification.objects.filter(kind="CHANGE").update(state=State.SENT, sent_at=now(), to_address="grace@tests.example")
    Notification.objects.filter(kind="ONBOARDING").update(state=State.DEFERRED, last_words="450 greylisted, come back")

    words = part(client.get(page_of(grace)), "timeline")

    assert f"Email about change #{made.pk} Sent" in words
    assert "to grace@tests.example" in words
    assert "Onboarding email for GoTo Meeting Deferred" in words
    assert "450 greylisted, come back" in words


@pytest.mark.parametrize("state", State)
def test_an_email_that_failed_for_good_is_tried_again(client: Client, ada: User, state: str) -> None:
    grace = make_user()
    change(ada, [grace], "rescue")
    email = Notification.objects.get(user=grace)
    Notification.objects.update(state=state, attempts=3)
    failed = state in (State.FAILED, State.UNKNOWN, State.EXPIRED)
    assert ("Try again" in shown(client.get(page_of(grace)))) == failed

    again = client.post(f"{page_of(grace)}emails/{email.pk}/retry/", headers={**HTMX, "HX-Target": "timeline"})
    email.refresh_from_db()

    assert (email.state, email.attempts) == ((State.QUEUED, 0) if failed else (state, 3))
    assert "Timeline" in shown(again)


def test_who_tries_an_email_again_stays_on_the_page_of_the_timeline(
    client: Client, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("admin_console.user_page.PAGE_SIZE", 1)
    grace = make_user()
    change(ada, [grace], "rescue")
    Notification.objects.update(state=State.FAILED)
    pages = [client.get(f"{page_of(grace)}?page={n}").content.decode() for n in (1, 2)]
    offers = [re.findall(r'hx-post="([^"]*/retry/[^"]*)"', page) for page in pages]
    number = 1 if offers[0] else 2

    again = client.post(offers[number - 1][0], headers={**HTMX, "HX-Target": "timeline"})

    assert f"{number}–{number} of 2" in shown(again)


def test_who_may_not_try_an_email_again_changes_nothing(client: Client, ada: User) -> None:
    grace, alan = make_user(), make_user()
    change(ada, [grace], "rescue")
    Notification.objects.update(state=State.FAILED)
    retry = f"emails/{Notification.objects.get().pk}/retry/"
    assert client.post(page_of(alan) + retry).status_code == 404
    assert client.get(page_of(grace) + retry).status_code == 405
    client.force_login(make_user(role=Role.SUPPORT))
    assert client.post(page_of(grace) + retry).status_code == 403

    assert Notification.objects.get().state == State.FAILED


def test_older_events_are_on_the_next_page_in_order(client: Client, ada: User, short_pages: None) -> None:
    grace = make_user()
    numbers = [change(ada, [grace], *codes).pk for codes in [["rescue"], []] * 2]  # with an email each: 8 events

    def events(query: str) -> list[str]:
        headers = {"HX-Request": "true", "HX-Target": "timeline"}
        return re.findall(r"[cC]hange #(\d+)", shown(client.get(page_of(grace) + query, headers=headers)))

    assert len(events("")) == 5
    assert len(events("?page=2")) == 3
    found = [int(number) for number in events("") + events("?page=2")]
    assert sorted(found) == sorted(numbers * 2)
    assert events("?page=x") == events("")
    assert events("?page=99") == events("?page=2")


def test_the_page_costs_the_same_for_few_and_many(client: Client, ada: User, short_pages: None) -> None:
    def statements(size: int) -> int:
        grace = make_user()
        for n in range(size):
            change(ada, [grace], *(["rescue", "meeting"] if n % 2 == 0 else ["central"]))
        with CaptureQueriesContext(connection) as captured:
            client.get(page_of(grace))
        return len(captured)

    statements(1)  # writes when the admin was seen

    assert statements(3) == statements(12)


def test_support_finds_the_way_to_the_evidence(client: Client) -> None:
    grace = give(make_user(), "rescue")
    client.force_login(make_user(role=Role.SUPPORT))

    response = client.get(page_of(grace))

    assert f"/admin/products/accesschange/?person={grace.pk}" in response.content.decode()
    assert "Edit" not in part(response, "products")
    assert client.get(editor_of(grace)).status_code == 403
    assert client.post(editor_of(grace), form(grace)).status_code == 403


# Who may


def test_a_user_out_of_scope_is_not_found(client: Client, manager: User) -> None:
    stranger = give(make_user(), "rescue")

    assert client.get(page_of(stranger)).status_code == 404
    assert client.get(editor_of(stranger)).status_code == 404
    assert client.post(editor_of(stranger), form(stranger)).status_code == 404
    assert held_by(stranger) == {"rescue"}


@pytest.mark.parametrize("number", ["4711", "99999999999999999999"])
def test_an_unknown_user_is_not_found(client: Client, ada: User, number: str) -> None:
    assert client.get(f"/users/{number}/").status_code == 404
    assert client.get(f"/users/{number}/products/").status_code == 404


def test_who_is_signed_out_signs_in_and_comes_back(client: Client) -> None:
    grace = make_user()
    asking = {**HTMX, "HX-Current-URL": f"http://testserver{page_of(grace)}"}

    assert client.get(page_of(grace))["Location"] == f"/accounts/login/?next={page_of(grace)}"
    assert client.get(editor_of(grace), headers=asking)["HX-Redirect"] == f"/accounts/login/?next={page_of(grace)}"
    assert client.post(editor_of(grace), headers=asking)["HX-Redirect"] == f"/accounts/login/?next={page_of(grace)}"


def test_a_member_may_not_even_see_their_own(client: Client) -> None:
    member = give(make_user(), "rescue")
    client.force_login(member)

    assert client.get(page_of(member)).status_code == 403
    assert client.post(editor_of(member), form(member, "meeting")).status_code == 403


def test_other_methods_are_refused(client: Client, ada: User) -> None:
    grace = make_user()

    assert client.post(page_of(grace)).status_code == 405
    assert client.put(editor_of(grace)).status_code == 405
