"""The page of a person in Django admin: found by half a name, linked both ways, as of any moment."""

import re
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from products.models import AccessChange
from products.selection import Selection
from tests.console.reading_room import CHANGES, EMAILS, HISTORY, PRODUCTS, USERS, history_of, link_to, listed, text_of
from tests.factories import change, give, ids, make_group, make_user
from users.models import Role, User
from users.queries import UserFilter

pytestmark = pytest.mark.django_db


def test_support_follows_half_a_name_to_the_emails_of_a_change(client: Client, reader: User, admin_user: User) -> None:
    grace = make_user("Grace Hopper", email="grace@tests.example")
    make_user("Alan Turing", email="alan@tests.example")
    done = change(admin_user, [grace], "meeting", "webinar", reason="She starts on Monday")
    change(admin_user, [grace], "webinar")

    found = client.get("/admin/")
    assert 'action="/admin/users/user/"' in text_of(found)
    people = client.get(USERS, {"q": "ace hop"})
    person = client.get(link_to(people, "Grace Hopper"))
    bulk_change = client.get(link_to(person, f"#{done.pk}"))
    emails = client.get(link_to(bulk_change, "Change emails and their fate"))
    email = client.get(f"{EMAILS}{emails.context['cl'].result_list[0].pk}/change/")

    assert "Alan Turing" not in text_of(people)
    assert "She starts on Monday" in text_of(person)
    assert "GoTo Meeting, GoTo Webinar" in text_of(person)
    assert "Ada Admin" in text_of(person)
    assert "1 ticked user" in text_of(bulk_change)
    assert [row.user_id for row in emails.context["cl"].result_list] == [grace.pk]
    assert link_to(email, "Grace Hopper") == f"{USERS}{grace.pk}/change/"
    assert link_to(email, f"#{done.pk}") == f"{CHANGES}{done.pk}/change/"


def test_links_lead_both_ways_between_person_history_change_and_emails(client: Client, reader: User, admin_user: User) -> None:
    grace = make_user("Grace Hopper")
    done = change(admin_user, [grace], "meeting")
    person, bulk_change = f"{USERS}{grace.pk}/change/", f"{CHANGES}{done.pk}/change/"
    row = f"{HISTORY}{history_of(grace)[0]}/change/"

    assert link_to(client.get(person), "Entitlement history of this user") == f"{HISTORY}?person={grace.pk}"
    assert link_to(client.get(person), "All emails of this user") == f"{EMAILS}?person={grace.pk}"
    assert link_to(client.get(row), "Grace Hopper") == person
    assert link_to(client.get(row), f"#{done.pk}") == bulk_change
    assert link_to(client.get(row), "Ada Admin") == f"{USERS}{admin_user.pk}/change/"
    of_the_change = link_to(client.get(row), "Change email of this user")
    assert [email.kind for email in client.get(of_the_change).context["cl"].result_list] == ["CHANGE"]
    assert link_to(client.get(bulk_change), "Users changed") == f"{HISTORY}?change={done.pk}"
    assert link_to(client.get(bulk_change), "Ada Admin") == f"{USERS}{admin_user.pk}/change/"


def test_links_lead_to_the_consoles_own_pages_and_back(client: Client, reader: User, admin_user: User) -> None:
    grace = make_user("Grace Hopper")
    done = change(admin_user, [grace], "meeting")

    for page, own in [
        (f"{USERS}{grace.pk}/change/", f"/users/{grace.pk}/"),
        (f"{CHANGES}{done.pk}/change/", f"/changes/{done.pk}/"),
    ]:
        assert link_to(client.get(page), "Open in the console") == own
        assert client.get(own).status_code == 200
    assert f'href="{HISTORY}?person={grace.pk}"' in text_of(client.get(f"/users/{grace.pk}/"))


def test_a_persons_page_shows_the_newest_of_a_long_history(client: Client, reader: User) -> None:
    grace = make_user("Grace Hopper")
    for _round in range(30):
        give(grace, "meeting")
        give(grace)

    page = client.get(f"{USERS}{grace.pk}/change/")

    assert text_of(page).count("/admin/products/accesschange/") - text_of(page).count("accesschange/?") >= 50
    assert "The newest 50 are shown." in text_of(page)
    assert f"{HISTORY}{history_of(grace)[0]}/change/" in text_of(page)
    assert f"{HISTORY}{history_of(grace)[50]}/change/" not in text_of(page)


def test_a_person_without_history_and_emails_says_so(client: Client, reader: User) -> None:
    page = text_of(client.get(f"{USERS}{make_user('Newton New').pk}/change/"))

    assert "Nothing was ever granted or revoked." in page
    assert "No email was ever owed to this user." in page


def moments_of(grace: User) -> tuple[datetime, datetime]:
    """Let somebody gain a product, and lose it for another; return a moment while the first was held, and when it was given."""
    give(grace, "meeting")
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        between = cursor.fetchone()[0]
    give(grace, "webinar")
    return between, AccessChange.objects.filter(user=grace).earliest("id").at


