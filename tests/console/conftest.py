"""Who asks for the pages, unless a test says otherwise."""

import pytest
from django.test import Client

from tests.factories import make_user
from users.models import Role, User


@pytest.fixture
def ada(client: Client) -> User:
    """Return an admin who is signed in."""
    ada = make_user("Ada Admin", role=Role.ADMIN)
    client.force_login(ada)
    return ada
