"""The dialog Manage products: who is ticked for it, what it shows, and what it posts."""

import re
import uuid
from collections.abc import Iterable
from typing import Any

from django.test import Client
from django.utils.timezone import now

from products import actions
from products.models import Mode, SelectionDraft
from products.queries import selection_draft
from tests.factories import ids, make_user, product
from users.models import User

OPEN, PREVIEW, APPLY = "/users/products/", "/users/products/preview/", "/users/products/apply/"
NAMES, EXPORT = "/users/products/names/", "/users/products/names.csv"
HTMX = {"HX-Request": "true"}


def member_of(manager: User, name: str = "", **fields: Any) -> User:
    """Return a user whom the manager manages."""
    return make_user(name, groups=manager.managed_groups.all(), **fields)


def ticking(owner: User, users: Iterable[User]) -> SelectionDraft:
    """Return the owner's selection draft with these users ticked."""
    return actions.tick_users(owner=owner, user_ids=[user.pk for user in users], ticked=True, now=now())


def opened(client: Client, owner: User, *users: User, **headers: str) -> Any:
    """Open the dialog for these users, as the bar of the selection does."""
    return client.get(OPEN, {"draft": ticking(owner, users).pk}, headers={**HTMX, **headers})


def form(owner: User, *codes: str, mode: str = Mode.REPLACE, expected: int = 1, **fields: Any) -> dict[str, Any]:
    """Return what the form posts."""
    posted = {"key": uuid.uuid4(), "mode": mode, "shown": mode, "product": ids(*codes), "expected": expected}
    return {**posted, "draft": selection_draft(owner, now=now()).pk, **fields}


def box(response: Any, code: str) -> str:
    """Return the checkbox of a product."""
    return re.findall(rf'<input type="checkbox" name="product" value="{product(code).pk}"[^>]*>', response.content.decode())[0]


def facts(response: Any, code: str) -> str:
    """Return what stands beside the checkbox of a product."""
    found = re.search(rf'id="product-{product(code).pk}-facts">(.*?)</p>', response.content.decode(), re.DOTALL)
    assert found
    return " ".join(re.sub(r"<[^>]+>", " ", found[1]).split())


def links(response: Any) -> dict[str, str]:
    """Return the ways to the names of a preview, by the ids of their links."""
    found = re.findall(r'<a [^>]*?id="names-([\w-]+)" href="([^"]+)"', response.content.decode())
    return {name: href.replace("&amp;", "&") for name, href in found}
