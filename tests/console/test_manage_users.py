"""The page Manage users: the list, how it looks, and narrowing it down."""

import gzip
import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import now

from admin_console.middleware import SEEN_AT
from notifications.actions import queue_message
from notifications.models import MailServer
from products import actions
from products.models import Product
from tests.console.pages import names, shown
from tests.factories import change, give, give_all, make_group, make_user, make_users
from users.models import GroupMembership, LastSeen, Role, User
from users.queries import Status, UserFilter

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true", "HX-Target": "results"}


@pytest.fixture
def ada(client: Client) -> User:
    """Return an admin who is signed in."""
    ada = make_user("Ada Admin", email="ada@tests.example", role=Role.ADMIN)
    client.force_login(ada)
    return ada


def way(response: Any, name: str) -> str:
    """Return where the link to another page leads, or nothing if there is none."""
    found = re.search(rf'id="page-{name}" href="([^"]*)"', response.content.decode())
    return unescape(found[1]) if found else ""


def follow(client: Client, start: str, name: str) -> list[Any]:
    """Return the pages from `start` on, following the link `name` to its end."""
    pages = [client.get(start)]
    while address := way(pages[-1], name):
        pages.append(client.get(address))
        assert len(pages) < 50
    return pages


def range_of(response: Any) -> str:
    """Return what the page says about where in the list it is."""
    found = re.search('<p id="numbers">(.*?)</p>', response.content.decode())
    assert found
    return found[1]


def row(response: Any, name: str) -> str:
    """Return the words of one row of the list."""
    found = [tr for tr in re.findall(r"<tr>.*?</tr>", response.content.decode(), re.DOTALL) if name in tr]
    return " ".join(re.sub(r"<[^>]+>", " ", found[0]).split())


# The list


def test_the_list_shows_everyone_with_what_there_is_to_know(client: Client, ada: User) -> None:
    benelux = make_group("Benelux", inside=make_group("Sales"))
    grace = make_user("Grace Hopper", email="grace@tests.example", groups=[benelux, make_group("Works council")])
    LastSeen.objects.create(user=grace, first_at=now(), at=now() - timedelta(days=3))
    give(grace, "meeting", "rescue")

    response = client.get("/users/")

    assert names(response) == ["Ada Admin", "Grace Hopper"]
    words = row(response, "Grace Hopper")
    assert "grace@tests.example" in words
    assert "Benelux +1 Sales / Benelux, Works council" in words
    assert "Member" in words
    assert "Me Rs" in words
    assert 'aria-label="GoTo Meeting, Rescue"' in response.content.decode()
    assert "Active" in words
    assert re.search(r"3 days ago .+\d{4}, \S+", words)


def test_each_status_is_a_word(client: Client, ada: User) -> None:
    invited, inactive = give(make_user("Ida Invited"), "meeting"), give(make_user("Ian Inactive"), "meeting")
    LastSeen.objects.create(user=inactive, first_at=now(), at=now() - timedelta(days=31))
    make_user("Sue Suspended")

    response = client.get("/users/")

    assert "Invited Never" in row(response, invited.name)
    assert " Inactive " in row(response, inactive.name)
    assert "Suspended" in row(response, "Sue Suspended")


def test_a_suspended_admin_who_may_sign_in_has_console_access(client: Client, ada: User) -> None:
    make_user("Sue Suspended")
    make_user("Otto Off", role=Role.ADMIN, is_active=False)

    response = client.get("/users/")

    assert "Suspended console access" in row(response, "Ada Admin")
    assert "console access" not in row(response, "Sue Suspended")
    assert "console access" not in row(response, "Otto Off")


def test_products_of_who_never_signed_in_are_hollow(client: Client, ada: User) -> None:
    give(make_user("Ida Invited"), "meeting")

    assert b"mark-hollow" in client.get("/users/?search=ida").content

    LastSeen.objects.create(user=User.objects.get(first_name="Ida"), first_at=now(), at=now())

    assert b"mark-hollow" not in client.get("/users/?search=ida").content


