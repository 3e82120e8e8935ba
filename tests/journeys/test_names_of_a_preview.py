"""From a number of the preview to the names behind it and back, with nothing lost, in a real browser."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect


def open_for_everyone(page: Page) -> Locator:
    """Select everyone and return the dialog Manage products."""
    page.goto("/users/")
    expect(page.locator("#selection")).to_contain_text("Nobody selected")
    page.get_by_role("button", name=re.compile("Select all")).click()
    expect(page.locator("#selection")).to_contain_text("everyone")
    page.get_by_role("button", name="Manage products").click()
    return page.get_by_role("dialog", name="Manage products")


def close_and_clear(page: Page, dialog: Locator) -> None:
    """Close the dialog and select nobody, for the next journey."""
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.get_by_role("button", name="Clear selection").click()
    expect(page.locator("#selection")).to_contain_text("Nobody selected")


def test_from_a_number_to_its_names_and_back(admin: Page):
    dialog = open_for_everyone(admin)
    dialog.get_by_role("checkbox", name="GoTo Meeting").check()
    dialog.get_by_label("Reason").fill("Pilot")
    expect(dialog.locator("#preview")).to_contain_text("Granted")

    dialog.locator("#names-changed").click()
    names = admin.get_by_role("dialog", name="Users who are changed")
    expect(names.get_by_role("heading", name="Users who are changed")).to_be_focused()
    expect(names.locator("tbody tr")).to_have_count(50)
    first = names.locator(".names-name").first.inner_text()
    names.get_by_role("link", name="Next page").click()
    expect(names.locator(".names-name").first).not_to_have_text(first)
    names.get_by_role("link", name="Previous page").click()
    expect(names.locator(".names-name").first).to_have_text(first)
    with admin.expect_download() as download:
        names.get_by_role("link", name="Export as CSV").click()
    lines = download.value.path().read_text(encoding="utf-8-sig").splitlines()
    assert f"{len(lines) - 1}" == dialog.locator("#names-changed").inner_text()

    names.get_by_role("button", name="Back").last.click()
    expect(names).to_have_count(0)
    expect(dialog.locator("#names-changed")).to_be_focused()
    expect(dialog.get_by_label("Reason")).to_have_value("Pilot")
    expect(dialog.get_by_role("checkbox", name="GoTo Meeting")).to_be_checked()
    close_and_clear(admin, dialog)


@pytest.mark.thorough
def test_ticks_in_quick_succession_end_in_the_preview_of_the_last(admin: Page):
    dialog = open_for_everyone(admin)
    dialog.locator("label", has_text="Remove").first.click()
    expect(dialog.locator("#preview")).to_contain_text("Tick the products to remove.")
    asked: list[str] = []
    admin.on("request", lambda request: asked.append(request.url) if request.url.endswith("/preview/") else None)

    boxes = dialog.get_by_role("checkbox", name=re.compile("GoTo Meeting|Rescue|Central")).all()
    for box in [*boxes, *boxes, *boxes]:
        box.click()  # each ends ticked

    losses = dialog.locator("#preview .moves-lost li")
    expect(losses).to_have_count(3)
    assert len(asked) < 9
    close_and_clear(admin, dialog)
