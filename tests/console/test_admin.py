"""Django admin: the reading room of support. Found, linked, quick, and nothing in it can be written."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from html import unescape
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils.timezone import now
from django.utils.translation import override

from notifications.models import Notification, State
from products.models import AccessChange, Checkpoint, HistoryBlock, Mode, Source
from products.selection import Selection, selection_in_words
from tests.factories import change, give, ids, make_group, make_user, product
from users.actions import change_role
from users.models import Action, AdminAction, Role, User
from users.queries import UserFilter
from users.reading_room import ReadOnlyAdmin

pytestmark = pytest.mark.django_db
USERS = "/admin/users/user/"
HISTORY = "/admin/products/accesschange/"
CHANGES = "/admin/products/bulkchange/"
EMAILS = "/admin/notifications/notification/"
PRODUCTS = "/admin/products/product/"
ACTIONS = "/admin/users/adminaction/"
CHECKPOINTS = "/admin/products/checkpoint/"
BLOCKS = "/admin/products/historyblock/"
LISTS = [USERS, HISTORY, CHANGES, EMAILS, PRODUCTS, ACTIONS, CHECKPOINTS, BLOCKS]


@pytest.fixture
def reader(client: Client) -> User:
    """Return the support person who is signed in."""
    sam = make_user("Sam Support", email="sam@tests.example", role=Role.SUPPORT)
    client.force_login(sam)
    return sam


@pytest.fixture
def admin_user() -> User:
    """Return an admin; there is a checkpoint too, for whoever looks at every page."""
    head = {"block": 1, "digest": "ab" * 32, "last_id": 7, "rows": 7}
    payload = json.dumps({"at": now().isoformat(), "chains": {"HISTORY": head}})
    Checkpoint.objects.create(at=now(), payload=payload, signature="cd" * 64, key="ef" * 32)
    return make_user("Ada Admin", email="ada@tests.example", role=Role.ADMIN)


def text_of(response: Any) -> str:
    return unescape(response.content.decode())


def listed(client: Client, address: str, **query: Any) -> list[int]:
    """Return the ids of the rows of a list, as shown."""
    response = client.get(address, query, follow=True)
    assert response.status_code == 200
    return [row.pk for row in response.context["cl"].result_list]


def history_of(user: User) -> list[int]:
    return list(AccessChange.objects.filter(user=user).order_by("-id").values_list("id", flat=True))


def link_to(response: Any, words: str) -> str:
    """Return where the link with these words leads."""
    found = re.search(rf'<a [^>]*href="([^"]+)"[^>]*>\s*{re.escape(words)}\s*</a>', text_of(response))
    assert found, f"no link “{words}”"
    return found[1]


# Who may read


def test_who_is_signed_out_signs_in_where_everybody_does(client: Client) -> None:
    response = client.get(f"{HISTORY}?person=7")

    assert response["Location"] == "/accounts/login/?next=/admin/products/accesschange/%3Fperson%3D7"


@pytest.mark.parametrize("role", [Role.MANAGER, Role.ADMIN])
def test_a_role_that_may_not_read_evidence_is_refused(client: Client, role: Role) -> None:
    client.force_login(make_user(role=role))

    for address in ["/admin/", *LISTS]:
        response = client.get(address)
        assert response.status_code == 403
        assert "Your role does not include this: Read the entitlement history in Django admin." in text_of(response)


@pytest.mark.parametrize("role", [Role.SUPPORT, Role.SUPER_ADMIN])
def test_support_and_super_admins_read(client: Client, role: Role) -> None:
    client.force_login(make_user(role=role))

    assert [client.get(address).status_code for address in ["/admin/", *LISTS]] == [200] * 9


def test_who_is_deactivated_meanwhile_reads_no_more(client: Client, reader: User) -> None:
    User.objects.filter(pk=reader.pk).update(is_active=False)

    assert client.get(HISTORY).status_code == 302


def test_only_pages_of_the_reading_room_are_there() -> None:
    shown = {model._meta.label for model in admin.site._registry}

    assert shown == {
        "users.User", "users.AdminAction", "products.AccessChange", "products.BulkChange", "products.Product",
        "products.Checkpoint", "products.HistoryBlock", "notifications.Notification",
    }  # fmt: skip
    assert all(isinstance(pages, ReadOnlyAdmin) for pages in admin.site._registry.values())


def test_the_room_wears_the_consoles_name_and_leads_back(client: Client, reader: User) -> None:
    page = text_of(client.get("/admin/"))

    assert "Admin Console" in page
    assert "Django administration" not in page
    assert '<a href="/">Back to the console</a>' in page
    assert 'action="/accounts/logout/"' in page


# Nothing can be written


def admin_patterns(resolver: URLResolver, prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLPattern):
            yield prefix + str(pattern.pattern), pattern
        else:
            yield from admin_patterns(pattern, prefix + str(pattern.pattern))


def first_row(model: Any) -> str:
    """Return the number of a model's first row; 1 of sealed blocks, which are made of what is committed only."""
    found = model._default_manager.order_by("pk").values_list("pk", flat=True).first()
    assert found or model is HistoryBlock, model
    return str(found or 1)


