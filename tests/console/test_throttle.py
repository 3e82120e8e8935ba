"""The cache in which attempts to sign in are counted: nothing in its table runs, and nothing that counts is lost."""

import base64
import os
import pickle
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.hashers import make_password
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.urls import reverse

from tests.database import Database
from tests.factories import make_user
from users.models import Role


class Harmful:
    """What makes a folder when its pickle is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.folder),)


def rows() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM admin_console_throttle")
        return int(cursor.fetchone()[0])


@pytest.mark.django_db
def test_who_may_write_to_the_table_runs_no_code_in_the_web_server(client: Client, tmp_path: Path) -> None:
    attempt = {"login": "nobody@tests.example", "password": "wrong"}
    client.post(reverse("account_login"), attempt)  # so that there are counters
    with connection.cursor() as cursor:
        harmful = base64.b64encode(pickle.dumps(Harmful(tmp_path / "made"))).decode()
        cursor.execute("UPDATE admin_console_throttle SET value = %s, expires = now() + interval '1 hour'", [harmful])
        assert cursor.rowcount > 2

    response = client.post(reverse("account_login"), attempt)

    assert not (tmp_path / "made").exists()
    assert b"The email address or the password is not right." in response.content  # what cannot be read counts as none


@pytest.mark.django_db
def test_what_is_kept_is_there_until_its_time_is_over() -> None:
    cache.set("count", [1700000000.123456, 1.5], 60)
    cache.set("for ever", True, None)
    cache.set("by default", True)
    cache.set("over", True, 0.01)
    time.sleep(0.02)

    assert cache.get("count") == [1700000000.123456, 1.5]
    assert cache.get_many(["for ever", "by default", "over", "never"]) == {"for ever": True, "by default": True}
    assert cache.get("over", []) == []
    assert cache.delete("count")
    assert not cache.delete("count")
    cache.clear()
    assert rows() == 0


@pytest.mark.django_db
def test_what_is_over_is_added_anew_and_what_counts_is_not() -> None:
    cache.add("lock", 1, 0.01)
    time.sleep(0.02)

    assert cache.add("lock", 2, 60)
    assert not cache.add("lock", 3, 60)
    assert cache.get("lock") == 2


@pytest.mark.django_db
def test_what_is_over_is_swept_away_and_however_much_comes_what_counts_stays() -> None:
    for n in range(90):
        cache.set(f"a {n}", n, 0)
    cache.set("b", 1, 60)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO admin_console_throttle SELECT ':1:c' || n, 1, now() + interval '1 hour' FROM generate_series(1, 25000) n"
        )

    cache.set("d", 1, 60)

    assert cache.get("b") == 1
    assert rows() == 25_002


@pytest.mark.django_db
def test_who_dies_while_an_attempt_is_counted_keeps_nobody_out(client: Client) -> None:
    password = "correct horse battery staple"
    grace = make_user("Grace Hopper", role=Role.ADMIN, password=make_password(password))
    client.post(reverse("account_login"), {"login": grace.email, "password": "wrong"})
    with connection.cursor() as cursor:
        cursor.execute("SELECT substr(cache_key, 4) FROM admin_console_throttle")
        counters = [key for (key,) in cursor]
    for key in counters:
        assert cache.add(f"{key}:lock", True, timeout=10)  # as allauth locks a counter

    response = client.post(reverse("account_login"), {"login": grace.email, "password": password})

    assert len(counters) == 4
    assert response.status_code == 302


def test_of_many_who_add_at_once_one_does(committed_db: Database) -> None:
    def add(n: int) -> bool:
        try:
            return cache.add("lock", n, 60)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(add, range(8))) == 1
