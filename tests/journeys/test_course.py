"""The course of a long change in a real browser: seen on every page, paused, resumed, cancelled and undone."""

import re
from collections.abc import Callable, Iterator

import psycopg
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.journeys.conftest import THEMES, Console
from tests.journeys.looking import violations


@pytest.fixture
def jam(console: Console) -> Iterator[Callable[[], None]]:
    """Let changes of everyone get no further than half, behind an earlier one that takes long; called, that is out of the way."""
    with psycopg.connect(console.database) as database:
        (number,) = database.execute(JAM).fetchone() or (0,)
        database.commit()
        database.execute("SELECT 1 FROM products_bulkchangebatch WHERE change_id = %s FOR UPDATE", [number])

        def clear() -> None:
            database.execute("DELETE FROM products_bulkchange WHERE id = %s", [number])
            database.commit()

        yield clear
        clear()


JAM = """
WITH earlier AS (
    INSERT INTO products_bulkchange (actor_id, key, fingerprint, source, mode, products, preserved, selection, notify, reason,
        state, state_reason, requested_at, targets, changed, unchanged, skipped, suspended, restored)
    SELECT id, gen_random_uuid(), '', 'CONSOLE', 'ADD', '{}', '{}', '{}', false, '', 'RUNNING', '', now(), 1, 0, 0, 0, 0, 0
    FROM users_user WHERE role = 'SUPPORT' LIMIT 1 RETURNING id
), batch AS (
    INSERT INTO products_bulkchangebatch (change_id, n, user_ids, first_user, last_user, lease_until)
    SELECT earlier.id, 0, ARRAY[1], (SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY id) FROM users_user), 2147483647,
        now() + interval '20 seconds' FROM earlier
) SELECT id FROM earlier
"""


def apply_to_everyone(page: Page, mode: str, *products: str) -> Locator:
    """Change everyone by the dialog, silently, and return the dialog."""
    page.goto("/users/")
    page.locator("#select-all").click()
    page.get_by_role("button", name="Manage products").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text(mode, exact=True).click()
    expect(dialog.locator(f"[name=shown][value={mode.upper()}]")).to_have_count(1)
    for name in products:
        dialog.get_by_role("checkbox", name=name).check()
    dialog.get_by_role("checkbox", name="Do not notify users about this change").check()
    dialog.get_by_role("button", name="Apply changes").click()
    return dialog


def test_a_long_change_is_watched_paused_resumed_cancelled_and_undone(admin: Page, console: Console, jam: Callable[[], None]):
    holdings = "SELECT user_id, products FROM products_productaccess ORDER BY user_id"
    before = console.rows(holdings)

    # The progress is in the dialog, and at once on the page behind it and in the title.
    dialog = apply_to_everyone(admin, "Remove", "GoTo Meeting", "GoTo Resolve", "GoToMyPC")
    expect(dialog.locator(".change-progress")).to_contain_text("of 30")
    expect(admin.locator("#strip")).to_contain_text(re.compile(r"Change #\d+ and 1 more"))
    expect(admin).to_have_title(re.compile(r"^\d+ % · Manage users"))
    admin.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(admin.locator("#strip-now progress")).to_be_visible()

    # It is on every page but its own, where it is shown anyway.
    admin.goto("/products/")
    admin.locator("#strip a").first.click()
    expect(admin.locator(".change-progress progress")).to_be_visible()
    expect(admin.locator("#strip")).not_to_contain_text(admin.title().partition("#")[2].partition(" ")[0])
    expect(admin.locator(".change-progress")).to_contain_text("Removed")
    for theme in THEMES:
        assert violations(admin, theme) == []

    admin.get_by_role("button", name="Pause").click()
    expect(admin.locator(".change-state")).to_contain_text("paused it.")
    expect(admin.locator(".change-progress")).to_have_count(0)
    admin.get_by_role("button", name="Resume").click()
    expect(admin.locator(".change-progress")).to_be_visible()

    admin.get_by_role("link", name="Cancel…").click()
    asked = admin.get_by_role("dialog")
    expect(asked).to_contain_text("What is done stays as it is.")
    asked.get_by_role("button", name="Cancel the change").click()
    expect(asked).to_be_hidden()
    expect(admin.locator(".change-state")).to_contain_text(re.compile(r"Cancelled: \d+ of \d+ users were reached"))
    admin.get_by_role("link", name="Who was not reached").click()
    expect(admin.locator("#change-people table")).to_contain_text("@")

    jam()
    admin.get_by_role("link", name="Undo…").click()
    dialog = admin.get_by_role("dialog")
    expect(dialog.get_by_role("checkbox", name="Notify users about this change")).not_to_be_checked()
    expect(dialog).to_contain_text("Set back")
    dialog.get_by_role("button", name="Undo the change").click()
    expect(dialog).to_contain_text(re.compile(r"\d+ users? changed"), timeout=30_000)
    dialog.locator(".dialog-foot [data-close]").click()
    expect(admin.locator("#change-head")).to_contain_text(re.compile(r"Undone by #\d+"))
    assert console.rows(holdings) == before


def test_who_is_elsewhere_hears_of_the_end_once(admin: Page, console: Console, jam: Callable[[], None]):
    dialog = apply_to_everyone(admin, "Add", "join.me")
    expect(dialog.locator(".change-progress")).to_be_visible()
    admin.goto("/products/")
    expect(admin.locator("#strip-now")).to_be_visible()

    jam()

    toast = admin.locator(".toast").filter(has_text="is finished")
    expect(toast).to_contain_text(re.compile(r"Change #\d+ is finished: \d+ users changed\."), timeout=30_000)
    expect(admin.locator("#strip-now")).to_have_count(0)
    expect(admin).to_have_title("Products · Admin Console")
    toast.get_by_role("link", name="Show it").click()
    expect(admin.get_by_role("heading", name="Add join.me")).to_be_visible()
    expect(admin.locator(".toast")).to_have_count(0)


@pytest.mark.thorough
def test_a_change_is_steered_without_javascript(browser, console: Console, jam: Callable[[], None], admin: Page):
    apply_to_everyone(admin, "Remove", "join.me")
    context = browser.new_context(
        base_url=console.url, java_script_enabled=False, locale="en-GB", storage_state=admin.context.storage_state()
    )
    page = context.new_page()
    page.goto("/changes/?state=RUNNING")
    page.get_by_role("link", name="Remove join.me").click()
    page.get_by_role("button", name="Pause").click()
    expect(page.locator(".change-state")).to_contain_text("paused it.")
    page.get_by_role("link", name="Cancel…").click()
    page.get_by_role("button", name="Cancel the change").click()
    expect(page.locator(".change-state")).to_contain_text("Cancelled:")
    jam()
    page.get_by_role("link", name="Undo…").click()
    page.get_by_role("button", name="Undo the change").click()
    expect(page.get_by_role("heading", name=re.compile(r"Undo #\d+"))).to_be_visible()
    context.close()
