"""Choosing on the page Manage users whom a change is for."""

import re
from typing import Any

import pytest
from django.test import Client
from django.utils.timezone import now

from products.queries import selection_draft
from products.selection import Selection
from tests.console.pages import names, shown
from tests.factories import make_group, make_user
from users.models import Role, User

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true", "HX-Target": "results"}
TICKS, EVERYONE, CLEAR = "/users/selection/ticks/", "/users/selection/everyone/", "/users/selection/clear/"
COUNT = "/users/selection/count/"


def tick(client: Client, *of: User, ticked: bool = True) -> Any:
    """Tick users as their checkboxes do."""
    users = [user.pk for user in of]
    return client.post(TICKS, {"of": users, "user": users if ticked else []}, headers={**HTMX, "HX-Target": "selection"})


def selected(actor: User) -> set[str]:
    """Return the names of those whom the actor has selected."""
    selection = Selection.of_draft(selection_draft(actor, now=now()))
    return {user.name for user in selection.users(actor, now=now())}


def test_ticks_are_kept_over_searches_pages_and_reloads(client: Client, ada: User) -> None:
    grace, alan = make_user("Grace Hopper"), make_user("Alan Turing")

    tick(client, grace)
    client.get("/users/?search=alan", headers=HTMX)
    response = tick(client, alan)

    assert "2 selected" in shown(response)
    assert selected(ada) == {"Grace Hopper", "Alan Turing"}
    assert "2 selected" in shown(client.get("/users/?search=nobody"))
    assert client.get("/users/").content.count(b'data-tick autocomplete="off" checked>') == 2


def test_a_tick_is_taken_back(client: Client, ada: User) -> None:
    grace, alan = make_user("Grace Hopper"), make_user("Alan Turing")
    tick(client, grace, alan)

    response = tick(client, grace, ticked=False)

    assert "1 selected" in shown(response)
    assert selected(ada) == {"Alan Turing"}


def test_one_box_changes_its_own_user_only(client: Client, ada: User) -> None:
    grace, alan = make_user("Grace Hopper"), make_user("Alan Turing")
    tick(client, alan)

    client.post(TICKS, {"of": grace.pk, "user": [grace.pk]}, headers=HTMX)  # a page loaded before Alan was ticked

    assert selected(ada) == {"Grace Hopper", "Alan Turing"}


def test_the_box_above_ticks_the_page(client: Client, ada: User) -> None:
    User.objects.bulk_create(User(email=f"u{n:03}@tests.example", first_name=f"U{n:03}") for n in range(60))

    response = client.get("/users/")
    page = re.findall(r'data-tick[^>]*|name="user" value="(\d+)"', response.content.decode())
    page = [value for value in page if value]
    answer = client.post(TICKS, {"of": page, "user": page}, headers=HTMX)

    assert "Select the 50 users on this page" in shown(response)
    assert "50 selected" in shown(answer)


def test_select_all_takes_everyone_the_filter_and_search_find_on_all_pages(client: Client, ada: User) -> None:
    User.objects.bulk_create(User(email=f"u{n:03}@tests.example", first_name="Grace") for n in range(70))
    make_user("Alan Turing")

    response = client.get("/users/?search=grace&role=MEMBER")
    answer = client.post(f"{EVERYONE}?search=grace&role=MEMBER", headers=HTMX)

    assert "Select all" in shown(response)
    assert "Counting… Selected: everyone with Role: Member, Search: “grace”" in shown(answer)
    assert shown(client.get(COUNT, headers=HTMX)) == "70 selected"
    assert "70 selected everyone with Role: Member" in shown(client.get("/users/?count=yes"))
    assert len(names(answer)) == answer.content.count(b" checked>") == 50
    assert "Alan Turing" not in selected(ada)


def test_single_ones_are_unticked_from_everyone(client: Client, ada: User) -> None:
    grace, _alan = make_user("Grace Hopper"), make_user("Alan Turing")
    client.post(EVERYONE, headers=HTMX)

    response = tick(client, grace, ticked=False)

    assert "everyone, except 1" in shown(response)
    assert shown(client.get(COUNT, headers=HTMX)) == "2 selected"
    assert selected(ada) == {"Ada Admin", "Alan Turing"}


def test_who_is_not_among_everyone_selected_is_refused_instead_of_only_looking_ticked(client: Client, ada: User) -> None:
    grace, alan = make_user("Grace Hopper"), make_user("Alan Turing")
    client.post(f"{EVERYONE}?search=grace", headers=HTMX)
    tick(client, grace, ticked=False)

    refused = tick(client, alan)

    assert refused.status_code == 422
    assert "Clear the selection to tick others." in shown(refused)
    assert selected(ada) == set()
    assert tick(client, grace).status_code == 200
    assert selected(ada) == {"Grace Hopper"}


