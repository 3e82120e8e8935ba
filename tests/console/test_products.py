"""The products: their seats, holders and changes; setting how many seats there are."""

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import now

from products.models import BulkChange, Product, Seat, SeatReservation
from products.seats import warn_of_low_seats
from tests.console.pages import shown
from tests.factories import change, give, give_all, limit, make_group, make_user, make_users, product, run
from users.models import Action, AdminAction, Role, User

pytestmark = pytest.mark.django_db


def set_seats(client: Client, code: str, seats: str) -> Any:
    return client.post(f"/products/{product(code).pk}/seats/", {"seats": seats})


def reserve(actor: User, code: str, seats: int) -> None:
    """Let a change that runs have set so many seats aside."""
    running = BulkChange.objects.create(actor=actor, products=[], preserved=[], selection={}, requested_at="2026-11-22T12:00Z")
    SeatReservation.objects.create(change=running, product=product(code), reserved=seats)
    Seat.objects.filter(product__code=code).update(reserved=seats)


def test_the_list_tells_the_seats_of_each_product(client: Client, ada: User) -> None:
    give(make_user(), "rescue", "central")
    limit("rescue", 1_200)
    reserve(ada, "rescue", 3)
    Product.objects.filter(code="central").update(restricted=True, retired_at="2026-01-01T00:00Z")

    page = client.get("/products/")

    assert "Rescue 1 3 1,196 1,200 4 of 1,200 Users Rescue Changes Rescue" in shown(page)
    assert "Central retired restricted 1 – any unlimited" in shown(page)
    assert f'href="/users/?product={product("rescue").pk}"' in page.content.decode()
    assert f'href="/changes/?product={product("rescue").pk}"' in page.content.decode()


@pytest.mark.parametrize(
    ("seats", "taken", "percent", "low"),
    [(1, 0, 10, False), (1, 1, 10, True), (5, 4, 10, False), (10, 9, 10, True), (11, 9, 10, False), (5, 4, 20, True)],
)
def test_seats_show_as_short_when_the_email_about_them_is_owed(
    client: Client, ada: User, settings: Any, seats: int, taken: int, percent: int, low: bool
) -> None:
    settings.SEATS_LOW_PERCENT = percent
    give_all(make_users(taken), "rescue")
    limit("rescue", seats)

    pages = [client.get(page).content.decode() for page in ("/products/", f"/products/{product('rescue').pk}/")]

    assert [f'progress-short" max="{seats}"' in page for page in pages] == [low, low]
    assert warn_of_low_seats(now=now()) == low


def test_a_product_tells_who_holds_it_and_what_changed_it(client: Client, ada: User) -> None:
    made = change(ada, [make_user("Grace Hopper")], "rescue")
    change(ada, [make_user("Hedy Lamarr")], "central")

    words = shown(client.get(f"/products/{product('rescue').pk}/"))

    assert "Grace Hopper" in words
    assert f"#{made.pk} Set to Rescue Finished Ada Admin" in words
    assert "Hedy Lamarr" not in words
    assert "Central" not in words


def test_a_manager_sees_holders_of_their_groups_only(client: Client) -> None:
    sales = make_group("Sales")
    client.force_login(make_user(role=Role.MANAGER, manages=[sales]))
    give(make_user("Grace Hopper", groups=[sales]), "rescue")
    give(make_user("Hedy Lamarr"), "rescue")
    give(make_user("Anna Alt"), "central")

    rescue = client.get(f"/products/{product('rescue').pk}/")
    assert "Grace Hopper" in shown(rescue)
    assert "Hedy Lamarr" not in shown(rescue)
    assert "Set seats" not in shown(rescue)
    assert "Nobody in your groups holds it." in shown(client.get(f"/products/{product('central').pk}/"))


def test_the_number_of_seats_is_set(client: Client, ada: User) -> None:
    give(make_user(), "rescue")

    for typed, seats in (("1,500", 1_500), ("1", 1), ("", None), ("7", 7)):
        response = set_seats(client, "rescue", typed)

        assert (response.status_code, response["Location"]) == (303, f"/products/{product('rescue').pk}/")
        assert product("rescue").seat.seats == seats
    assert "The number of seats of Rescue was set." in shown(client.get("/products/"))


@pytest.mark.parametrize("seats", [99_999_999, 2_147_483_647])
def test_there_may_be_as_many_seats_as_a_number_can_say(client: Client, ada: User, settings: Any, seats: int) -> None:
    give(make_user(), "rescue")

    assert set_seats(client, "rescue", str(seats)).status_code == 303
    pages = [client.get(page).content.decode() for page in ("/products/", f"/products/{product('rescue').pk}/")]
    assert all(f"{seats:,}" in page for page in pages)
    assert warn_of_low_seats(now=now()) == 0
    settings.SEATS_LOW_PERCENT = 100
    assert warn_of_low_seats(now=now()) == 1

    settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE = 2, 3
    made = run(change(ada, make_users(4), "rescue"))
    assert (made.state, Seat.objects.get(product__code="rescue").free) == ("FINISHED", seats - 5)