def test_fifty_are_on_a_page_and_the_pages_lead_to_each_other(client: Client, ada: User) -> None:
    User.objects.bulk_create(User(email=f"u{n:03}@tests.example", first_name=f"U{n:03}") for n in range(119))

    forwards = follow(client, "/users/", "next")
    backwards = follow(client, way(forwards[0], "last"), "previous")

    assert [len(names(page)) for page in forwards] == [50, 50, 20]
    everyone = [name for page in forwards for name in names(page)]
    assert len(set(everyone)) == 120
    assert names(backwards[0]) == everyone[-50:]
    assert names(backwards[1]) == everyone[20:70]
    assert names(backwards[2]) == everyone[:50]
    assert way(forwards[0], "previous") == way(forwards[0], "first") == way(forwards[2], "next") == way(forwards[2], "last") == ""
    assert way(forwards[2], "first") == "/users/?"


def test_a_page_tells_where_it_is_as_far_as_that_is_known(client: Client, ada: User) -> None:
    User.objects.bulk_create(User(email=f"u{n:03}@tests.example", first_name=f"U{n:03}") for n in range(119))
    first = client.get("/users/")
    second, last = client.get(way(first, "next")), client.get(way(first, "last"))

    assert range_of(second) == "51–100"
    assert range_of(client.get(way(first, "next") + "&count=yes")) == "51–100 of 120"
    assert range_of(last) == ""
    assert range_of(client.get(way(first, "last") + "&count=yes")) == "71–120 of 120"
    assert range_of(client.get(way(last, "previous") + "&count=yes")) == "21–70 of 120"


def test_the_number_of_all_follows_the_rows(client: Client, ada: User) -> None:
    User.objects.bulk_create(User(email=f"u{n:03}@tests.example", first_name=f"U{n:03}") for n in range(119))

    page = client.get("/users/?role=MEMBER&sort=-email")
    asked = re.search(r'hx-get="(/users/count/[^"]*)" hx-trigger="load"', page.content.decode())
    assert asked
    counted = client.get(unescape(asked[1]), headers={"HX-Request": "true", "HX-Target": "found"})

    assert "119 users" not in shown(page)
    assert shown(counted) == "119 users Select all 119 1–50 of 119"
    assert counted.content.decode().count('hx-swap-oob="true"') == 2
    assert "Count them" in shown(page)
    assert "119 users" in shown(client.get("/users/?role=MEMBER&sort=-email&count=yes"))


def test_the_only_page_needs_no_count(client: Client, ada: User) -> None:
    page = client.get("/users/")

    assert "Select all 1 1 user " in shown(page)
    assert "1–1 of 1" in shown(page)
    assert b"/users/count/" not in page.content


@pytest.mark.parametrize(
    "place", ["nonsense", "~", "x~-1", "MEMBER~1", "2026-11-22~7", "~99999999999", "NaN~1", "Admin", "\x00~1"]
)
@pytest.mark.parametrize("sort", ["group", "-role", "products", "status", "seen"])
def test_a_page_that_nobody_can_find_is_the_first(client: Client, ada: User, sort: str, place: str) -> None:
    if (sort, place) == ("-role", "MEMBER~1"):
        place = "KING~1"

    response = client.get("/users/", {"sort": sort, "after": place})

    assert names(response) == ["Ada Admin"]
    assert "That page of the list cannot be found any more; this is the first one." in shown(response)


def test_a_page_beyond_the_end_is_the_last_and_one_before_the_start_is_the_first(client: Client, ada: User) -> None:
    make_user("Grace Hopper")

    assert names(client.get("/users/?after=zzz~1&from=51")) == ["Ada Admin", "Grace Hopper"]
    assert names(client.get("/users/?before=a~1&from=51")) == ["Ada Admin", "Grace Hopper"]
    assert names(client.get("/users/?after=ada admin~" + str(ada.pk))) == ["Grace Hopper"]
    assert names(client.get("/users/?last=1&from=x")) == ["Ada Admin", "Grace Hopper"]


