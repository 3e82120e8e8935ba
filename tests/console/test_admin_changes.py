"""Bulk changes, emails and products in Django admin."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils.timezone import now
from django.utils.translation import override

from notifications.models import Notification, State
from products.models import Mode
from products.selection import Selection, selection_in_words
from tests.console.reading_room import CHANGES, EMAILS, HISTORY, PRODUCTS, link_to, listed, text_of
from tests.factories import change, give, ids, make_group, make_user, product
from users.models import Role, User
from users.queries import UserFilter

pytestmark = pytest.mark.django_db


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
