"""Who asks for the pages, unless a test says otherwise, and a change that is under way."""

import json
from typing import Any

import pytest
from django.test import Client
from django.utils.timezone import now

from products import actions, checkpoints
from products.models import BulkChange, Checkpoint
from tests.factories import change, make_group, make_user, make_users
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
    Checkpoint.objects.create(at=now(), payload=payload, signature=checkpoints.sign(payload), key=checkpoints.public_key())
    return make_user("Ada Admin", email="ada@tests.example", role=Role.ADMIN)


@pytest.fixture
def in_batches(settings: Any) -> None:
    """Let a change of more than two users be a large one, in batches of ten."""
    settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE = 2, 10


@pytest.fixture
def half_done(in_batches: None, ada: User) -> BulkChange:
    """Return Ada's change of 30 users of whom 10 are done."""
    made = change(ada, make_users(30, "User {n:03}"), "rescue", now=now())
    actions.advance_bulk_change(change_id=made.pk, now=now())
    made.refresh_from_db()
    return made


@pytest.fixture
def manager(client: Client) -> User:
    """Return the manager of the group Sales, signed in."""
    manager = make_user("Mary Manager", role=Role.MANAGER, manages=[make_group("Sales")])
    client.force_login(manager)
    return manager
