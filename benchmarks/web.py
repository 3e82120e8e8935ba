"""The web server as `make run` starts it, and somebody signed in who asks it over a connection that stays open."""

import http.client
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import call_command

from admin_console.embedded import spawn, stop
from tests.processes import ROOT, environment, wait_until
from users.models import User

type Fields = Mapping[str, str | list[str]]


@dataclass(frozen=True)
class Answer:
    """What came back, and how long it took from the first byte asked to the last one told."""

    seconds: float
    first_byte: float
    status: int
    headers: Mapping[str, str]
    body: str
    sent: int
    received: int

    def link(self, element: str) -> str | None:
        """Return where an element of the page leads, by its id; None when it leads nowhere."""
        tag = re.search(rf'<[^>]* id="{element}"[^>]*>', self.body)
        found = tag and re.search(r'(?:href|hx-get|hx-post)="([^"]*)"', tag.group())
        return unescape(found.group(1)) if found else None


class Visitor:
    """Somebody signed in, with one connection."""

    def __init__(self, port: int, user: User | None) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        self._cookies = {}
        if user:
            store = SessionStore()
            store[SESSION_KEY], store[BACKEND_SESSION_KEY] = str(user.pk), settings.AUTHENTICATION_BACKENDS[0]
            store[HASH_SESSION_KEY] = user.get_session_auth_hash()
            store.create()
            self._cookies[settings.SESSION_COOKIE_NAME] = str(store.session_key)

    def get(self, path: str, *, part: str = "", expect: int = 200) -> Answer:
        """Ask for a page, or as htmx does for the part of a page that is its target."""
        return self._ask("GET", path, {}, part, expect)

    def post(self, path: str, fields: Fields, *, part: str = "", expect: int = 200) -> Answer:
        """Send a form."""
        return self._ask("POST", path, fields, part, expect)

    def _ask(self, method: str, path: str, fields: Fields, part: str, expect: int) -> Answer:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        if part:
            headers |= {"HX-Request": "true", "HX-Target": part}
        body = b""
        if method == "POST":
            headers |= {"Content-Type": "application/x-www-form-urlencoded"}
            body = urlencode(fields, doseq=True).encode()
        started = time.perf_counter()
        self._connection.request(method, path, body or None, headers)
        response = self._connection.getresponse()
        first = response.read(1)
        first_byte = time.perf_counter() - started
        content = first + response.read()
        took = time.perf_counter() - started
        for cookie in response.headers.get_all("Set-Cookie") or []:
            name, _equals, value = cookie.partition(";")[0].partition("=")
            self._cookies[name] = value
        if response.status != expect:
            raise AssertionError(f"{method} {path} answered {response.status}: {content[:200]!r}")
        sent = len(method) + len(path) + sum(len(name) + len(value) + 4 for name, value in headers.items()) + len(body)
        return Answer(
            took, first_byte, response.status, dict(response.headers), content.decode(errors="replace"), sent, len(content)
        )

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


@contextmanager
def web_server(home: Path, **more: str) -> Iterator[int]:
    """Run the web server on the database in use and yield its port."""
    if not (settings.STATIC_ROOT / "staticfiles.json").exists():
        call_command("collectstatic", verbosity=0, interactive=False)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (home / "web.log").open("ab") as log:
        server = spawn(
            [sys.executable, "-m", "admin_console.web"],
            output=log,
            environment=environment(PORT=str(port), **more),
            folder=ROOT,
        )
    try:
        wait_until(lambda: _answers(port) or server.poll() is not None, 60, "the start of the web server")
        if server.poll() is not None:
            raise AssertionError("The web server ended while starting")
        yield port
    except AssertionError as error:
        error.add_note(f"The web server's last words:\n{(home / 'web.log').read_text()[-6000:]}")
        raise
    finally:
        stop(server, signal.SIGTERM)


def _answers(port: int) -> bool:
    visitor = Visitor(port, None)
    try:
        visitor.get("/readyz")
    except (OSError, http.client.HTTPException, AssertionError):
        return False
    finally:
        visitor.close()
    return True