def test_fewer_seats_than_are_taken_are_refused_with_the_numbers(client: Client, ada: User) -> None:
    give(make_user(), "rescue")
    give(make_user(), "rescue")
    reserve(ada, "rescue", 3)

    refused = set_seats(client, "rescue", "4")

    assert refused.status_code == 422
    sentence = "There cannot be fewer seats than are taken: 2 are used, and 3 reserved for changes that run."
    assert sentence in shown(refused)
    assert 'value="4"' in refused.content.decode()
    assert product("rescue").seat.seats is None
    for _time in range(2):
        assert set_seats(client, "rescue", "5").status_code == 303
    assert AdminAction.objects.get(action=Action.PRODUCT_SEATS_CHANGED).after == {"seats": 5}


@pytest.mark.parametrize("typed", ["many", "-1", "1.5.x", "99999999999"])
def test_what_is_no_number_is_refused_and_kept(client: Client, ada: User, typed: str) -> None:
    refused = set_seats(client, "rescue", typed)

    assert refused.status_code == 422
    assert f"“{typed}” is not a number of seats." in shown(refused)
    assert f'value="{typed}"' in refused.content.decode()


def test_the_pages_cost_the_same_for_few_and_many(client: Client, ada: User) -> None:
    def statements(size: int) -> int:
        for _ in range(size):
            change(ada, [make_user()], "rescue")
        with CaptureQueriesContext(connection) as captured:
            client.get("/products/")
            client.get(f"/products/{product('rescue').pk}/")
        return len(captured)

    statements(1)  # writes when the admin was seen

    assert statements(3) == statements(9)


def test_who_may_not(client: Client) -> None:
    assert client.get("/products/")["Location"] == "/accounts/login/?next=/products/"
    for role, reads in ((Role.MEMBER, 403), (Role.MANAGER, 200), (Role.SUPPORT, 200)):
        client.force_login(give(make_user(role=role), "rescue"))
        assert client.get("/products/").status_code == reads
        assert client.get(f"/products/{product('rescue').pk}/").status_code == reads
        assert set_seats(client, "rescue", "9").status_code == 403


def test_an_unknown_product_is_not_found(client: Client, ada: User) -> None:
    assert client.get("/products/4711/").status_code == 404
    assert client.get("/products/99999999999999999999/").status_code == 404
    assert client.post("/products/4711/seats/", {"seats": "1"}).status_code == 404
    assert client.get(f"/products/{product('rescue').pk}/seats/").status_code == 405


@pytest.fixture
def sue(client: Client) -> User:
    """Return a Super admin who is signed in."""
    sue = make_user("Sue Super", role=Role.SUPER_ADMIN)
    client.force_login(sue)
    return sue


def test_a_super_admin_adds_a_product(client: Client, sue: User) -> None:
    assert 'href="/products/add/"' in client.get("/products/").content.decode()

    response = client.post("/products/add/", {"name": "GoTo Notes", "code": "", "onboarding": "on"})

    notes = product("goto-notes")
    assert (response.status_code, response["Location"]) == (303, f"/products/{notes.pk}/")
    assert "The product was added." in shown(client.get(response["Location"]))
    assert (notes.name, notes.onboarding, notes.restricted) == ("GoTo Notes", True, False)


def test_a_product_that_cannot_be_added_is_refused_beside_the_cause_and_kept(client: Client, sue: User) -> None:
    refused = client.post("/products/add/", {"name": "Notes", "code": "No Tes", "restricted": "on"})

    page = refused.content.decode()
    assert refused.status_code == 422
    assert "A code has 1 to 32 small letters" in shown(refused)
    assert 'id="id_code_error"' in page
    assert 'value="No Tes"' in page
    assert 'name="restricted" aria-describedby="id_restricted_helptext" id="id_restricted" checked' in page
    assert not Product.objects.filter(name="Notes").exists()


def test_a_product_is_renamed_restricted_and_retired(client: Client, sue: User) -> None:
    edit = f"/products/{product('rescue').pk}/edit/"
    assert f'href="{edit}"' in client.get(f"/products/{product('rescue').pk}/").content.decode()
    assert 'value="Rescue"' in client.get(edit).content.decode()

    response = client.post(edit, {"name": "Rescue Pro", "restricted": "on", "retired": "on"})

    assert response.status_code == 303
    assert "Rescue Pro retired restricted" in shown(client.get(response["Location"]))
    assert client.post(edit, {"name": "Central"}).status_code == 422
    assert product("rescue").name == "Rescue Pro"
    assert client.get("/products/99999/edit/").status_code == 404


@pytest.mark.parametrize("role", [Role.MANAGER, Role.ADMIN, Role.SUPPORT])
def test_nobody_else_changes_the_catalogue(client: Client, role: str) -> None:
    client.force_login(make_user(role=role, manages=[make_group()] if role == Role.MANAGER else []))

    for page in ("/products/add/", f"/products/{product('rescue').pk}/edit/"):
        assert client.get(page).status_code == client.post(page, {"name": "Notes"}).status_code == 403
    for page in ("/products/", f"/products/{product('rescue').pk}/"):
        assert "/add/" not in (words := client.get(page).content.decode())
        assert "/edit/" not in words
