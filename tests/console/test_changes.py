"""The list of bulk changes: found, narrowed down, paged, and who may see it."""

import re
from datetime import UTC, datetime

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import now

from products.models import BulkChange, BulkChangeMove, Mode, Source
from tests.console.change_pages import listed, numbers, page_of
from tests.console.pages import shown
from tests.factories import change, give, make_group, make_user, product
from users.models import Role, User

pytestmark = pytest.mark.django_db


# The list


def test_the_list_tells_who_did_what_for_how_many_and_why(client: Client, ada: User) -> None:
    grace = give(make_user("Grace Hopper"), "rescue")
    first = change(make_user("Otto Other", role=Role.ADMIN), [grace], "meeting", "webinar", reason="New contract", now=now())
    second = change(ada, [grace, make_user()], "rescue", mode=Mode.REMOVE, now=now())
    change(ada, [grace], now=now())

    words = listed(client)

    set_to = rf"#{first.pk} Set to GoTo Meeting, GoTo Webinar New contract Otto Other just now \S+ \S+ UTC 1 Finished &lt; 0\.1 s"
    assert re.search(set_to, words)
    assert re.search(rf"#{second.pk} Remove Rescue Ada Admin just now \S+ \S+ UTC 2 Finished", words)
    assert words.index("Remove all products") < words.index("Remove Rescue") < words.index("Set to GoTo Meeting")


def test_an_empty_list_says_so(client: Client, ada: User) -> None:
    assert "There are no changes yet" in shown(client.get("/changes/"))


def test_older_changes_are_on_the_next_page(client: Client, ada: User) -> None:
    grace = make_user()
    made = [change(ada, [grace], *codes).pk for codes in [["rescue"], []] * 26]

    first = client.get("/changes/?kind=REPLACE")
    assert numbers(first) == made[:1:-1]
    older = re.findall(r'href="/changes/(\?kind=REPLACE&amp;before=\d+)"', first.content.decode())[0].replace("&amp;", "&")
    second = client.get(f"/changes/{older}")
    assert numbers(second) == made[1::-1]
    assert "Older" not in shown(second)


def test_a_page_of_the_list_that_cannot_be_is_the_first(client: Client, ada: User) -> None:
    assert client.get("/changes/?before=x").status_code == 200
    assert "There are no older changes" in shown(client.get("/changes/?before=1"))


def test_the_list_is_narrowed_down(client: Client, ada: User) -> None:
    grace, otto = give(make_user(), "central"), make_user("Otto Other", role=Role.ADMIN)
    by_otto = change(otto, [grace], "meeting", now=datetime(2026, 3, 1, 12, tzinfo=UTC), reason="New contract")
    added = change(ada, [grace], "rescue", mode=Mode.ADD, now=datetime(2026, 3, 2, 12, tzinfo=UTC))
    imported = change(ada, [grace], "webinar", mode=Mode.ADD, source=Source.IMPORT, now=datetime(2026, 3, 3, 12, tzinfo=UTC))
    paused = change(ada, [make_user()], "meeting", now=datetime(2026, 3, 4, 12, tzinfo=UTC))
    BulkChange.objects.filter(pk=paused.pk).update(state=BulkChange.State.PAUSED)

    def found(query: str) -> list[int]:
        return numbers(client.get(f"/changes/?{query}"))

    assert found(f"actor={otto.pk}") == [by_otto.pk]
    assert found("kind=ADD") == [added.pk]
    assert found("kind=IMPORT") == [imported.pk]
    assert found("state=PAUSED") == [paused.pk]
    assert found(f"product={product('meeting').pk}") == [paused.pk, by_otto.pk]
    assert found("from=2026-03-02&to=2026-03-03") == [imported.pk, added.pk]
    assert found("search=contract") == [by_otto.pk]
    assert found(f"search=%23{added.pk}") == found(f"search={added.pk}") == [added.pk]
    assert found("kind=ADD&state=PAUSED") == []
    assert "No change matches all of the filters" in listed(client, "?kind=ADD&state=PAUSED")


