"""A whole console as `make run` starts it, with real people, and a real Chromium in front of it."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, expect

ROOT = Path(__file__).resolve().parent.parent.parent
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
PASSWORD = "correct horse battery staple"
ADMIN, SUPPORT = "ada@journeys.example", "support@journeys.example"

# `make browser`: every language and theme. `make test`: each page in English and light, the dialog in German and dark.
THOROUGH = os.environ.get("JOURNEYS") == "all"
THEMES = ["light", "dark"] if THOROUGH else ["light"]

expect.set_options(timeout=15_000)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the journeys; they share one console, so one process takes them all. Without Chromium they are skipped, or fail."""
    missing = not Path(CHROMIUM).exists()
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        item.add_marker(pytest.mark.browser)
        item.add_marker(pytest.mark.xdist_group("browser"))
        if missing and os.environ.get("REQUIRE_BROWSER") != "1":
            item.add_marker(pytest.mark.skip(reason="no Chromium: install Debian's package `chromium`"))


@pytest.fixture(scope="session", autouse=True)
def _sync_playwright_beside_django() -> None:
    # Playwright's synchronous calls run inside of a loop, which Django takes for asynchronous code.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"


@dataclass(frozen=True)
class Console:
    """A running console: where it is, and how to look into its database."""

    url: str
    home: Path
    database: str  # psycopg's conninfo of the console's role

    def rows(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        """Return what a SELECT finds in the console's database."""
        with psycopg.connect(self.database) as connection:
            return connection.execute(sql, params).fetchall()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest.fixture(scope="session")
def console() -> Iterator[Console]:
    """Start a console of 300 invented people, in which more than 40 make a large change; stop it as Ctrl-C does."""
    home, port = Path(tempfile.mkdtemp(prefix="admin console journeys ")), free_port()
    home.chmod(0o755)
    inherited = {name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ}
    environment = {
        **inherited,
        "ADMIN_CONSOLE_HOME": str(home),
        "PORT": str(port),
        "MAIL_SINK_PORT": str(free_port()),
        "DEMO_USERS": "300",
        "BULK_AT_ONCE": "40",
        "BULK_BATCH_SIZE": "40",
        "STYLEGUIDE": "yes",
        "ADMIN_EMAIL": ADMIN,
        "ADMIN_PASSWORD": PASSWORD,
    }
    log = (home / "launcher.log").open("w+")
    manage = [sys.executable, str(ROOT / "manage.py")]
    launcher = subprocess.Popen([*manage, "run_console"], env=environment, cwd=home, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(url, launcher, home)
        make_people = [*manage, "shell", "-v0", "-c", SUPPORTER.format(email=SUPPORT, password=PASSWORD)]
        subprocess.run(make_people, env=environment, cwd=home, check=True, capture_output=True)
        yield Console(url, home, _conninfo(manage, environment, home))
    finally:
        launcher.send_signal(signal.SIGINT)
        try:
            assert launcher.wait(30) == 0, (home / "launcher.log").read_text()
        finally:
            launcher.kill()
            log.close()
            shutil.rmtree(home, ignore_errors=True)


SUPPORTER = """
from users.models import Role, User
user = User(email="{email}", first_name="Sue", last_name="Porter", role=Role.SUPPORT)
user.set_password("{password}")
user.save()
"""
CONNINFO = "from django.conf import settings; d = settings.DATABASES['default']; print(d['NAME'], d['USER'], d['HOST'])"


def _conninfo(manage: list[str], environment: dict[str, str], home: Path) -> str:
    told = subprocess.run(
        [*manage, "shell", "-v0", "-c", CONNINFO], env=environment, cwd=home, check=True, capture_output=True, text=True
    )
    name, user, host = told.stdout.split()
    return psycopg.conninfo.make_conninfo(dbname=name, user=user, host=host)


def _wait_until_ready(url: str, launcher: subprocess.Popen[bytes], home: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and launcher.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
                if answer.status == 200 and url in (home / "launcher.log").read_text():
                    return
        except OSError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"The console did not start:\n{(home / 'launcher.log').read_text()}")


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    """Use Debian's Chromium, which also runs as root and without a network."""
    quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    return {
        "executable_path": CHROMIUM,
        "args": ["--no-sandbox", *quiet, "--disable-component-update", "--disable-sync"],
    }


@pytest.fixture(scope="session")
def browser_context_args(console: Console) -> dict[str, Any]:
    """Open pages of the console, in English, as on a laptop."""
    return {"base_url": console.url, "locale": "en-GB", "viewport": {"width": 1440, "height": 900}}


@pytest.fixture
def context(context: BrowserContext) -> Iterator[BrowserContext]:
    """Fail when a page of the journey complains in the browser's console, as for a breach of the security policy."""
    complaints: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        # A refused form is answered with 4xx, which Chromium and htmx report; leaving a page ends what it was asking for.
        harmless = r"status of 4\d\d|Status Error Code 422|^htmx:(sendAbort|afterRequest),"
        if message.type in ("error", "warning") and not re.search(harmless, message.text):
            complaints.append(f"{message.type}: {message.text}")

    context.on("console", listen)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    yield context
    assert complaints == []


def sign_in(page: Page, email: str = ADMIN) -> Page:
    """Sign in by the form and return the page."""
    page.goto("/accounts/login/")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: "/accounts/login" not in url)
    return page


@pytest.fixture
def admin(page: Page) -> Page:
    """Return a page on which the first Super admin has signed in."""
    return sign_in(page)