def addresses() -> list[str]:
    """Return every address under /admin/, with the first row of its model, and those that Django's own pages would have."""
    own = next(pattern for pattern in get_resolver().url_patterns if getattr(pattern, "namespace", "") == "admin")
    found = {f"/admin/{route}" for route, _pattern in admin_patterns(own)}  # type: ignore[arg-type]
    first = {f"/admin/{model._meta.app_label}/{model._meta.model_name}/": model for model in admin.site._registry}
    plain = []
    for route in sorted(found):
        models = [model for start, model in first.items() if route.startswith(start)]
        row = first_row(models[0]) if models else ""
        route = route.replace("<path:object_id>", row).replace("(?P<url>.*)$", "nothing/here/")
        plain += [route] if "^" not in route else [f"/admin/{app}/" for app in ("users", "products", "notifications")]
    for start, model in first.items():
        row = first_row(model)
        plain += [f"{start}add/", f"{start}{row}/delete/", f"{start}{row}/history/", f"{start}{row}/"]
    assert len(first) == 8
    return sorted({*plain, "/admin/logout/", "/admin/password_change/", "/admin/autocomplete/", "/admin/jsi18n/"})


def digest(*, but: Sequence[str] = ()) -> dict[str, str]:
    """Return a digest of every table that the console keeps, but for what a request itself moves, and some others."""
    with connection.cursor() as cursor:
        tables = sorted(connection.introspection.table_names(cursor))
        told = {}
        for table in tables:
            if table not in ("django_session", "users_lastseen", "admin_console_throttle", *but):
                cursor.execute(f"SELECT coalesce(string_agg(t::text, chr(10) ORDER BY t::text), '') FROM \"{table}\" t")
                told[table] = hashlib.sha256(cursor.fetchone()[0].encode()).hexdigest()
        return told


def forged_forms(grace: User) -> list[dict[str, Any]]:
    return [
        {},
        {
            "_save": "Save",
            "email": "evil@tests.example",
            "role": "SUPER_ADMIN",
            "password": "x",
            "is_active": "on",
            "name": "Renamed",
            "code": "renamed",
            "seats": "1",
            "state": "FAILED",
            "reason": "forged",
            "after": "[]",
            "form-TOTAL_FORMS": "1",
            "form-INITIAL_FORMS": "1",
            "form-0-id": grace.pk,
            "form-0-role": "SUPER_ADMIN",
        },
        {"post": "yes", "action": "delete_selected", "index": "0", "select_across": "1", "_selected_action": [grace.pk]},
    ]


@pytest.mark.parametrize("role", [Role.SUPPORT, Role.SUPER_ADMIN])
def test_forged_forms_change_nothing_at_any_address(client: Client, admin_user: User, role: Role) -> None:
    grace = make_user("Grace Hopper", groups=[make_group()])
    change(admin_user, [grace], "meeting")
    client.force_login(make_user(role=role))
    client.get("/admin/")
    visited, before = addresses(), digest()

    answers = [(address, client.post(address, form).status_code) for address in visited for form in forged_forms(grace)]
    answers += [(address, getattr(client, how)(address).status_code) for address in visited for how in ("put", "patch", "delete")]

    assert digest() == before
    assert len(visited) > 25
    assert {status for address, status in answers if address != "/admin/login/"} <= {404, 405}


def test_reading_writes_nothing(client: Client, reader: User, admin_user: User) -> None:
    change(admin_user, [make_user("Grace Hopper")], "meeting")
    client.get("/admin/")
    visited, before = addresses(), digest(but=["users_adminaction"])  # that it was read is recorded

    answers = {address: client.get(address).status_code for address in visited}

    assert digest(but=["users_adminaction"]) == before
    assert set(answers.values()) <= {200, 302, 404}
    assert [
        address for address, status in answers.items() if re.search("(add|delete|history)/$", address) and status == 200
    ] == []


def test_no_page_offers_to_post_anything_but_signing_out(client: Client, reader: User, admin_user: User) -> None:
    change(admin_user, [make_user("Grace Hopper")], "meeting")

    for address in [address for address in addresses() if client.get(address).status_code == 200]:
        posting = re.findall(r'<form[^>]*method="post"[^>]*>', text_of(client.get(address)))
        assert len(posting) == 1, address
        assert 'id="logout-form"' in posting[0], address