def test_who_lost_a_product_is_found_by_it(client: Client, ada: User) -> None:
    made = change(ada, [give(make_user(), "central")], "meeting")
    BulkChangeMove.objects.update_or_create(change=made, product=product("central"), defaults={"lost": 1})

    assert numbers(client.get(f"/changes/?product={product('central').pk}")) == [made.pk]


def test_days_are_those_of_the_reader(client: Client, ada: User) -> None:
    User.objects.filter(pk=ada.pk).update(time_zone="Asia/Tokyo")
    made = change(ada, [make_user()], "rescue", now=datetime(2026, 3, 1, 20, tzinfo=UTC))

    assert numbers(client.get("/changes/?from=2026-03-02&to=2026-03-02")) == [made.pk]
    assert numbers(client.get("/changes/?from=2026-03-01&to=2026-03-01")) == []


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("state=NONE", "There is no State “NONE” to filter by; it was left out."),
        ("actor=x", "There is no Admin “x” to filter by; it was left out."),
        ("product=99999999999999999999", "There is no Product “99999999999999999999” to filter by; it was left out."),
        ("from=2026-02-31", "“2026-02-31” is not a date; it was left out."),
        ("to=9999-12-31", ""),
        ("from=2026-03-02&to=2026-03-01", "The first day comes after the last one, so nothing can be found."),
        ("search=%00", ""),
        ("search=99999999999999999999", ""),
    ],
)
def test_a_filter_that_cannot_be_is_said_and_the_rest_is_kept(client: Client, ada: User, query: str, sentence: str) -> None:
    response = client.get(f"/changes/?kind=ADD&{query}")

    assert response.status_code == 200
    assert sentence in shown(response)
    assert '<option value="ADD" selected>' in response.content.decode()


def test_a_manager_sees_their_own_changes_only(client: Client) -> None:
    sales = make_group("Sales")
    manager = make_user("Mary Manager", role=Role.MANAGER, manages=[sales])
    grace = make_user(groups=[sales])
    own = change(manager, [grace], "rescue")
    foreign = change(make_user("Otto Other", role=Role.ADMIN), [grace], "meeting")
    client.force_login(manager)

    assert numbers(client.get("/changes/")) == [own.pk]
    assert "Otto Other" not in shown(client.get("/changes/"))
    assert page_of(client, own).status_code == 200
    assert page_of(client, foreign).status_code == 404


def test_the_list_costs_the_same_for_few_and_many(client: Client, ada: User) -> None:
    def statements(size: int) -> int:
        grace = make_user()
        for n in range(size):
            change(ada, [grace], *(["rescue"] if n % 2 else []))
        with CaptureQueriesContext(connection) as captured:
            client.get("/changes/")
        return len(captured)

    statements(1)  # writes when the admin was seen

    assert statements(3) == statements(12)


# Who may


def test_who_is_signed_out_signs_in_and_comes_back(client: Client) -> None:
    assert client.get("/changes/7/")["Location"] == "/accounts/login/?next=/changes/7/"
    asking = {"HX-Request": "true", "HX-Target": "change-progress", "HX-Current-URL": "http://testserver/changes/7/"}
    assert client.get("/changes/7/", headers=asking)["HX-Redirect"] == "/accounts/login/?next=/changes/7/"


def test_a_member_may_not(client: Client) -> None:
    made = change(make_user(role=Role.ADMIN), [member := make_user()], "rescue")
    client.force_login(member)

    assert client.get("/changes/").status_code == 403
    assert page_of(client, made).status_code == 403


def test_support_reads_all_changes(client: Client, ada: User) -> None:
    made = change(ada, [make_user()], "rescue")
    client.force_login(make_user(role=Role.SUPPORT))

    assert page_of(client, made).status_code == 200


@pytest.mark.parametrize("number", ["4711", "99999999999999999999"])
def test_an_unknown_change_is_not_found(client: Client, ada: User, number: str) -> None:
    assert client.get(f"/changes/{number}/").status_code == 404


def test_nothing_is_posted_here(client: Client, ada: User) -> None:
    made = change(ada, [make_user()], "rescue")

    assert client.post("/changes/").status_code == 405
    assert client.post(f"/changes/{made.pk}/").status_code == 405
