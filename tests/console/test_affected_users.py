"""The names behind each number of the dialog Manage products."""

import re
from typing import Any

import pytest
from django.test import Client

from tests.console.change_dialog import EXPORT, HTMX, NAMES, PREVIEW, box, form, links, member_of, ticking
from tests.console.pages import shown
from tests.factories import give, limit, make_user, make_users, product
from users.models import Role, User

pytestmark = pytest.mark.django_db


def test_every_number_leads_to_its_names(client: Client, ada: User) -> None:
    limit("webinar", 1)
    grace, alan, mary = give(make_user("Grace Hopper"), "rescue"), make_user("Alan Turing"), make_user("Mary Shelley")
    ticking(ada, [grace, alan, mary])

    seen = links(client.post(PREVIEW, form(ada, "meeting", "webinar", until_full="on"), headers=HTMX))

    meeting, rescue, webinar = product("meeting").pk, product("rescue").pk, product("webinar").pk
    behind = {
        "changed": {"Grace Hopper"},
        "left_out": {"Alan Turing", "Mary Shelley"},
        f"gains-{meeting}": {"Grace Hopper"},
        f"gains-{webinar}": {"Grace Hopper"},
        f"losses-{rescue}": {"Grace Hopper"},
        "change_emails": {"Grace Hopper"},
        f"onboarding_emails-{meeting}": {"Grace Hopper"},
        f"onboarding_emails-{webinar}": {"Grace Hopper"},
    }
    assert seen.keys() == behind.keys()
    for number, url in seen.items():
        names = re.findall(r'names-name">([^<]+)<', client.get(url, headers=HTMX).content.decode())
        assert set(names) == behind[number]


def test_the_names_say_what_each_holds_now_and_afterwards(client: Client, ada: User) -> None:
    draft = ticking(ada, [give(make_user("Grace Hopper", email="grace@tests.example"), "rescue"), make_user()])

    words = shown(client.get(NAMES, {"draft": draft.pk, "mode": "REPLACE", "number": "suspending"}, headers=HTMX))

    assert "Users who become Suspended" in words
    assert "Grace Hopper grace@tests.example Rescue Suspended" in words


def test_a_hundred_names_are_shown_page_by_page_there_and_back(client: Client, ada: User) -> None:
    draft = ticking(ada, make_users(120, "Ann{n:03}"))
    url = f"{NAMES}?draft={draft.pk}&mode=ADD&product={product('rescue').pk}&number=changed"

    def names(page: Any) -> list[str]:
        return re.findall(r'names-name">([^<]+)<', page.content.decode())

    def way(page: Any, where: str) -> str:
        found = re.search(rf'id="names-{where}" href="([^"]+)"', page.content.decode())
        return NAMES + found[1].replace("&amp;", "&") if found else ""

    first = client.get(url)
    second = client.get(way(first, "next"))
    third = client.get(way(second, "next"), headers={**HTMX, "HX-Target": "names-list"})

    assert names(first) + names(second) + names(third) == [f"Ann{n:03}" for n in range(120)]
    assert (way(first, "previous"), way(third, "next")) == ("", "")
    assert names(client.get(way(third, "previous"))) == names(second)
    assert b"<html" not in third.content


def test_without_javascript_the_names_are_a_page_and_the_way_back_keeps_the_choice(client: Client, ada: User) -> None:
    grace = make_user()
    posted = {**form(ada, "rescue", quiet="on", reason="Pilot"), "draft": "", "user": [grace.pk, ada.pk]}

    page = client.get(links(client.post(PREVIEW, posted))["changed"])
    back = re.search(r'href="(/users/products/\?[^"]+)"', page.content.decode())
    assert back
    response = client.get(back[1].replace("&amp;", "&"))

    assert "<h1>Users who are changed</h1>" in page.content.decode()
    assert " checked" in box(response, "rescue")
    assert ">Pilot</textarea>" in response.content.decode()
    assert re.search(r'name="quiet"[^>]* checked', response.content.decode())
    assert "for 2 users" in shown(response)


def test_the_names_come_as_a_file(client: Client, ada: User) -> None:
    draft = ticking(ada, [give(make_user("=Grace Hopper", email="grace@tests.example"), "rescue")])

    response = client.get(EXPORT, {"draft": draft.pk, "mode": "REPLACE", "number": "suspending"})

    rows = b"".join(response.streaming_content).decode().splitlines()  # type: ignore[attr-defined]
    assert response["Content-Disposition"] == 'attachment; filename="users-suspending.csv"'
    assert [row.partition(",")[2] for row in rows] == ["Name,Email,Now,Afterwards", "'=Grace Hopper,grace@tests.example,Rescue,"]


def test_nobody_out_of_scope_is_ever_named(client: Client, manager: User) -> None:
    stranger = make_user("Sam Stranger")

    words = shown(client.get(NAMES, {"user": stranger.pk, "mode": "REPLACE", "number": "unchanged"}))

    assert "Stranger" not in words
    assert "Nobody any more." in words


@pytest.mark.parametrize(
    "wrong",
    [
        {"number": "x"},
        {"number": "gains"},
        {"of": "1"},
        {"mode": "ALL"},
        {"after": "x"},
        {"draft": "x"},
        {"product": "x"},
        {"user": "x"},
    ],
)
@pytest.mark.parametrize("url", [NAMES, EXPORT])
def test_a_number_that_no_preview_has_is_refused(client: Client, ada: User, wrong: dict[str, str], url: str) -> None:
    assert client.get(url, {"mode": "REPLACE", "number": "changed", "user": ada.pk, **wrong}).status_code == 400


@pytest.mark.parametrize("url", [NAMES, EXPORT])
def test_the_names_are_for_who_may_set_products(client: Client, url: str) -> None:
    admin, support = make_user(role=Role.ADMIN), make_user(role=Role.SUPPORT)
    asked = {"mode": "REPLACE", "number": "changed", "draft": ticking(admin, [support]).pk}
    assert client.get(url, asked).status_code == 302
    client.force_login(support)
    assert client.get(url, asked).status_code == 403
    client.force_login(make_user(role=Role.ADMIN))
    assert client.get(url, asked).status_code == 404
    assert client.post(url, asked).status_code == 405


def test_the_names_of_a_choice_that_may_not_be_made_are_not_told(client: Client, manager: User) -> None:
    asked = {"mode": "ADD", "number": "changed", "user": member_of(manager).pk, "product": product("central").pk}

    assert client.get(NAMES, asked, headers=HTMX).status_code == 422
    assert client.get(EXPORT, asked).status_code == 422