def test_a_password_is_neither_shown_nor_guessed(client: Client, reader: User) -> None:
    grace = make_user("Grace Hopper")
    grace.set_password("correct horse battery")
    grace.save()

    for address in (USERS, f"{USERS}{grace.pk}/change/"):
        assert grace.password not in text_of(client.get(address))
        assert "password" not in text_of(client.get(address)).lower()
    for probe in ("password__startswith", "password", "password__regex", "bulk_changes__actor__password__startswith"):
        assert client.get(USERS, {probe: grace.password[:4]}).status_code == 400
    for probe in ("user__password__startswith", "actor__password"):
        assert client.get(HISTORY, {probe: grace.password[:4]}).status_code == 400
    assert client.get(USERS, {"_to_field": "password"}).status_code == 400


# A person


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


# Bulk changes, emails, products


def test_bulk_changes_are_filtered_and_searched(client: Client, reader: User, admin_user: User) -> None:
    root = make_user("Root", email="root@tests.example", role=Role.SUPER_ADMIN)
    grace = make_user("Grace Hopper")
    first = change(admin_user, [grace], "meeting", reason="Moves to Paris")
    second = change(root, [grace], "webinar", mode=Mode.ADD, now=first.requested_at + timedelta(days=2))
    day = first.requested_at.date()

    rules: list[tuple[dict[str, Any], list[Any]]] = [
        ({}, [second, first]),
        ({"by": admin_user.pk}, [first]),
        ({"by": "root@"}, [second]),
        ({"mode": "ADD"}, [second]),
        ({"state": "FINISHED"}, [second, first]),
        ({"state": "PAUSED"}, []),
        ({"since": day, "until": day}, [first]),
        ({"source": "IMPORT"}, []),
        ({"q": "paris"}, [first]),
        ({"q": "ada@"}, [first]),
        ({"q": f"#{second.pk}"}, [second]),
    ]
    for query, expected in rules:
        assert listed(client, CHANGES, **query) == [done.pk for done in expected], query


def test_a_bulk_change_tells_what_was_asked_and_what_it_did(client: Client, reader: User, admin_user: User) -> None:
    sales = make_group("Sales")
    people = [make_user(f"Person {letter}", groups=[sales]) for letter in "ABC"]
    wanted = Selection(everyone=True, filter=UserFilter(group=(sales.pk,), search="person"), ids=(people[0].pk,))
    done = change(admin_user, [], "meeting", selection=wanted, reason="New team", notify=False)

    page = text_of(client.get(f"{CHANGES}{done.pk}/change/"))
    row = text_of(client.get(CHANGES))

    for words in ("everyone with search: “person”, user group: Sales, except 1", "New team", "Replace", "GoTo Meeting"):
        assert words in page
        assert words in row


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        ({"everyone": False, "ticked": 1}, "1 ticked user"),
        ({"everyone": False, "ticked": 5}, "5 ticked users"),
        ({"everyone": True, "filter": {}, "unticked": 0}, "everyone"),
        ({"undoes": 7}, "everyone whom change #7 changed"),
        (
            {"everyone": True, "filter": {"role": ["ADMIN", "MANAGER"]}, "unticked": 2},
            "everyone with role: Admin or Manager, except 2",
        ),
        ({"everyone": True, "filter": {"group": ["0"], "product": ["7"]}}, "everyone with user group: none, product: Rescue"),
        (
            {"everyone": True, "filter": {"group": ["99"], "status": ["SUSPENDED"]}},
            "everyone with user group: deleted (#99), status: Suspended",
        ),
        ({"everyone": True, "filter": {}, "unticked": 1234}, "everyone, except 1,234"),
    ],
)
def test_a_selection_is_told_in_words(selection: dict[str, Any], words: str) -> None:
    assert selection_in_words(selection, products={7: "Rescue"}, groups={}) == words


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("de", "alle mit Suche: „grace“, Rolle: Admin oder Manager, außer 2"),
        (
            "fr",
            "tous les utilisateurs avec recherche\u202f: «\u202fgrace\u202f», rôle\u202f: Administrateur ou Gestionnaire, sauf 2",
        ),
    ],
)
def test_a_selection_is_told_as_the_language_punctuates(language: str, words: str) -> None:
    asked = {"everyone": True, "filter": {"search": ["grace"], "role": ["ADMIN", "MANAGER"]}, "unticked": 2}
    with override(language):
        assert selection_in_words(asked, products={}, groups={}) == words


