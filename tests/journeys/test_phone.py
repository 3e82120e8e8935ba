"""The main job on a phone, with one thumb: everything by taps, nothing by a pointer that hovers."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.journeys.conftest import ADMIN, Console
from tests.journeys.looking import violations

LOWER_HALF = 844 / 2


@pytest.fixture
def phone(browser: Browser, console: Console, cookies_of: Callable[[str], Any]) -> Iterator[Page]:
    """Return a page of a phone on which the first Super admin has signed in."""
    context = browser.new_context(
        base_url=console.url, locale="en-GB", viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    context.add_cookies(cookies_of(ADMIN))
    yield context.new_page()
    context.close()


@pytest.mark.thorough
def test_the_main_job_by_taps(phone: Page, console: Console) -> None:
    phone.goto("/users/?role=MEMBER&language=it")

    # One line above the cards: all of the page, and a menu of what to sort by.
    head = phone.locator(".people-table thead").bounding_box()
    assert head
    assert head["height"] < 48
    phone.locator("#sort-button").tap()
    phone.locator("#sort-menu").get_by_role("link", name="Last seen").tap()
    expect(phone).to_have_url(re.compile("sort=-?seen"))
    expect(phone.locator("#sort-button")).to_contain_text("Last seen")

    # The exact time lies over the rough one once that is tapped.
    seen = phone.locator(".people-seen time").first
    exact = seen.locator(".exact")
    assert (exact.bounding_box() or {"width": 0})["width"] <= 1
    seen.tap()
    expect(seen).to_be_focused()
    assert (exact.bounding_box() or {"width": 0})["width"] > 60
    expect(exact).to_have_text(re.compile(r"\d{4}"))

    # The edge of a card ticks it: no aiming at a box.
    card = phone.locator("tbody tr").first
    where = card.bounding_box()
    assert where
    card.tap(position={"x": 22, "y": where["height"] - 12})
    expect(card.get_by_role("checkbox")).to_be_checked()
    expect(phone.locator("#selection-count")).to_have_text(re.compile("1 selected"))

    # What comes next is under the thumb.
    for button in (phone.locator("#manage-products"), phone.locator("#apply"), phone.locator(".dialog-foot .button-primary")):
        expect(button).to_be_in_viewport()
        box = button.bounding_box()
        assert box
        assert box["y"] > LOWER_HALF
        assert box["height"] >= 40
        if button.get_attribute("id") == "apply":
            # The preview lies below the products; what the choice takes and gives opens above the line beside the button.
            product = phone.locator("dialog[open] .product").first
            product.tap()
            phone.locator(".short-button").tap()
            moves = phone.locator("#short-moves")
            expect(moves).to_be_in_viewport(ratio=1)
            expect(moves).to_contain_text(product.locator(".product-name").inner_text())
            product.tap()
            expect(moves).to_be_hidden()
            phone.locator("dialog[open]").get_by_text("Add", exact=True).tap()
            expect(phone.locator("dialog[open] [name=shown][value=ADD]")).to_have_count(1)
            phone.get_by_role("checkbox", name="Do not notify users about this change").tap()
            button.tap()
            expect(button).to_have_count(0)  # the primary button that comes next is another one
        else:
            button.tap()
    expect(phone.locator("dialog[open]")).to_have_count(0)
    expect(phone.locator("#selection-count")).to_have_text(re.compile("Nobody selected"))


@pytest.mark.thorough
@pytest.mark.parametrize("path", ["/changes/", "/notifications/"])
def test_filters_open_from_a_button(phone: Page, path: str) -> None:
    phone.goto(path)
    state = phone.get_by_label("State", exact=True)
    expect(state).to_be_hidden()

    phone.get_by_role("button", name="Filters").tap()
    expect(phone.locator("#more-filters")).to_be_in_viewport(ratio=1)
    assert violations(phone, "light") == []
    state.select_option(index=1)
    phone.locator("h1").tap()

    expect(state).to_be_hidden()
    expect(phone).to_have_url(re.compile(r"[?&]state=\w"))
