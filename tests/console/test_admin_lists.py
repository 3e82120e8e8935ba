"""The lists of Django admin: filtered, searched, paged to and fro, and as quick for many rows as for few."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import now

from products.models import AccessChange, Source
from tests.console.reading_room import EMAILS, HISTORY, LISTS, PRODUCTS, USERS, history_of, listed, text_of
from tests.factories import change, give, ids, make_group, make_user
from users.models import User

pytestmark = pytest.mark.django_db


# The history


def test_the_history_says_what_who_and_where_from(client: Client, reader: User, admin_user: User) -> None:
    grace = give(make_user("Grace Hopper", email="grace@tests.example"), "meeting")
    done = change(admin_user, [grace], "webinar", reason="New job")

    page = text_of(client.get(HISTORY))
    row = text_of(client.get(f"{HISTORY}{history_of(grace)[0]}/change/"))

    for words in ("GoTo Meeting", "GoTo Webinar", "Grace Hopper", "grace@tests.example", "Ada Admin", f"#{done.pk}", "New job"):
        assert words in page
        assert words in row
    assert "Held since before the console" in page
    assert "UTC" in page


def test_a_change_outside_of_the_console_names_the_database_role(client: Client, reader: User, superuser_connection: Any) -> None:
    grace = make_user("Grace Hopper")
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE products_productaccess SET products = %s, ever = %s WHERE user_id = %s", [ids("meeting")] * 2 + [grace.pk]
        )

    page = text_of(client.get(HISTORY))

    assert "Outside the console" in page
    assert ">console</span>" in page


def test_the_history_outlives_a_user_who_was_deleted(client: Client, reader: User, admin_user: User) -> None:
    grace = make_user("Grace Hopper")
    change(admin_user, [grace], "meeting")
    gone = grace.pk
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM users_user WHERE id = %s", [gone])

    response = client.get(HISTORY, {"person": gone})

    assert len(response.context["cl"].result_list) == 2
    assert "no longer exists" in text_of(response)
    assert client.get(f"{HISTORY}{response.context['cl'].result_list[0].pk}/change/").status_code == 200
    assert client.get(EMAILS, {"person": gone}).status_code == 200


def test_the_history_is_filtered_and_searched(client: Client, reader: User, admin_user: User) -> None:
    sales = make_group("Sales")
    grace = make_user("Grace Hopper", email="grace@tests.example", groups=[make_group("Benelux", inside=sales)])
    alan = make_user("Alan Turing", email="alan@tests.example")
    before = give(alan, "webinar") and history_of(alan)[0]
    first = change(admin_user, [grace], "meeting", reason="Moves to Paris", now=now())
    second = change(admin_user, [grace, alan], "webinar")
    gained, swapped = reversed(history_of(grace))
    meeting, webinar = ids("meeting")[0], ids("webinar")[0]
    today = now().date()

    assert set(listed(client, HISTORY)) == {before, gained, swapped}
    rules: list[tuple[dict[str, Any], list[Any]]] = [
        ({"person": grace.pk}, [swapped, gained]),
        ({"person": "hopp"}, [swapped, gained]),
        ({"person": "alan@tests.example"}, [before]),
        ({"granted": meeting}, [gained]),
        ({"granted": webinar}, [swapped, before]),
        ({"revoked": meeting}, [swapped]),
        ({"revoked": webinar}, []),
        ({"by": "ada"}, [swapped, gained]),
        ({"by": grace.pk}, []),
        ({"change": first.pk}, [gained]),
        ({"change": f"#{second.pk}"}, [swapped]),
        ({"source": Source.HELD_BEFORE}, [before]),
        ({"group": sales.pk}, [swapped, gained]),
        ({"group": sales.pk, "revoked": meeting}, [swapped]),
        ({"since": today, "until": today}, [swapped, gained, before]),
        ({"until": today - timedelta(days=1)}, []),
        ({"since": today + timedelta(days=1)}, []),
        ({"person": grace.pk, "granted": webinar, "by": "ada"}, [swapped]),
        ({"q": "GRACE"}, [swapped, gained]),
        ({"q": "alan@tests"}, [before]),
        ({"q": f"#{first.pk}"}, [gained]),
        ({"q": str(second.pk)}, [swapped]),
        ({"q": "to paris"}, [gained]),
        ({"q": "nobody"}, []),
        ({"q": "9" * 25}, []),
        ({"person": "9" * 25}, []),
    ]
    for query, expected in rules:
        assert listed(client, HISTORY, **query) == expected, query


@pytest.mark.parametrize(("few", "many"), [(9, 9), (2, 9), (2, 2)])
def test_many_of_one_name_or_group_or_changes_of_one_reason_are_all_found(
    client: Client, reader: User, admin_user: User, monkeypatch: pytest.MonkeyPatch, few: int, many: int
) -> None:
    for module in ("users.reading_room", "products.admin"):
        monkeypatch.setattr(f"{module}.FEW", few)
        monkeypatch.setattr(f"{module}.MANY", many)
    sales = make_group("Sales")
    people = [make_user(f"Kim {number}", groups=[sales]) for number in range(4)]
    for user in people:
        change(admin_user, [user], "meeting", reason="Moves to Paris", now=now())
    give(make_user("Another"), "meeting")

    for query in ({"q": "kim"}, {"person": "kim"}, {"group": sales.pk}, {"q": "paris"}):
        assert listed(client, HISTORY, **query) == [history_of(user)[0] for user in reversed(people)], query


def test_the_pages_of_a_list_show_every_row_once_in_both_directions(
    client: Client, reader: User, admin_user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("users.reading_list.PAGE_SIZE", 3)
    people = [make_user(name) for name in ("Bo", "Al", "Al", "Al", "Cy", "Di", "Al", "Ed")]
    done = change(admin_user, people, "meeting")

    lists: list[tuple[str, dict[str, Any], int]] = [
        (HISTORY, {}, 8),
        (HISTORY, {"change": done.pk}, 8),
        (USERS, {}, 10),
        (EMAILS, {}, 16),
        (PRODUCTS, {}, 12),
    ]
    for address, query, count in lists:
        forwards, seen, step = [], [], client.get(address, query)
        while True:
            seen.append([row.pk for row in step.context["cl"].result_list])
            if not step.context["cl"].next_page:
                break
            step = client.get(address + step.context["cl"].next_page)
        forwards = [pk for page in seen for pk in page]
        backwards = [seen[-1]]
        while step.context["cl"].previous_page:
            step = client.get(address + step.context["cl"].previous_page)
            backwards.insert(0, [row.pk for row in step.context["cl"].result_list])

        assert len(forwards) == len(set(forwards)) == count
        assert [pk for page in backwards for pk in page] == forwards
    names = [row.name for row in User.objects.order_by("name_key", "id")]
    assert names == sorted(names)


def test_a_search_begins_at_the_first_page(client: Client, reader: User) -> None:
    grace = give(make_user("Grace Hopper"), "meeting")

    page = client.get(HISTORY, {"after": str(history_of(grace)[0]), "source": "HELD_BEFORE"})

    assert page.context["cl"].result_list == []
    assert 'name="after"' not in text_of(page)


def test_a_page_that_begins_nowhere_begins_at_the_start(client: Client, reader: User) -> None:
    grace = give(make_user("Grace Hopper"), "meeting")

    for nowhere in ("x", "-1", "9" * 30, "0"):
        assert listed(client, HISTORY, after=nowhere) == history_of(grace)


def test_a_list_that_takes_too_long_asks_to_narrow_it_down(client: Client, reader: User, monkeypatch: pytest.MonkeyPatch) -> None:
    give(make_user("Grace Hopper"), "meeting")
    monkeypatch.setattr("users.reading_list.PATIENCE", "1ms")
    monkeypatch.setattr(
        "products.admin.AccessChangeAdmin.get_queryset",
        lambda _self, _request: AccessChange.objects.extra(where=["pg_sleep(0.2) IS NOT NULL"]),
    )

    response = client.get(HISTORY)

    assert response.status_code == 200
    assert "Please narrow it down" in text_of(response)


# As many rows as there may be


def test_a_list_costs_the_same_for_few_and_many(client: Client, reader: User, admin_user: User) -> None:
    def cost(address: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            assert client.get(address).status_code == 200
        return len(queries)

    def more(count: int) -> None:
        for number in range(count):
            change(admin_user, [make_user(f"Person {number}", groups=[make_group()])], "meeting", reason=f"Reason {number}")

    client.get(HISTORY)
    more(3)
    few = {address: cost(address) for address in LISTS}
    more(9)

    assert [address for address in LISTS if cost(address) > few[address]] == []  # of actions fewer: those shown are of one kind
    assert max(few.values()) <= 15


def test_no_list_counts_its_rows(client: Client, reader: User, admin_user: User) -> None:
    change(admin_user, [make_user("Grace Hopper")], "meeting")

    for address in LISTS:
        with CaptureQueriesContext(connection) as queries:
            client.get(address, {"q": "grace"} if address != PRODUCTS else {})
        assert not [query["sql"] for query in queries if "COUNT(" in query["sql"].upper()], address


def plan_of(client: Client, address: str, **query: Any) -> str:
    """Return how the database finds the rows of a list, were there too many to look at all of them."""
    with connection.cursor() as cursor, CaptureQueriesContext(connection) as queries:
        client.get(address, query)
        table = {HISTORY: "products_accesschange", EMAILS: "notifications_notification"}[address]
        sql = next(q["sql"] for q in queries if f'FROM "{table}"' in q["sql"] and "LIMIT 51" in q["sql"])
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN {sql}")
        return "\n".join(row[0] for row in cursor)


def test_an_index_finds_the_rows_of_a_user_of_a_change_and_of_a_period(client: Client, reader: User, admin_user: User) -> None:
    done = change(admin_user, [make_user(f"Person {number}") for number in range(10)], "meeting")

    assert "user_id_id_idx" in plan_of(client, HISTORY, person=reader.pk)
    of_change = plan_of(client, HISTORY, change=done.pk)
    assert "change_id_user_id_idx" in of_change
    assert "notification_owed_once" in plan_of(client, EMAILS, person=reader.pk)
    assert "notifications_of_a_change" in plan_of(client, EMAILS, kind="CHANGE", about=done.pk)
    assert "notifications_failed" in plan_of(client, EMAILS, state="FAILED")
    today = now().date()
    of_day = plan_of(client, HISTORY, since=today, until=today)
    assert f"products_accesschange_{today:%Y_%m}" in of_day
    next_year = (today.replace(day=1) + timedelta(days=200)).strftime("%Y_%m")
    assert next_year not in of_day