def test_emails_are_filtered_and_searched(client: Client, reader: User, admin_user: User) -> None:
    grace, alan = make_user("Grace Hopper", email="grace@tests.example"), make_user("Alan Turing", email="alan@tests.example")
    done = change(admin_user, [grace, alan], "meeting")
    letters = {(letter.user_id, letter.kind): letter.pk for letter in Notification.objects.all()}
    failed = letters[alan.pk, "CHANGE"]
    Notification.objects.filter(pk=failed).update(state=State.FAILED, last_code=550, last_words="No such mailbox", attempts=1)
    of_grace = sorted([letters[grace.pk, "CHANGE"], letters[grace.pk, "ONBOARDING"]], reverse=True)
    today = now().date()

    rules: list[tuple[dict[str, Any], list[Any]]] = [
        ({"person": grace.pk}, of_grace),
        ({"kind": "CHANGE", "about": done.pk}, sorted([letters[grace.pk, "CHANGE"], failed], reverse=True)),
        ({"kind": "ONBOARDING", "about": ids("meeting")[0], "person": "grace"}, [letters[grace.pk, "ONBOARDING"]]),
        ({"state": "FAILED"}, [failed]),
        ({"since": today + timedelta(days=1)}, []),
        ({"q": "hopper"}, of_grace),
        ({"q": "alan@tests.example", "kind": "CHANGE"}, [failed]),
        ({"q": f"<change.{done.pk}.{alan.pk}@mail.example>"}, [failed]),
        ({"q": "<change.1.99999999999@mail.example>"}, []),
    ]
    for query, expected in rules:
        assert listed(client, EMAILS, **query) == expected, query
    row = text_of(client.get(EMAILS, {"state": "FAILED"}))
    assert "550 No such mailbox" in row
    assert "Change of products" in row
    assert "How to start with a product" in text_of(client.get(f"{EMAILS}{letters[grace.pk, 'ONBOARDING']}/change/"))
    assert "GoTo Meeting" in text_of(client.get(f"{EMAILS}{letters[grace.pk, 'ONBOARDING']}/change/"))


def test_products_show_seats_and_holders(client: Client, reader: User) -> None:
    give(make_user("Grace Hopper"), "rescue")
    rescue = product("rescue")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE products_seat SET seats = 5 WHERE product_id = %s", [rescue.pk])

    page = client.get(f"{PRODUCTS}{rescue.pk}/change/")

    fields = [re.sub(r"\s+", " ", words) for words in re.findall(r'<div class="readonly">(.*?)</div>', text_of(page), re.S)]
    assert fields[5:9] == ["1", "5", "0", "4"]
    assert link_to(page, "Granted") == f"{HISTORY}?granted={rescue.pk}"


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


# What admins did, and what is sealed of it


def test_what_admins_did_is_listed_filtered_and_linked(client: Client, reader: User, admin_user: User) -> None:
    root, grace = make_user("Root", role=Role.SUPER_ADMIN), make_user("Grace Hopper")
    change_role(actor=root, user=grace, role=Role.MANAGER)
    done = change(admin_user, [grace], "meeting", reason="She starts on Monday")
    given, asked = (AdminAction.objects.get(action=code).pk for code in (Action.USER_ROLE_CHANGED, Action.CHANGE_REQUESTED))

    for query, expected in (
        ({"by": root.pk}, [given]),
        ({"by": "ada"}, [asked]),
        ({"action": Action.CHANGE_REQUESTED}, [asked]),
        ({"to": grace.pk, "action": Action.USER_ROLE_CHANGED}, [given]),
        ({"q": "root"}, [given]),
        ({"since": now().date() + timedelta(days=1)}, []),
    ):
        assert listed(client, ACTIONS, **query) == expected, query  # type: ignore[arg-type]
    page = client.get(f"{ACTIONS}{given}/change/")
    assert "Changed the role of a user" in text_of(page)
    assert link_to(page, "Grace Hopper") == f"{USERS}{grace.pk}/change/"
    assert "MANAGER" in text_of(page)
    assert link_to(client.get(f"{ACTIONS}{asked}/change/"), f"#{done.pk}") == f"{CHANGES}{done.pk}/change/"


def test_words_that_were_erased_are_said_to_be(client: Client, reader: User) -> None:
    row = AdminAction(at=now(), action="something.else", words=None, words_digest=b"x" * 32)

    assert str(admin.site._registry[AdminAction].words_told(row)) == "erased"  # type: ignore[attr-defined]
    assert row.sentence == "something.else"


def test_checkpoints_are_shown_as_they_stand_in_the_file(client: Client, reader: User, admin_user: User) -> None:
    point = Checkpoint.objects.get()

    assert "Entitlement history: 7 rows in 1 block" in text_of(client.get(CHECKPOINTS))
    page = text_of(client.get(f"{CHECKPOINTS}{point.pk}/change/"))
    for words in (
        point.signature,
        point.key,
        json.dumps({"payload": point.payload, "signature": point.signature, "key": point.key}),
    ):
        assert words in page


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
