"""The pictures of docs/img: `make screenshots` takes them anew, from the console of the journeys with its invented people."""

import re
from itertools import product
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.journeys.test_styleguide_pictures import AGREED, THEMES, WIDTHS, taken

PICTURES = Path(__file__).parents[2] / "docs" / "img"
MOST_BYTES = 150_000


def take(page: Page, name: str, *, of: str = "") -> None:
    """Take a picture of the window or of one element, light and dark, with nothing moving."""
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        page.evaluate("document.documentElement.style.scrollbarGutter = 'auto'")  # no bar is drawn
        page.evaluate("document.getAnimations().forEach((animation) => animation.finish())")
        picture = PICTURES / f"{name}-{theme}.png"
        (page.locator(of) if of else page).screenshot(path=picture, caret="initial", scale="css")
        assert picture.stat().st_size < MOST_BYTES, f"{picture} is too large for the repository"


def test_take_the_pictures(admin: Page) -> None:
    admin.set_viewport_size({"width": 1200, "height": 760})
    admin.goto("/users/?status=ACTIVE&status=INVITED&status=INACTIVE&language=en")
    for place in (1, 2, 4):
        admin.locator("[data-tick]").nth(place).check()
    expect(admin.locator("#selected")).to_have_text("3 selected")
    expect(admin.locator("#found")).to_have_text(re.compile(r"\d+ users"))
    take(admin, "list")

    admin.get_by_role("button", name=re.compile("Select all")).click()
    expect(admin.locator("#selected")).to_have_text(re.compile(r"\d{2,} selected"))
    admin.locator("#manage-products").click()
    for name in ("GoTo Meeting", "GoTo Resolve"):
        admin.get_by_role("checkbox", name=name).check()
    expect(admin.locator("#change-short")).to_have_text(re.compile(r"\d+ users change"))
    take(admin, "manage-products", of="dialog[open]")

    admin.get_by_role("button", name="Apply changes").click()
    expect(admin.get_by_role("dialog")).to_contain_text("users changed")
    admin.get_by_role("link", name="Open this change").click()
    expect(admin.get_by_text("Counting")).to_have_count(0)
    take(admin, "result")

    admin.goto("/styleguide/")
    admin.get_by_role("heading", name="A change, at its loudest").scroll_into_view_if_needed()
    take(admin, "styleguide")


def test_take_the_pictures_that_the_style_guide_is_compared_with(page: Page) -> None:
    page.goto("/styleguide/")
    for width, theme in product(WIDTHS, THEMES):
        picture = AGREED / f"{width}-{theme}.png"
        picture.parent.mkdir(exist_ok=True)
        picture.write_bytes(taken(page, width, theme))
        assert picture.stat().st_size < MOST_BYTES, f"{picture} is too large for the repository"
