"""Who asks for the pages, unless a test says otherwise."""

import json

import pytest
from django.test import Client
from django.utils.timezone import now

from products.models import Checkpoint
from tests.factories import make_user
from users.models import Role, User


@pytest.fixture
def ada(client: Client) -> User:
    """Return an admin who is signed in."""
    ada = make_user("Ada Admin", role=Role.ADMIN)
    client.force_login(ada)
    return ada


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
