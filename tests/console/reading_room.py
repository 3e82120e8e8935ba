"""The pages of Django admin, the reading room of support, and what they say."""

import re
from html import unescape
from typing import Any

from django.test import Client

from products.models import AccessChange
from users.models import User

USERS = "/admin/users/user/"
HISTORY = "/admin/products/accesschange/"
CHANGES = "/admin/products/bulkchange/"
EMAILS = "/admin/notifications/notification/"
PRODUCTS = "/admin/products/product/"
ACTIONS = "/admin/users/adminaction/"
CHECKPOINTS = "/admin/products/checkpoint/"
BLOCKS = "/admin/products/historyblock/"
LISTS = [USERS, HISTORY, CHANGES, EMAILS, PRODUCTS, ACTIONS, CHECKPOINTS, BLOCKS]


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
