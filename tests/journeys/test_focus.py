"""Nothing is pulled away from under the focus: by what asks for itself again, by toasts that go, by a second dialog."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, Response, expect

from tests.journeys.conftest import ADMIN, Console

PACK = """
INSERT INTO products_evidencepack (actor_id, wanted, state, requested_at, last_id, files, lease_until, expires_at)
SELECT id, '{}', %s, now(), 0, '{}', now() + interval '1 hour', now() + interval '1 day' FROM users_user WHERE email = %s
RETURNING id
"""
LETTER = """
INSERT INTO notifications_notification (user_id, kind, about, lane, not_before)
SELECT id, 'CHANGE', 0, 2, now() + interval '1 hour' FROM users_user WHERE email = %s RETURNING id
"""


@pytest.fixture
def packs(console: Console) -> Iterator[tuple[int, int]]:
    """Return the numbers of an evidence pack that is ready, and of one that goes on being made."""
    ((ready,),), ((waiting,),) = (console.rows(PACK, state, ADMIN) for state in ("READY", "WAITING"))
    yield ready, waiting
    console.rows("DELETE FROM products_evidencepack WHERE id = ANY(%s) RETURNING id", [ready, waiting])


@pytest.fixture
def letter(console: Console) -> Iterator[int]:
    """Return the number of an email that waits for an hour."""
    ((number,),) = console.rows(LETTER, ADMIN)
    yield number
    console.rows("DELETE FROM notifications_notification WHERE id = %s RETURNING id", number)


def stays_focused(place: Locator) -> None:
    """Give the focus to something, and see it there when something else has come in its place."""
    place.focus()
    place.evaluate("element => { element.dataset.old = 'yes' }")
    expect(place).not_to_have_attribute("data-old", "yes")
    expect(place).to_be_focused()


def test_what_is_polled_leaves_the_focus_where_it_is_and_says_what_is_new(
    admin: Page, console: Console, packs: tuple[int, int], letter: int
) -> None:
    ready, waiting = packs
    admin.goto("/evidence/")
    stays_focused(admin.locator("#packs-table"))
    stays_focused(admin.locator(f"#pack-{ready}"))
    expect(admin.locator("#said")).to_be_empty()
    console.rows("UPDATE products_evidencepack SET state = 'READY' WHERE id = %s RETURNING id", waiting)
    expect(admin.locator("#said")).to_have_text(f"Pack #{waiting} Ready")
    expect(admin.locator(f"#pack-{ready}")).to_be_focused()

    admin.goto("/notifications/")
    stays_focused(admin.locator("#delivery-waiting"))


def test_a_toast_stays_while_the_pointer_or_the_focus_is_in_it(
    browser: Browser, console: Console, cookies_of: Callable[[str], Any]
) -> None:
    context = browser.new_context(base_url=console.url, locale="en-GB")  # its clock is not that of other journeys
    context.add_cookies(cookies_of(ADMIN))
    context.clock.install()
    page = context.new_page()
    page.goto("/me/")
    page.get_by_role("button", name="Save").click()
    toast = page.locator("#toasts [data-toast]")
    dismiss = toast.get_by_role("button", name="Dismiss")

    dismiss.focus()
    page.clock.fast_forward(9_000)
    expect(dismiss).to_be_focused()
    toast.hover()
    page.locator("#main").focus()
    page.clock.fast_forward(9_000)
    expect(toast).to_be_visible()
    page.mouse.move(0, 0)
    page.clock.fast_forward(9_000)
    expect(toast).to_have_count(0)
    context.close()


def test_what_opens_a_dialog_opens_one_however_often_it_is_pressed(admin: Page, paused: int) -> None:
    def pressed_twice(opener: Locator, address: str) -> None:
        answers = []

        def both(response: Response) -> bool:
            answers.extend([response] * (address in response.url))
            return len(answers) == 2

        opener.focus()
        with admin.expect_response(both):
            opener.evaluate("element => { element.click(); element.click() }")
        expect(admin.locator("html.waiting")).to_have_count(0)
        expect(admin.locator("dialog[data-open]")).to_have_count(1)
        admin.keyboard.press("Escape")
        expect(admin.locator("dialog[data-open]")).to_have_count(0)
        expect(opener).to_be_focused()

    admin.goto(f"/changes/{paused}/")
    pressed_twice(admin.locator(f"#cancel-change-{paused}"), f"/changes/{paused}/cancel/")
    admin.goto("/users/")
    admin.locator("[data-tick]").first.check()
    pressed_twice(admin.locator("#manage-products"), "/users/products/?draft=")
    admin.get_by_role("button", name="Clear selection").click()
    expect(admin.locator("#selection")).to_contain_text("Nobody selected")
