"""A whole console as `make run` starts it, with real people, and a real Chromium in front of it."""

import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.contrib.auth.hashers import Argon2PasswordHasher
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, WebError, expect

from admin_console.embedded import sockets_folder
from tests import processes

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
PASSWORD = "correct horse battery staple"
ADMIN, SUPPORT = "ada@journeys.example", "support@journeys.example"

# `make browser`: everything. `make test`: each page once, in English and light, the dialog in German and dark, and what is not
# marked as thorough.
THOROUGH = os.environ.get("JOURNEYS") == "all"
THEMES = ["light", "dark"] if THOROUGH else ["light"]

expect.set_options(timeout=15_000)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the journeys, and leave the thorough ones to `make browser`. Without Chromium they are skipped, or fail."""
    missing = not Path(CHROMIUM).exists()
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        item.add_marker(pytest.mark.browser)
        if missing and os.environ.get("REQUIRE_BROWSER") != "1":
            item.add_marker(pytest.mark.skip(reason="no Chromium: install Debian's package `chromium`"))
    if not THOROUGH and (left := [item for item in items if item.get_closest_marker("thorough")]):
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


@pytest.fixture(scope="session", autouse=True)
def _sync_playwright_beside_django() -> None:
    # Playwright's synchronous calls run inside of a loop, which Django takes for asynchronous code.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"


@dataclass(frozen=True)
class Console:
    """A running console: where it is, and how to look into its database."""

    url: str
    database: str  # psycopg's conninfo of the console's role

    def rows(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        """Return what a SELECT finds in the console's database."""
        with psycopg.connect(self.database) as connection:
            return connection.execute(sql, params).fetchall()


@pytest.fixture(scope="session")
def console() -> Iterator[Console]:
    """Start a console of 300 invented people, in which more than 40 make a large change; stop it as Ctrl-C does."""
    home = processes.console_home("journeys")
    sizes = {"DEMO_USERS": "300", "BULK_AT_ONCE": "40", "BULK_BATCH_SIZE": "40"}
    running = processes.Console(home, ADMIN_EMAIL=ADMIN, ADMIN_PASSWORD=PASSWORD, STYLEGUIDE="yes", **sizes)
    database = psycopg.conninfo.make_conninfo(host=str(sockets_folder(home)), dbname="console", user="console")
    try:
        running.start()
        with psycopg.connect(database) as connection:
            connection.execute(SUPPORTER, [SUPPORT, Argon2PasswordHasher().encode(PASSWORD, "salt of the earth")])
        yield Console(f"http://127.0.0.1:{running.port}", database)
        assert running.end(signal.SIGINT) == 0, running.told
    finally:
        if running.process:
            running.process.kill()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def paused(console: Console) -> Iterator[int]:
    """Return the number of a change that rests in the middle, until the journey is over."""
    ((number,),) = console.rows(PAUSED, ADMIN)
    yield number
    console.rows("DELETE FROM products_bulkchange WHERE id = %s RETURNING id", number)


PAUSED = """
INSERT INTO products_bulkchange (actor_id, key, fingerprint, source, mode, products, preserved, selection, notify, reason,
    state, state_reason, requested_at, targets, changed, unchanged, skipped, suspended, restored)
SELECT id, gen_random_uuid(), '', 'CONSOLE', 'ADD', '{}', '{}', '{}', false, '', 'PAUSED', '', now(), 2, 1, 0, 0, 0, 0
FROM users_user WHERE email = %s RETURNING id
"""
SUPPORTER = "INSERT INTO users_user (email, password, first_name, last_name, role) VALUES (%s, %s, 'Sue', 'Porter', 'SUPPORT')"


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


@pytest.fixture(scope="session")
def one_context(browser: Browser, browser_context_args: dict[str, Any]) -> Iterator[BrowserContext]:
    """Return what all journeys share: what was fetched is kept, as in the browser of somebody who works here."""
    context = browser.new_context(**browser_context_args)
    yield context
    context.close()


@pytest.fixture
def context(one_context: BrowserContext) -> Iterator[BrowserContext]:
    """Forget who was signed in. Fail when a page of the journey complains in the browser's console, as of the security policy."""
    context, complaints = one_context, list[str]()
    context.clear_cookies()

    def listen(message: ConsoleMessage) -> None:
        # A refused form is answered with 4xx, which Chromium and htmx report; leaving a page ends what it was asking for.
        harmless = r"status of 4\d\d|Status Error Code 422|^htmx:(sendAbort|afterRequest),"
        if message.type in ("error", "warning") and not re.search(harmless, message.text):
            complaints.append(f"{message.type}: {message.text}")

    def fail(error: WebError) -> None:
        complaints.append(str(error.error))

    context.on("console", listen)
    context.on("weberror", fail)
    yield context
    for page in context.pages:
        page.close()
    context.remove_listener("console", listen)
    context.remove_listener("weberror", fail)
    assert complaints == []


def sign_in(page: Page, email: str = ADMIN) -> Page:
    """Sign in by the form and return the page."""
    page.goto("/accounts/login/")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: "/accounts/login" not in url)
    return page


@pytest.fixture(scope="session")
def cookies_of(browser: Browser, browser_context_args: dict[str, Any]) -> Callable[[str], Any]:
    """Return what gives the cookies of somebody by their email, who signs in by the form once for all journeys."""

    @cache
    def cookies(email: str) -> Any:
        context = browser.new_context(**browser_context_args)
        sign_in(context.new_page(), email)
        found = context.cookies()
        context.close()
        return found

    return cookies


@pytest.fixture
def admin(page: Page, cookies_of: Callable[[str], Any]) -> Page:
    """Return an empty page of a browser in which the first Super admin has signed in."""
    page.context.add_cookies(cookies_of(ADMIN))
    return page


@pytest.fixture
def support(page: Page, cookies_of: Callable[[str], Any]) -> Page:
    """Return an empty page of a browser in which the support person has signed in."""
    page.context.add_cookies(cookies_of(SUPPORT))
    return page
