"""The pages of bulk changes: how they are asked for, and what they say."""

import re
from typing import Any

from django.test import Client
from django.utils.timezone import now

from products import actions
from products.models import BulkChange
from tests.console.pages import shown


def page_of(client: Client, made: BulkChange, query: str = "", target: str = "") -> Any:
    """Ask for the page of a change, or as htmx for one part of it."""
    headers = {"HX-Request": "true", "HX-Target": target} if target else {}
    return client.get(f"/changes/{made.pk}/{query}", headers=headers)


def listed(client: Client, query: str = "") -> str:
    """Return the words of the list, without the drop-downs above it."""
    return shown(client.get(f"/changes/{query}", headers={"HX-Request": "true", "HX-Target": "results"}))


def numbers(response: Any) -> list[int]:
    """Return the numbers of the listed changes."""
    return [int(n) for n in re.findall(r'<a href="/changes/(\d+)/"><span', response.content.decode())]


def run(made: BulkChange) -> BulkChange:
    """Do what a worker does for a change until there is nothing more to do."""
    while actions.advance_bulk_change(change_id=made.pk, now=now()) is actions.Step.MORE:
        pass
    made.refresh_from_db()
    return made


def named(response: Any) -> list[str]:
    """Return the numbers of those listed who are called "User …"."""
    return re.findall(r"User (\d{3})<", response.content.decode())


def ways(response: Any) -> dict[str, str]:
    """Return the queries that lead to other pages of the users."""
    found = re.findall(r'id="people-(\w+)" href="/changes/\d+/([^"#]*)#change-people"', response.content.decode())
    return {name: query.replace("&amp;", "&") for name, query in found}


def press(client: Client, made: BulkChange, verb: str, **headers: str) -> Any:
    """Press a button of a change, with htmx."""
    return client.post(f"/changes/{made.pk}/{verb}/", headers={"HX-Request": "true", "HX-Target": "change-state", **headers})


def undo_of(client: Client, made: BulkChange, **posted: str) -> Any:
    """Post the form of an undo, as it is when it was just opened but for what is named, as htmx."""
    page = client.get(f"/changes/{made.pk}/undo/", headers={"HX-Request": "true"}).content.decode()
    hidden = dict(re.findall(r'<input type="hidden" name="(key|expected)" value="([^"]+)"', page))
    return client.post(f"/changes/{made.pk}/undo/", {**hidden, **posted}, headers={"HX-Request": "true", "HX-Target": "undo"})
