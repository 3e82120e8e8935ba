"""Django admin: the reading room of support. Who may read, what admins did, and nothing in it can be written."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils.timezone import now

from products import checkpoints
from products.models import Checkpoint, HistoryBlock
from tests.console.reading_room import ACTIONS, CHANGES, CHECKPOINTS, HISTORY, LISTS, USERS, link_to, listed, text_of
from tests.factories import change, make_group, make_user
from users.actions import change_role
from users.models import Action, AdminAction, Role, User
from users.reading_room import ReadOnlyAdmin

pytestmark = pytest.mark.django_db


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


@pytest.mark.parametrize("payload", ["not JSON", '{"at": "2026-11-22T12:00:00+00:00", "chains": {"OF OTHERS": {}}}'])
def test_a_checkpoint_that_we_did_not_sign_is_shown_as_one(client: Client, reader: User, payload: str) -> None:
    point = Checkpoint.objects.create(at=now(), payload=payload, signature="cd" * 64, key="ef" * 32)

    assert "a checkpoint is not signed by the key" in text_of(client.get(CHECKPOINTS))
    assert "a checkpoint is not signed by the key" in text_of(client.get(f"{CHECKPOINTS}{point.pk}/change/"))


@pytest.mark.usefixtures("admin_user")
def test_after_a_new_key_the_checkpoints_of_the_old_one_still_tell_what_they_told(client: Client, reader: User, settings) -> None:
    settings.HISTORY_KEY = "the next one, for who left knew the one before"

    told = "Entitlement history: 7 rows in 1 block (signed by another key than the console has now)"
    assert told in text_of(client.get(CHECKPOINTS))
    assert "is not signed by the key" not in text_of(client.get(CHECKPOINTS))


@pytest.mark.parametrize(
    "payload", ["not JSON", "5", '{"chains": 5}', '{"chains": {"OF OTHERS": {}}}', '{"chains": {"HISTORY": 5}}']
)
def test_what_somebody_signed_by_a_key_of_their_own_breaks_no_page(client: Client, reader: User, settings, payload: str) -> None:
    settings.HISTORY_KEY, ours = "that of somebody else, who would like to be us", settings.HISTORY_KEY
    foreign = {"payload": payload, "signature": checkpoints.sign(payload), "key": checkpoints.public_key()}
    settings.HISTORY_KEY = ours
    Checkpoint.objects.create(at=now(), **foreign)

    assert "a checkpoint is not signed by the key" in text_of(client.get(CHECKPOINTS))


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
