"""Whatever the filter and the search: the number shown, selected, previewed, frozen and changed is one number (rule S1)."""

import re
import uuid
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import transaction
from django.test import Client
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from products.models import BulkChange
from tests.examples import tried
from tests.factories import give, ids, make_group, make_user
from users.models import Role, User
from users.queries import Status

pytestmark = pytest.mark.django_db

LANGUAGES = ["en", "fr", "de", ""]
words = st.sampled_from(["", "a", "zo", "ng", "e l", "%", "_", "tests.example", "Ö", "user1", "'", "\\"])
queries = st.fixed_dictionaries(
    {"search": words},
    optional={
        "role": st.lists(st.sampled_from([Role.MEMBER, Role.MANAGER]), unique=True),
        "status": st.lists(st.sampled_from(Status.values), unique=True),
        "language": st.lists(st.sampled_from(["en", "fr"]), unique=True),
        "group": st.lists(st.sampled_from(["Sales", "Benelux", "none"]), unique=True),
        "product": st.lists(st.sampled_from(["rescue", "meeting", "none"]), unique=True),
    },
)


@pytest.fixture
def people(db) -> dict[str, Any]:
    """Give an organisation of twelve, in which every filter finds some, and the ids of what can be filtered by."""
    sales = make_group("Sales")
    benelux = make_group("Benelux", inside=sales)
    names = ["Ada Lovelace", "Zoë Ångström", "Öm %percent_", "Jo O'Neil", "Back\\Slash Lee"]
    for n in range(12):  # three roles and last seens by four groups, languages and sets
        user = make_user(
            names[n % 5],
            role=[Role.MEMBER, Role.MEMBER, Role.MANAGER][n % 3],
            groups=[[sales], [benelux], [sales, benelux], []][n % 4],
            language=LANGUAGES[n % 4],
            seen=[None, timedelta(days=1), timedelta(days=90)][n % 3],
        )
        give(user, *[["rescue"], ["meeting", "rescue"], [], ["central"]][n % 4])
    (rescue,), (meeting,) = ids("rescue"), ids("meeting")
    return {"Sales": sales.pk, "Benelux": benelux.pk, "none": 0, "rescue": rescue, "meeting": meeting}


@tried(6)
@given(query=queries, mode=st.sampled_from(["REPLACE", "ADD", "REMOVE"]), role=st.sampled_from([Role.ADMIN, Role.MANAGER]))
def test_the_number_is_one(people: dict[str, Any], query: dict[str, Any], mode: str, role: str):
    with transaction.atomic():
        actor = make_user("Acting Admin", role=role)
        actor.managed_groups.set([people["Sales"]] if role == Role.MANAGER else [])
        follow(actor, {key: [people.get(value, value) for value in _list(values)] for key, values in query.items()}, mode)
        transaction.set_rollback(True)


def follow(actor: User, query: dict[str, Any], mode: str) -> None:
    """Walk through the pages with this query and compare the number on each."""
    client = Client()
    client.force_login(actor)
    page = client.get(reverse("manage_users"), {**query, "count": "yes"}).content.decode()
    shown = number(r'id="found"[^>]*>\s*([\d,]+) user', page)
    assert number(r"([\d,]+) user", client.get(reverse("count_users"), query).content.decode()) == shown
    if not shown:
        assert 'id="select-all" data-key="a" disabled' in page
        return
    assert number(r"Select all ([\d,]+)", page) == shown
    client.post(f"{reverse('select_all_users')}?{urlencode(query, doseq=True)}", headers={"HX-Request": "true"})
    assert number(r"([\d,]+) selected", client.get(reverse("count_selected")).content.decode()) == shown
    draft = actor.selection_draft

    dialog = client.get(reverse("manage_products"), {"draft": draft.pk}).content.decode()
    assert number(r"for ([\d,]+) user", dialog) == shown
    assert number(r'name="expected" value="(\d+)"', dialog) == shown

    answer = client.post(
        reverse("apply_changes"),
        {"draft": draft.pk, "key": uuid.uuid4(), "mode": mode, "shown": mode, "expected": shown, "product": ids("rescue")},
    )
    assert answer.status_code == 303, answer.content.decode()
    made = BulkChange.objects.get(actor=actor)
    assert made.targets == shown == made.changed + made.unchanged + made.skipped
    assert sum(len(batch.user_ids) for batch in made.batches.all()) == shown


def number(pattern: str, page: str) -> int:
    found = re.search(pattern, page)
    assert found, pattern
    return int(found[1].replace(",", ""))


def _list(values: Any) -> list[Any]:
    return values if isinstance(values, list) else [values]
