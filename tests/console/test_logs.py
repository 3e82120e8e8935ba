"""The logs are JSON, one line a request, and never hold a secret or tell who a person is."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from django.test import Client
from django.urls import reverse

from tests.factories import make_user


class Lines:
    """What was logged meanwhile, as the log file would hold it."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter([json.loads(line) for line in self.stream.getvalue().splitlines()])


@pytest.fixture
def lines() -> Iterator[Lines]:
    found = Lines()
    handlers = [handler for handler in logging.getLogger().handlers if type(handler) is logging.StreamHandler]
    assert handlers
    before = [handler.setStream(found.stream) for handler in handlers]
    yield found
    for handler, stream in zip(handlers, before, strict=True):
        handler.setStream(stream)


def test_one_line_a_request(lines: Lines, client: Client, db: None) -> None:
    user = make_user(role="ADMIN")
    client.force_login(user)
    client.get(reverse("manage_users"), {"q": "Lovelace"})
    (line,) = lines
    assert line["event"] == "request"
    assert (line["method"], line["route"], line["status"], line["user"]) == ("GET", "users/", 200, user.pk)
    assert line["ms"] >= 0
    assert "Lovelace" not in json.dumps(line)


def test_whoever_watches_the_console_leaves_no_line(lines: Lines, client: Client, db: None) -> None:
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
    assert list(lines) == []


def test_the_lines_of_a_request_belong_together(lines: Lines, client: Client, db: None) -> None:
    client.get("/nothing-here/")
    client.get("/nothing-here/")
    first, second = lines
    assert first["status"] == 404
    assert first["request_id"] != second["request_id"]


@pytest.mark.parametrize(
    "say",
    [
        lambda: structlog.get_logger("users").info("tried", email="ada@lovelace.example"),
        lambda: structlog.get_logger("users").info("tried", password="s3cret"),
        lambda: structlog.get_logger("users").warning("refused %s", "<ada@lovelace.example>"),
        lambda: logging.getLogger("users").warning("550 no such user: %s", "ada@lovelace.example"),
        lambda: logging.getLogger("django.request").error("Failed: /accounts/password/reset/key/s3cret/"),
        lambda: logging.getLogger("django.request").error("Failed: /invitation/12.s3cret:s3cret/"),
        lambda: logging.getLogger("django.security").error("https://console.example/users/?search=lovelace does not match"),
        lambda: structlog.get_logger("users").error("failed", error=OSError("no such page: /users/?search=lovelace")),
    ],
)
def test_nothing_personal_and_nothing_secret(lines: Lines, say: Any) -> None:
    say()
    (line,) = lines
    assert "lovelace" not in json.dumps(line)
    assert "s3cret" not in json.dumps(line)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/users/?search=lovelace", {}, 403),
        ("/users/?search=lovelace", {"referer": "https://elsewhere.example/?search=lovelace"}, 403),
        ("/accounts/password/reset/key/1-s3cret/?search=lovelace", {}, 403),
        ("/invitation/1.s3cret:s3cret/", {}, 403),
    ],
)
def test_what_is_refused_is_logged_without_its_address(
    lines: Lines, db: None, path: str, headers: dict[str, str], status: int
) -> None:
    client = Client(enforce_csrf_checks=True, headers=headers)
    assert client.post(path, secure=True).status_code == status
    first = next(iter(lines))
    assert first["logger"] == "django.security.csrf"
    assert "request" not in first
    assert "lovelace" not in lines.stream.getvalue()
    assert "s3cret" not in lines.stream.getvalue()


def test_an_error_is_one_line_with_its_traceback(lines: Lines) -> None:
    try:
        raise ValueError("nobody is called ada@lovelace.example")
    except ValueError:
        logging.getLogger("django.request").exception("Internal Server Error")
    (line,) = lines
    assert "Traceback" in line["exception"]
    assert "lovelace" not in line["exception"]


def test_others_only_warn(lines: Lines) -> None:
    logging.getLogger("asyncio").info("hello")
    logging.getLogger("users").info("hello")
    assert [line["logger"] for line in lines] == ["users"]