def test_select_all_never_takes_more_than_was_asked_for(client: Client, ada: User) -> None:
    grace = make_user("Grace Hopper")
    tick(client, grace)

    response = client.post(f"{EVERYONE}?role=KING", headers=HTMX)

    assert response.status_code == 422
    assert "There is no Role “KING”" in shown(response)
    assert selected(ada) == {"Grace Hopper"}


def test_the_selection_is_cleared(client: Client, ada: User) -> None:
    client.post(EVERYONE, headers=HTMX)

    response = client.post(CLEAR, headers=HTMX)

    assert "Nobody selected" in shown(response)
    assert b" checked " not in response.content
    assert selected(ada) == set()


def test_users_out_of_scope_or_unknown_are_never_counted(client: Client) -> None:
    sales = make_group("Sales")
    grace, alan = make_user("Grace Hopper", groups=[sales]), make_user("Alan Turing")
    max_manager = make_user("Max Manager", role=Role.MANAGER, manages=[sales])
    client.force_login(max_manager)

    ids = [grace.pk, alan.pk, 99999999, -1, "x", "9" * 30]
    response = client.post(TICKS, {"of": ids, "user": ids}, headers=HTMX)

    assert "1 selected" in shown(response)
    assert selected(max_manager) == {"Grace Hopper"}


def test_ticks_of_one_admin_are_not_those_of_another(client: Client, ada: User) -> None:
    tick(client, make_user("Grace Hopper"))
    client.force_login(make_user(role=Role.ADMIN))

    assert "Nobody selected" in shown(client.get("/users/"))


@pytest.mark.parametrize("many", [501, 10_000])
def test_too_many_ids_at_once_are_refused_politely(client: Client, ada: User, many: int) -> None:
    ids = list(range(many))

    response = client.post(TICKS, {"of": ids, "user": ids}, headers=HTMX)

    assert response.status_code in (400, 422)
    assert "use “Select all” instead" in shown(response)
    assert selected(ada) == set()


def test_clearing_the_selection_leaves_the_filters_on_that_the_page_shows(client: Client, ada: User) -> None:
    make_user("Grace Hopper")
    make_user("Hedy Lamarr")

    response = client.post(CLEAR, {"search": "grace", "role": "MEMBER"}, headers=HTMX)

    assert "Hedy Lamarr" not in shown(response)
    again = re.search(rf'hx-post="{EVERYONE}([^"]*)"', response.content.decode())
    assert again
    client.post(EVERYONE + again[1].replace("&amp;", "&"), headers=HTMX)
    assert selected(ada) == {"Grace Hopper"}


def test_nothing_posted_changes_nothing(client: Client, ada: User) -> None:
    response = client.post(TICKS, headers=HTMX)

    assert response.status_code == 200
    assert "Nobody selected" in shown(response)


def test_without_javascript_select_all_and_clear_come_back_to_the_list(client: Client, ada: User) -> None:
    make_user("Grace Hopper")

    assert client.post(f"{EVERYONE}?search=grace")["Location"] == "/users/?search=grace"
    assert selected(ada) == {"Grace Hopper"}
    assert client.post(f"{CLEAR}?search=grace")["Location"] == "/users/?search=grace"
    assert selected(ada) == set()


def test_manage_products_is_disabled_while_nobody_is_selected(client: Client, ada: User) -> None:
    before, after = client.get("/users/"), tick(client, make_user("Grace Hopper"))

    assert re.search(rb'id="manage-products"[^>]* disabled', before.content)
    assert not re.search(rb'id="manage-products"[^>]* disabled', after.content)


@pytest.mark.parametrize("address", [TICKS, EVERYONE, CLEAR])
def test_choosing_takes_a_post_from_who_may_assign_products(client: Client, address: str) -> None:
    assert client.get(address).status_code == 405
    assert client.post(address).status_code == 302  # to sign in
    client.force_login(make_user(role=Role.SUPPORT))
    assert client.post(address).status_code == 403


def test_support_reads_the_list_and_ticks_nothing(client: Client) -> None:
    client.force_login(make_user("Sue Support", role=Role.SUPPORT))

    response = client.get("/users/")

    assert names(response) == ["Sue Support"]
    assert b"data-tick" not in response.content
    assert "Manage products" not in shown(response)
