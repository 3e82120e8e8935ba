"""The pages of a moment: what a user held then and why, who held a product; gained and lost until another; asked and read."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from admin_console import as_of_page
from products import asof
from products.selection import Selection
from tests.factories import change, give, ids, make_group, make_user, product
from users.models import Action, AdminAction, Role, User
from users.queries import UserFilter

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin(client: Client) -> User:
    """Return the admin who is signed in."""
    ada = make_user("Ada Admin", role=Role.ADMIN)
    client.force_login(ada)
    return ada


def clock() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]


def moment(at: datetime) -> str:
    return at.astimezone(UTC).replace(tzinfo=None).isoformat()


def text_of(response: Any) -> str:
    assert response.status_code == 200
    return " ".join(unescape(re.sub(r"<(?!br)[^>]+>", " ", response.content.decode())).split())


def of_user(client: Client, user: User, **query: Any) -> str:
    return text_of(client.get(f"/users/{user.pk}/as-of/", {"zone": "UTC", **query}))


def of_product(client: Client, code: str, **query: Any) -> Any:
    return client.get(f"/products/{ids(code)[0]}/as-of/", {"zone": "UTC", **query})


# A user


def test_why_a_user_holds_a_product_names_the_change_the_admin_the_reason_and_the_selection(client: Client, admin: User) -> None:
    sales = make_group("Sales")
    grace = make_user("Grace Hopper", groups=[sales])
    ticked = change(admin, [grace], "meeting", mode="ADD", reason="She starts on Monday")
    everyone = Selection(everyone=True, filter=UserFilter(group=(sales.pk,)))
    found = change(admin, [], "webinar", mode="ADD", selection=everyone, reason="New team")

    page = of_user(client, grace)

    meeting, webinar = page.index("GoTo Meeting"), page.index("GoTo Webinar")
    assert "Held now" in page
    for words in ("Ada Admin", f"Change #{ticked.pk}", "for 1 ticked user", "She starts on Monday"):
        assert words in page[meeting:webinar]
    for words in ("Ada Admin", f"Change #{found.pk}", "for everyone with user group: Sales", "New team"):
        assert words in page[webinar:]


def test_what_a_user_held_at_a_moment_is_told_with_what_gave_it(client: Client, admin: User) -> None:
    grace = make_user("Grace Hopper")
    change(admin, [grace], "meeting", reason="First")
    between = clock()
    change(admin, [grace], "webinar", reason="Second")

    page = of_user(client, grace, at=moment(between))

    assert f"Held at {between:%Y-%m-%d %H:%M:%S} UTC" in page
    assert "GoTo Meeting" in page
    assert "First" in page
    assert "Second" not in page
    assert "Nothing: this user" in of_user(client, grace, at="2001-01-01")


def test_between_two_moments_a_users_gains_and_losses_are_told(client: Client, admin: User) -> None:
    grace = give(make_user("Grace Hopper"), "meeting")
    since = clock()
    change(admin, [grace], "rescue", reason="New job")
    change(admin, [grace], "webinar")

    page = of_user(client, grace, at=moment(since), until=moment(clock()))

    assert "Gained GoTo Webinar Lost GoTo Meeting" in page
    assert "New job" in page
    assert "Nothing happened in between." in of_user(client, grace, at="2001-01-01", until="2001-01-02")


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"at": "soon"}, "“soon” is not a time like 2026-11-22 12:00."),
        ({"at": "2999-01-01"}, "That is still to come."),
        ({"at": "2026-01-02", "until": "2026-01-01"}, "The second moment has to come after the first one."),
        ({"at": "2026-01-02", "zone": "Mars/Base"}, "“Mars/Base” is not a time zone like Europe/Paris."),
        ({"at": "2026-03-29T02:30", "zone": "Europe/Paris"}, "There was no 2026-03-29 02:30:00 in Europe/Paris"),
    ],
)
def test_a_moment_that_cannot_be_is_refused_with_a_sentence(
    client: Client, admin: User, query: dict[str, str], sentence: str
) -> None:
    grace = give(make_user(), "meeting")

    for page in (of_user(client, grace, **query), text_of(of_product(client, "meeting", **query))):
        assert sentence in page
        assert "GoTo Meeting by" not in page
        assert "Held" not in page


def test_a_moment_is_read_in_the_readers_time_zone(client: Client) -> None:
    client.force_login(make_user(role=Role.ADMIN, time_zone="Asia/Tokyo"))

    page = text_of(client.get(f"/users/{make_user().pk}/as-of/", {"at": "2026-01-01T12:00"}))

    assert "Held at 2026-01-01 12:00:00 JST (2026-01-01 03:00:00 UTC)" in page


def test_what_is_held_now_is_told_also_while_our_clock_is_behind_the_databases(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.force_login(make_user("Sam Support", role=Role.SUPPORT))
    grace = give(make_user("Grace Hopper"), "meeting")

    class Behind(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) - timedelta(seconds=30)

    monkeypatch.setattr(timezone, "datetime", Behind)

    assert "Held now Product Since By Why Me GoTo Meeting" in of_user(client, grace)
    assert re.search("Hold it now 1 .*Grace Hopper", text_of(of_product(client, "meeting")))
    assert "Now GoTo Meeting" in text_of(client.get(f"/admin/users/user/{grace.pk}/change/"))


# A product


def test_who_held_a_product_at_a_moment_is_listed_with_what_gave_it(client: Client, admin: User) -> None:
    grace, alan = make_user("Grace Hopper"), make_user("Alan Turing")
    change(admin, [grace], "meeting", reason="Kickoff")
    between = clock()
    change(admin, [grace], "rescue")
    change(admin, [alan], "meeting")

    page = text_of(of_product(client, "meeting", at=moment(between)))
    now = text_of(of_product(client, "meeting"))

    for words in ("Held it at", "Grace Hopper", "Ada Admin", "Kickoff"):
        assert words in page
    assert "Alan Turing" not in page
    assert "Hold it now" in now
    assert "Alan Turing" in now
    assert "Grace Hopper" not in now
    assert "Nobody." in text_of(of_product(client, "meeting", at="2001-01-01"))


def test_who_gained_and_who_lost_a_product_between_two_moments(client: Client, admin: User) -> None:
    grace, alan = make_user("Grace Hopper"), give(make_user("Alan Turing"), "meeting")
    since = clock()
    change(admin, [grace], "meeting")
    change(admin, [alan], "rescue")
    asked = {"at": moment(since), "until": moment(clock())}

    gained, lost = (text_of(of_product(client, "meeting", what=what, **asked)) for what in ("gained", "lost"))

    assert "Gained it from" in gained
    assert "Grace Hopper" in gained
    assert "Alan Turing" not in gained
    assert "Lost it from" in lost
    assert "Alan Turing" in lost
    assert "Grace Hopper" not in lost


def test_the_users_are_paged_counted_and_exported(client: Client, admin: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(as_of_page, "PAGE_SIZE", 2)
    people = [give(make_user(f"Person {letter}"), "meeting") for letter in "ABC"]

    first = of_product(client, "meeting")
    second = client.get(f"/products/{ids('meeting')[0]}/as-of/{first.context['page'].next}")
    counting = unescape(re.findall(r'hx-get="([^"]+)"[^>]*hx-trigger="load"', first.content.decode())[0])
    counted = client.get(counting, headers={"HX-Request": "true", "HX-Target": "as-of-count"})
    export = client.get(f"/products/{ids('meeting')[0]}/as-of.csv{first.context['page'].everybody}")

    assert [row[0] for row in first.context["page"].rows] == [people[0].pk, people[1].pk]
    assert [row[0] for row in second.context["page"].rows] == [people[2].pk]
    assert second.context["page"].next == ""
    assert text_of(counted) == "3"
    assert "<html" not in counted.content.decode()
    assert re.search(r'filename="meeting-held-\d{8}T\d{6}Z\.csv"', export["Content-Disposition"])
    told = b"".join(export.streaming_content).decode()  # type: ignore[attr-defined]
    assert all(person.name in told for person in people)


def test_an_export_that_takes_too_long_is_a_sentence_and_not_half_a_file(
    client: Client, admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(make_user(), "meeting")
    monkeypatch.setattr("products.asof.LONGEST", "1ms")
    monkeypatch.setitem(asof.USERS, asof.What.HELD, f"{asof.HELD} AND pg_sleep(0.01) IS NULL")
    response = client.get(f"/products/{ids('meeting')[0]}/as-of.csv")

    assert response.status_code == 503
    assert "Finding this takes too long at the moment" in response.content.decode()
    assert not AdminAction.objects.filter(action=Action.EVIDENCE_EXPORTED).exists()


def test_an_export_is_recorded(client: Client, admin: User) -> None:
    client.get(f"/products/{ids('meeting')[0]}/as-of.csv", {"at": "2026-01-01", "zone": "UTC"})

    told = AdminAction.objects.get(action=Action.EVIDENCE_EXPORTED)
    assert (told.actor, told.subject_id) == (admin, ids("meeting")[0])
    assert told.after["since"] == "2026-01-01T00:00:00+00:00"


# Who may


def test_a_manager_sees_only_the_members_of_their_groups(client: Client) -> None:
    sales = make_group("Sales")
    client.force_login(make_user(role=Role.MANAGER, manages=[sales]))
    grace, alan = give(make_user("Grace", groups=[sales]), "meeting"), give(make_user("Alan"), "meeting")

    page = text_of(of_product(client, "meeting"))

    assert "Grace" in page
    assert "Alan" not in page
    assert client.get(f"/users/{grace.pk}/as-of/").status_code == 200
    assert client.get(f"/users/{alan.pk}/as-of/").status_code == 404


def test_a_member_sees_nothing_and_who_is_signed_out_signs_in(client: Client) -> None:
    pages = ["/users/1/as-of/", f"/products/{ids('meeting')[0]}/as-of/", f"/products/{ids('meeting')[0]}/as-of.csv"]
    assert [client.get(page).status_code for page in pages] == [302] * 3

    client.force_login(give(make_user(), "meeting"))
    assert [client.get(page).status_code for page in pages] == [403] * 3


def test_the_pages_are_only_read(client: Client, admin: User) -> None:
    assert client.post(f"/products/{ids('meeting')[0]}/as-of/").status_code == 405
    assert client.get("/products/999/as-of/").status_code == 404


def test_the_ways_lead_there_and_back(client: Client, admin: User) -> None:
    grace, meeting = give(make_user("Grace Hopper"), "meeting"), product("meeting")

    assert f'href="/users/{grace.pk}/as-of/"' in client.get(f"/users/{grace.pk}/").content.decode()
    assert f'href="/users/{grace.pk}/"' in client.get(f"/users/{grace.pk}/as-of/").content.decode()
    assert f'href="/products/{meeting.pk}/as-of/"' in client.get(f"/products/{meeting.pk}/").content.decode()
    assert f'href="/users/{grace.pk}/as-of/?' in client.get(f"/products/{meeting.pk}/as-of/").content.decode()


def test_a_page_costs_the_same_for_few_and_many(client: Client, admin: User) -> None:
    grace = make_user("Grace Hopper")

    def costs() -> list[int]:
        told = []
        for page in (f"/users/{grace.pk}/as-of/", f"/products/{ids('meeting')[0]}/as-of/"):
            since = datetime.now(UTC) - timedelta(days=1)
            with CaptureQueriesContext(connection) as queries:
                client.get(page, {"at": moment(since), "until": moment(clock()), "zone": "UTC", "what": "gained"})
            told.append(len(queries))
        return told

    def more(count: int) -> None:
        for _number in range(count):
            change(admin, [grace], "meeting", "rescue")
            change(admin, [grace], "webinar")
            change(admin, [make_user("Somebody")], "meeting")

    more(2)
    costs()
    few = costs()
    more(6)

    assert costs() == few
    assert max(few) <= 24
