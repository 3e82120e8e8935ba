"""Finding anything by a few letters: the palette, and without JavaScript its page."""

from typing import Any

import pytest
from django.test import Client
from django.utils.timezone import now

from products.actions import tick_users
from tests.console.pages import shown
from tests.factories import change, give, make_group, make_user, product
from users.models import Role, User

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


def found(client: Client, text: str = "") -> dict[str, list[tuple[str, str]]]:
    """Return (label, address) of what was found, by the title of its kind."""
    response = client.get("/find/", {"text": text}, headers=HTMX)
    assert response.status_code == 200
    return {str(kind.title): [(str(hit.label), hit.url) for hit in kind.hits] for kind in response.context["kinds"]}


def test_people_are_found_by_name_and_by_email(client: Client, ada: User) -> None:
    grace = make_user("Grace Hopper", email="amazing@people.example")

    assert found(client, "hopp")["Users"] == [("Grace Hopper", f"/users/{grace.pk}/")]
    assert found(client, "amazing@")["Users"] == [("Grace Hopper", f"/users/{grace.pk}/")]


def test_groups_and_products_lead_to_their_lists(client: Client, ada: User) -> None:
    benelux = make_group("Bénélux", inside=make_group("Sales"))

    assert found(client, "benelux sales")["User groups"] == [("Bénélux", f"/users/?group={benelux.pk}")]
    assert "Bénélux Sales" in shown(client.get("/find/", {"text": "benelux"}))  # its own name first, what it is in beside it
    assert found(client, "MEETING")["Products"] == [("GoTo Meeting", f"/products/{product('meeting').pk}/")]


def test_a_change_is_found_by_its_number(client: Client, ada: User) -> None:
    made = change(ada, [make_user()], "meeting")

    assert found(client, f"#{made.pk}")["Changes"] == [(f"Change #{made.pk}", f"/changes/{made.pk}/")]
    assert "Changes" not in found(client, "#2147483647")
    assert "Changes" not in found(client, "99999999999")


def test_of_nothing_the_pages_and_actions_are_offered(client: Client, ada: User) -> None:
    kinds = found(client)

    assert list(kinds) == ["Pages", "Actions"]
    assert ("Manage users", "/users/") in kinds["Pages"]
    assert ("Add user", "/users/add/") in kinds["Actions"]


def test_manage_products_is_an_action_once_somebody_is_selected(client: Client, ada: User) -> None:
    assert "Manage products" not in dict(found(client, "manage prod").get("Actions", []))

    tick_users(owner=ada, user_ids={make_user().pk}, ticked=True, now=now())

    assert dict(found(client, "manage prod")["Actions"])["Manage products"].startswith("/users/products/?draft=")


def test_a_manager_finds_those_of_their_groups_only(client: Client) -> None:
    mine, other = make_group("Team Mine"), make_group("Team Other")
    make_user("Grace Inside", groups=[mine])
    make_user("Grace Outside", groups=[other])
    client.force_login(make_user(role=Role.MANAGER, manages=[mine]))

    assert [label for label, _url in found(client, "grace")["Users"]] == ["Grace Inside"]
    assert [label for label, _url in found(client, "team")["User groups"]] == ["Team Mine"]


def test_a_member_finds_their_own_page_and_nobody(client: Client) -> None:
    make_user("Grace Hopper")
    client.force_login(give(make_user("Mia Member"), "meeting"))

    assert found(client, "grace") == {}
    assert found(client, "my products") == {"Pages": [("My products", "/me/")]}


@pytest.mark.parametrize("number", [3, 30])
def test_it_costs_the_same_for_few_and_many(client: Client, ada: User, number: int, django_assert_max_num_queries: Any) -> None:
    for each in range(number):
        make_group(f"Common {each}")
        make_user(f"Common {each}", role=Role.MANAGER)
    found(client, "common")

    with django_assert_max_num_queries(16):
        assert len(found(client, "common")["Users"]) == min(number, 6)


@pytest.mark.parametrize("text", ["'; DROP", "%", "\\", "\x00", "a" * 1_000, "#", "#-1", "🙂"])
def test_whatever_is_typed_is_looked_for(client: Client, ada: User, text: str) -> None:
    found(client, text)


def test_without_javascript_it_is_a_page_of_links(client: Client, ada: User) -> None:
    make_user("Grace Hopper")

    page = client.get("/find/", {"text": "grace"}).content.decode()

    assert "Grace Hopper" in page
    assert 'role="option"' not in page
    assert '<input class="input" type="search" id="text" name="text" value="grace"' in page


def test_in_the_palette_they_are_options_and_their_number_is_said(client: Client, ada: User) -> None:
    make_user("Grace Hopper")

    part = client.get("/find/", {"text": "grace"}, headers=HTMX).content.decode()

    assert part.count('role="option"') == 1
    assert "1 found" in part
    assert "<html" not in part


def test_signed_out_one_signs_in_first(client: Client) -> None:
    assert client.get("/find/")["Location"].startswith("/accounts/login/")


def test_nothing_is_posted_to_it(client: Client, ada: User) -> None:
    assert client.post("/find/").status_code == 405
