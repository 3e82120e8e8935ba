"""Lists of Django admin that are looked through in stretches of ids, here of two.

In a database of their own, whose ids begin at 1: those that other tests used up would all be looked through, too.
"""

import pytest
from django.test import Client

from products.models import AccessChange
from tests.console.pages import shown
from tests.factories import change, give, ids, make_user
from users.models import Role

pytestmark = pytest.mark.usefixtures("committed_db")
HISTORY = "/admin/products/accesschange/"
EMAILS = "/admin/notifications/notification/"


@pytest.mark.parametrize("earlier", [0, 1])  # rows, so that a row is at the edge of what was looked at, or is not
def test_a_list_without_the_time_to_look_at_all_rows_says_how_far_it_looked_and_leads_on(
    client: Client, monkeypatch: pytest.MonkeyPatch, earlier: int
) -> None:
    client.force_login(make_user(role=Role.SUPPORT))
    monkeypatch.setattr("users.reading_list.ENOUGH", 0)
    monkeypatch.setattr("products.stretches.UNKNOWN", 2)
    for number in range(earlier):
        give(make_user(f"Earlier {number}"), "meeting")
    people = [give(make_user(f"Person {number}"), "rescue" if number in (1, 6) else "meeting") for number in range(9)]
    rare = {"granted": ids("rescue")[0]}

    pages, further = [client.get(HISTORY, rare)], 0
    while pages[-1].context["cl"].next_page:
        further += "There was no time to look at all rows" in shown(pages[-1])
        pages.append(client.get(HISTORY + pages[-1].context["cl"].next_page))
    forwards = [row.pk for page in pages for row in page.context["cl"].result_list]
    back, backwards = pages[-1], [row.pk for row in pages[-1].context["cl"].result_list]
    while back.context["cl"].previous_page:
        back = client.get(HISTORY + back.context["cl"].previous_page)
        backwards = [row.pk for row in back.context["cl"].result_list] + backwards

    assert forwards == [AccessChange.objects.get(user=people[number]).pk for number in (6, 1)]
    assert set(backwards) == set(forwards)
    assert further >= 3


def test_emails_of_a_kind_that_the_newest_are_not_are_looked_for_in_stretches(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = make_user(role=Role.ADMIN)
    client.force_login(make_user(role=Role.SUPPORT))
    change(admin, [make_user("Grace Hopper")], "meeting")
    for number in range(4):
        change(admin, [make_user(f"Person {number}")], "rescue")
    monkeypatch.setattr("users.reading_list.ENOUGH", 0)
    monkeypatch.setattr("users.reading_room.STRETCH", 2)

    found, following = list[str](), "?kind=ONBOARDING"
    while following:
        page = client.get(EMAILS + following)
        found += [row.user.name for row in page.context["cl"].result_list]
        following = page.context["cl"].next_page

    assert "There was no time to look at all rows" in shown(client.get(EMAILS, {"kind": "ONBOARDING"}))
    assert found == ["Grace Hopper"]