def test_who_comes_or_goes_meanwhile_moves_nobody_to_another_page(client: Client, ada: User) -> None:
    User.objects.bulk_create(User(email=f"u{n:03}@tests.example", first_name=f"U{n:03}") for n in range(119))
    first = client.get("/users/")
    make_user("Aaron")
    User.objects.get(first_name="U048").delete()  # the last of the first page

    second = client.get(way(first, "next"))

    assert names(second)[0] == "U049"
    assert names(client.get(way(second, "previous")))[-1] == "U047"


@pytest.fixture
def jammed(client: Client, ada: User, superuser_connection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whatever depends on when users were last seen take too long."""
    actions.select_everyone(owner=ada, wanted=UserFilter(status=(Status.ACTIVE,)), now=now())
    session = client.session
    session[SEEN_AT] = int(now().timestamp())  # so that the request does not note it
    session.save()
    superuser_connection.execute("LOCK TABLE users_lastseen")
    monkeypatch.setattr("users.plans.LONGEST", "50ms")


@pytest.mark.usefixtures("jammed")
def test_a_list_that_takes_too_long_says_so(client: Client) -> None:
    response = client.get("/users/?sort=seen")

    assert response.status_code == 503
    assert "Please narrow it down" in shown(response)


@pytest.mark.usefixtures("jammed")
def test_what_cannot_be_counted_in_time_says_so_where_the_number_would_stand(client: Client) -> None:
    found = client.get("/users/count/?status=ACTIVE&from=1&shown=50", headers={"HX-Request": "true", "HX-Target": "found"})
    selected = client.get("/users/selection/count/", headers={"HX-Request": "true", "HX-Target": "selected"})

    assert (shown(found), shown(selected)) == ("could not be counted Select all 1–50", "could not be counted")
    assert "HX-Retarget" not in {*found.headers, *selected.headers}


@pytest.mark.parametrize("column", ["name", "email", "group", "role", "products", "status", "seen"])
def test_every_column_sorts_both_ways(client: Client, ada: User, column: str) -> None:
    alpha, beta = make_group("Alpha"), make_group("Beta")
    User.objects.filter(pk=ada.pk).delete()
    client.force_login(give(make_user("A", email="a@tests.example", role=Role.ADMIN, groups=[alpha]), "meeting", "rescue"))
    give(make_user("B", email="b@tests.example", role=Role.SUPPORT, groups=[beta]), "meeting")
    client.get("/users/")

    up, down = client.get(f"/users/?sort={column}"), client.get(f"/users/?sort=-{column}")

    assert sorted(names(up)) == sorted(names(down)) == ["A", "B"]
    assert names(up) == names(down)[::-1]
    assert f'data-column="{column}" aria-sort="ascending"' in up.content.decode()
    assert 'role="button"' not in up.content.decode()  # a link is pressed by Enter alone, and says so
    assert f'data-column="{column}" aria-sort="descending"' in down.content.decode()


@pytest.mark.parametrize("query", ["", "?sort=-group", "?sort=role", "?sort=-seen", "?role=MEMBER&status=SUSPENDED&search=u"])
def test_the_list_costs_no_more_for_many_than_for_few(client: Client, ada: User, query: str) -> None:
    def cost() -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            client.get(f"/users/{query}")
        return len(queries)

    groups, product = [make_group(), make_group()], Product.objects.first()
    assert product
    for n in range(3):
        give(make_user(f"U{n}", groups=groups), product.code)
    client.get("/users/")  # writes last seen, once an hour
    few = cost()
    users = make_users(297, "U{n}")
    in_groups = [(user, group) for n, user in enumerate(users) for group in groups[n % 2 :]]
    GroupMembership.objects.bulk_create(GroupMembership(user=user, group=group) for user, group in in_groups)
    give_all(users, product.code)

    assert cost() <= few <= 21


def test_the_console_says_that_emails_are_late(client: Client, ada: User) -> None:
    assert b"Emails are delayed" not in client.get("/users/").content

    MailServer.objects.update_or_create(defaults={"down_since": now(), "last_words": "Connection refused"})
    queue_message(user=ada, subject="Hello", text="Hello", html="", now=now() - timedelta(minutes=1))

    assert "Emails are delayed: 1 waits" in shown(client.get("/users/"))


def test_the_console_says_that_a_change_of_yours_is_running(client: Client, ada: User, settings: Any) -> None:
    settings.BULK_AT_ONCE = 0
    started = change(ada, [make_user("Grace Hopper")], "meeting")

    assert f'href="/changes/{started.pk}/"' in client.get("/users/").content.decode()


# Narrowing it down


def test_filters_of_several_categories_and_a_search_must_all_hold(client: Client, ada: User) -> None:
    sales = make_group("Sales")
    give(make_user("Grace Hopper", role=Role.MANAGER, groups=[sales]), "meeting")
    make_user("Grace Kelly", role=Role.MANAGER)
    make_user("Alan Turing", role=Role.MANAGER, groups=[sales])

    response = client.get(f"/users/?group={sales.pk}&role=MANAGER&search=GRÀCE")

    assert names(response) == ["Grace Hopper"]
    assert "User group: Sales" in shown(response)
    assert "Role: Manager" in shown(response)
    assert "Search: “GRÀCE”" in shown(response)


def test_members_of_subgroups_are_found_too(client: Client, ada: User) -> None:
    sales = make_group("Sales")
    make_user("Grace Hopper", groups=[make_group("Benelux", inside=sales)])

    assert names(client.get(f"/users/?group={sales.pk}")) == ["Grace Hopper"]


def test_no_group_and_no_product_can_be_asked_for(client: Client, ada: User) -> None:
    give(make_user("Grace Hopper", groups=[make_group()]), "meeting")

    assert names(client.get("/users/?group=0")) == ["Ada Admin"]
    assert names(client.get("/users/?product=0")) == ["Ada Admin"]
    assert "User group: No group" in shown(client.get("/users/?group=0"))


def test_choosing_a_value_adds_it_to_the_address(client: Client, ada: User) -> None:
    plain = client.get("/users/?role=ADMIN&search=a&category=status&value=SUSPENDED")
    htmx = client.get("/users/?role=ADMIN&search=a&category=status&value=SUSPENDED", headers=HTMX)

    assert plain["Location"] == htmx["HX-Push-Url"] == "/users/?search=a&role=ADMIN&status=SUSPENDED"


def test_typing_does_not_fill_the_history_of_the_browser(client: Client, ada: User) -> None:
    response = client.get("/users/?search=ad&category=group&value=", headers={**HTMX, "HX-Trigger-Name": "search"})

    assert response["HX-Replace-Url"] == "/users/?search=ad"
    assert "HX-Push-Url" not in response
    assert b'id="search"' not in response.content  # the field being typed into stays


def test_a_list_that_refreshes_itself_leaves_the_address_alone(client: Client, ada: User) -> None:
    response = client.get("/users/?role=ADMIN", headers={**HTMX, "HX-Trigger": "results"})

    assert "HX-Push-Url" not in response
    assert "HX-Replace-Url" not in response


def test_choosing_a_category_shows_its_values_that_are_not_taken(client: Client, ada: User) -> None:
    response = client.get("/users/?status=ACTIVE&category=status&value=", headers={**HTMX, "HX-Target": "narrow"})

    assert "Inactive Invited Suspended" in shown(response)
    assert 'value="ACTIVE">Active' not in response.content.decode()
    assert b'id="results"' not in response.content


def test_a_chip_removes_its_filter_only(client: Client, ada: User) -> None:
    html = client.get("/users/?role=ADMIN&status=SUSPENDED&search=ada&sort=-email").content.decode()

    assert 'href="/users/?search=ada&amp;role=ADMIN&amp;sort=-email"' in html
    assert 'href="/users/?search=ada&amp;status=SUSPENDED&amp;sort=-email"' in html
    assert 'href="/users/?role=ADMIN&amp;status=SUSPENDED&amp;sort=-email"' in html


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("role=KING", "There is no Role “KING” to filter by"),
        ("group=99999", "There is no User group “99999” to filter by"),
        ("product=x", "There is no Product “x” to filter by"),
        ("sort=shoe", "The list cannot be sorted by “shoe”"),
        ("language=<script>", "“&lt;script&gt;”"),
    ],
)
def test_a_value_that_cannot_be_is_left_out_and_said(client: Client, ada: User, query: str, sentence: str) -> None:
    response = client.get(f"/users/?status=SUSPENDED&{query}")

    assert response.status_code == 200
    assert sentence in response.content.decode()
    assert names(response) == ["Ada Admin"]


def test_nothing_found_offers_to_clear_the_filters(client: Client, ada: User) -> None:
    response = client.get("/users/?search=nobody")

    assert "Nobody found" in shown(response)
    assert "Clear filters" in shown(response)
    assert 'id="select-all" data-key="a" disabled' in response.content.decode()


def test_a_manager_of_nothing_sees_nobody(client: Client) -> None:
    client.force_login(make_user(role=Role.MANAGER))

    assert "There is nobody here yet" in shown(client.get("/users/"))


def test_a_manager_sees_their_groups_and_their_members_only(client: Client) -> None:
    sales, other = make_group("Sales"), make_group("Other")
    make_user("Grace Hopper", groups=[sales, other])
    make_user("Alan Turing", groups=[other])
    client.force_login(make_user("Max Manager", role=Role.MANAGER, manages=[sales]))

    response = client.get("/users/")
    elsewhere = client.get(f"/users/?group={other.pk}")

    assert names(response) == ["Grace Hopper"]
    assert "Other" not in shown(response)
    assert f"There is no User group “{other.pk}”" in shown(elsewhere)


def test_names_are_shown_as_text(client: Client, ada: User) -> None:
    make_user("<b>Eve</b> <script>alert(1)</script>")

    assert b"<script>alert" not in client.get("/users/").content


# How it looks


def test_the_list_is_read_with_get(client: Client, ada: User) -> None:
    assert client.post("/users/").status_code == 405


def test_how_the_list_looks_is_remembered_in_the_browser(client: Client, ada: User) -> None:
    form = {"density": "compact", "column": ["email", "products"]}
    kept = client.post("/users/look/", form, headers={"HX-Request": "true"})
    page = client.get("/users/").content.decode()

    assert kept.status_code == 204
    assert "checked" in re.search(r'<input[^>]*id="look-compact"[^>]*>', page)[0]
    shown_columns = re.findall(r'id="shows-(\w+)"[^>]* checked', page)
    assert shown_columns == ["email", "products"]


def test_without_javascript_the_look_comes_back_to_the_page_it_was_chosen_on(client: Client, ada: User) -> None:
    here = "/users/?role=ADMIN"

    assert client.post("/users/look/", {"column": []}, headers={"Referer": f"http://testserver{here}"})["Location"] == here


def test_a_cookie_that_is_no_look_hides_nothing(client: Client, ada: User) -> None:
    client.cookies["users_look"] = "name.nonsense.<b>"

    assert client.get("/users/").content.decode().count('name="column"') == 6
    assert len(re.findall(r'id="shows-\w+"[^>]* checked', client.get("/users/").content.decode())) == 6


def test_who_is_alone_is_led_through_the_first_steps(client: Client, ada: User) -> None:
    assert "First steps" in shown(client.get("/users/"))
    assert "First steps" not in shown(client.get("/users/?search=ada"))

    make_user("Grace Hopper")
    assert "First steps" not in shown(client.get("/users/"))


def test_the_page_travels_compressed(client: Client, ada: User) -> None:
    make_users(60)
    plain, packed = client.get("/users/"), client.get("/users/", headers={"Accept-Encoding": "gzip"})

    assert gzip.decompress(packed.content).count(b"data-tick") == plain.content.count(b"data-tick") == 50
    assert len(packed.content) < len(plain.content) / 5