def test_as_of_a_moment_a_person_held_what_the_history_says(client: Client, reader: User) -> None:
    grace = make_user("Grace Hopper")
    between, given = moments_of(grace)
    page = f"{USERS}{grace.pk}/change/"

    held = client.get(page, {"as_of": between.replace(tzinfo=None).isoformat(), "zone": "UTC"})
    before = client.get(page, {"as_of": (given - timedelta(days=1)).replace(tzinfo=None).isoformat(), "zone": "UTC"})

    assert re.search(r"UTC</dt>\s*<dd>GoTo Meeting</dd>", text_of(held))
    assert re.search(r"<dt>Now</dt>\s*<dd>GoTo Webinar</dd>", text_of(held))
    assert re.search(r"UTC</dt>\s*<dd>Nothing</dd>", text_of(before))


def test_as_of_asks_in_the_time_zone_named(client: Client, reader: User) -> None:
    grace = make_user("Grace Hopper")
    between, _given = moments_of(grace)
    there = between.astimezone(ZoneInfo("Asia/Tokyo")).replace(tzinfo=None)

    page = client.get(f"{USERS}{grace.pk}/change/", {"as_of": there.isoformat(), "zone": "Asia/Tokyo"})

    assert f"{there:%Y-%m-%d %H:%M:%S} JST ({between:%Y-%m-%d %H:%M:%S} UTC)" in text_of(page)
    assert re.search(r"UTC\)</dt>\s*<dd>GoTo Meeting</dd>", text_of(page))


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ({"as_of": "yesterday"}, "“yesterday” is not a time like"),
        ({"as_of": "2026-11-22T12:00", "zone": "Mars/Olympus"}, "“Mars/Olympus” is not a time zone"),
        ({"as_of": "9999-12-31T23:59"}, "That is still to come."),
        ({"as_of": "0001-01-01T00:00", "zone": "Asia/Tokyo"}, "is not a time like"),
    ],
)
def test_as_of_something_that_cannot_be_says_so(client: Client, reader: User, query: dict[str, str], answer: str) -> None:
    page = client.get(f"{USERS}{reader.pk}/change/", query)

    assert page.status_code == 200
    assert answer in text_of(page)


def test_people_are_searched_and_filtered_as_in_the_console(client: Client, reader: User) -> None:
    sales = make_group("Sales")
    zoe = give(make_user("Zoë Müller", email="zoe@tests.example", groups=[make_group("Benelux", inside=sales)]), "meeting")
    make_user("Alan Turing", email="alan@tests.example")

    assert listed(client, USERS, q="OE MULL") == [zoe.pk]
    assert listed(client, USERS, q="zoe@") == [zoe.pk]
    assert listed(client, USERS, q="nobody at all") == []
    assert listed(client, USERS, role="SUPPORT") == [reader.pk]
    assert listed(client, USERS, status="INVITED") == [zoe.pk]
    assert listed(client, USERS, group=sales.pk) == [zoe.pk]
    assert zoe.pk not in listed(client, USERS, group=0)
    assert listed(client, USERS, group=sales.pk, role="SUPPORT") == []


def test_a_filter_that_cannot_be_finds_nothing_and_says_so(client: Client, reader: User) -> None:
    wrong: list[tuple[str, dict[str, Any], str]] = [
        (USERS, {"role": "EMPEROR"}, "There is no such choice."),
        (HISTORY, {"since": "last week"}, "“last week” is not a date like 2026-11-22."),
        (HISTORY, {"change": "twelve"}, "“twelve” is not a number."),
        (HISTORY, {"granted": "999"}, "There is no such choice."),
        (EMAILS, {"about": "x"}, "“x” is not a number."),
    ]
    for address, query, answer in wrong:
        response = client.get(address, query)
        assert response.context["cl"].result_list == []
        assert answer in text_of(response)


def test_fields_left_empty_leave_the_address(client: Client, reader: User) -> None:
    response = client.get(HISTORY, {"person": "", "granted": "3", "since": "", "q": ""})

    assert response["Location"] == f"{HISTORY}?granted=3"


def test_a_persons_page_says_why_they_hold_what_they_hold(client: Client, reader: User, admin_user: User) -> None:
    sales = make_group("Sales")
    grace = make_user("Grace Hopper", groups=[sales])
    wanted = Selection(everyone=True, filter=UserFilter(group=(sales.pk,)))
    done = change(admin_user, [], "meeting", selection=wanted, reason="New team")

    page = text_of(client.get(f"{USERS}{grace.pk}/change/"))

    why = page[page.index("Why this user holds it") : page.index('id="timeline-title"')]
    for words in ("GoTo Meeting", "Ada Admin", f"#{done.pk}", "everyone with user group: Sales", "New team"):
        assert words in why
    assert f'href="/users/{grace.pk}/as-of/"' in page
    assert f'href="/products/{ids("meeting")[0]}/as-of/"' in text_of(client.get(f"{PRODUCTS}{ids('meeting')[0]}/change/"))


def test_a_persons_page_costs_the_same_for_few_and_many(client: Client, reader: User) -> None:
    grace = make_user("Grace Hopper")
    page = f"{USERS}{grace.pk}/change/"

    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert client.get(page, {"as_of": "2026-01-01T00:00"}).status_code == 200
        return len(queries)

    def more(count: int) -> None:
        for _number in range(count):
            for codes in (["meeting"], []):
                change(make_user(role=Role.ADMIN), [grace], *codes)

    client.get(page)
    more(2)
    few = cost()
    more(6)

    assert cost() == few <= 18
