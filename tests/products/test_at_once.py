"""What happens when several act at once: each test commits in a database of its own."""

import threading
from collections.abc import Callable

import pytest
from django.db import connection

from products import history
from products.models import Source


def test_acting_needs_a_transaction(committed_db):
    with pytest.raises(RuntimeError, match="transaction"), history.acting(actor_id=1, source=Source.CONSOLE):
        pass
