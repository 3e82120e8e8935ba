"""Reach in a real browser: by keys alone, without JavaScript, in every language, on narrow screens, with larger letters."""

import contextvars
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.staticfiles.finders import find
from django.test import Client
from django.utils import translation
from django.utils.translation import gettext
from playwright.sync_api import Browser, Page, Route, expect

from admin_console import languages
from tests import pseudo
from tests.console.test_pseudo import organisation
from tests.journeys.conftest import THOROUGH, Console, sign_in
from tests.journeys.looking import too_wide, violations

__all__ = ["organisation"]
LANGUAGES = sorted(languages.offered()) if THOROUGH else ["de" if "de" in languages.offered() else "en"]
NARROW = [(390, "100%"), (320, "100%"), (780, "200%")]
WIDTHS = [*((width, "100%") for width in (1440, 1280, 1024, 768)), *NARROW] if THOROUGH else NARROW


NOBODY_HAS = """
SELECT id, name FROM products_product WHERE retired_at IS NULL AND id NOT IN (
    SELECT unnest(products) FROM products_productaccess WHERE user_id = ANY(%s)
) ORDER BY position DESC LIMIT 1
"""


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.id"))


def test_the_main_job_by_keys(admin: Page, console: Console) -> None:
    admin.goto("/users/?role=MEMBER&language=es&sort=email")
    first, second, third = [box.get_attribute("id") for box in admin.locator("[data-tick]").all()[:3]]

    # From row to row, and a range that grows and shrinks.
    admin.keyboard.press("j")
    assert focused(admin) == first
    admin.keyboard.press("x")
    expect(admin.locator("#said")).to_have_text(re.compile("1 selected"))
    admin.keyboard.press("Shift+ArrowDown")
    admin.keyboard.press("Shift+ArrowDown")
    assert focused(admin) == third
    expect(admin.locator("#selection-count")).to_have_text(re.compile("3 selected"))
    admin.keyboard.press("Shift+ArrowUp")
    expect(admin.locator("#selection-count")).to_have_text(re.compile("2 selected"))
    assert focused(admin) == second

    # The dialog gives the focus back to where it was opened.
    admin.keyboard.press("m")
    dialog = admin.locator("dialog[open]")
    expect(dialog.locator("#change-title")).to_be_focused()
    admin.keyboard.press("k")
    expect(dialog.locator("#change-title")).to_be_focused()
    admin.keyboard.press("Escape")
    expect(admin.locator(f"#{second}")).to_be_focused()

    # Choosing and applying.
    admin.keyboard.press("m")
    expect(dialog.locator("#change-title")).to_be_focused()
    while not admin.evaluate("document.activeElement.name === 'product' && !document.activeElement.checked"):
        admin.keyboard.press("Tab")
    admin.keyboard.press("Space")
    expect(dialog.locator("#preview-said")).to_have_text(re.compile("changed"))
    while focused(admin) != "apply":
        admin.keyboard.press("Tab")
    admin.keyboard.press("Enter")
    expect(dialog).to_contain_text(re.compile("users? changed|Nothing changed"))
    admin.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(admin.locator("#said")).to_have_text(re.compile("Nobody selected"))

    # Searching: while one types, letters are letters. Enter opens the row.
    admin.keyboard.press("/")
    expect(admin.locator("#search")).to_be_focused()
    admin.keyboard.type("jam")
    expect(admin.locator("#search")).to_have_value("jam")
    expect(admin).to_have_url(re.compile("search=jam"))
    admin.goto("/users/")
    admin.keyboard.press("j")
    admin.keyboard.press("Enter")
    expect(admin).to_have_url(re.compile(r"/users/\d+/$"))


def test_the_palette_finds_and_the_shortcuts_can_be_switched_off(admin: Page, console: Console) -> None:
    [(person, name)] = console.rows(
        "SELECT id, first_name || ' ' || last_name FROM users_user WHERE role = 'MEMBER' ORDER BY id LIMIT 1"
    )
    admin.goto("/changes/")
    admin.keyboard.press("Control+k")
    text = admin.locator("#palette-text")
    expect(text).to_be_focused()
    options = admin.locator("#palette").get_by_role("option")
    expect(options.filter(has_text="Manage users")).to_be_visible()
    admin.keyboard.type(name)
    expect(options.first).to_contain_text(name)
    expect(text).to_have_attribute("aria-activedescendant", "found-1-1")
    assert violations(admin) == []
    admin.keyboard.press("Escape")
    expect(admin.locator("#palette")).to_be_hidden()

    admin.keyboard.press("Control+k")
    expect(options.first).to_contain_text(name)
    admin.keyboard.press("ArrowUp")
    admin.keyboard.press("ArrowDown")
    admin.keyboard.press("Enter")
    expect(admin).to_have_url(re.compile(rf"/users/{person}/$"))

    admin.goto("/users/")
    admin.keyboard.press("?")
    dialog = admin.locator("dialog[open]")
    expect(dialog.get_by_role("heading", name="Keyboard shortcuts")).to_be_focused()
    assert violations(admin) == []
    with admin.expect_response("**/shortcuts/"):
        dialog.get_by_label("Shortcuts are on").uncheck()
    admin.keyboard.press("Escape")
    admin.keyboard.press("j")
    admin.keyboard.press("?")
    assert focused(admin) in ("", "main")
    expect(dialog).to_be_hidden()
    admin.locator("#user-menu-button").click()
    admin.locator("#shortcuts-link").click()
    with admin.expect_response("**/shortcuts/"):
        dialog.get_by_label("Shortcuts are on").check()
    admin.keyboard.press("Escape")
    expect(admin.locator("#user-menu-button")).to_be_focused()
    admin.keyboard.press("j")
    assert focused(admin).startswith("tick-")


def test_the_main_job_without_javascript(browser: Browser, console: Console) -> None:
    context = browser.new_context(base_url=console.url, java_script_enabled=False, locale="en-GB")
    page = sign_in(context.new_page())

    # Filter, search, turn pages: each is an address.
    page.get_by_label("Filter category").select_option(label="Role")
    page.get_by_role("button", name="Apply").last.click()
    page.get_by_label("Filter by").select_option(label="Member")
    page.get_by_role("button", name="Apply").last.click()
    expect(page.locator(".chips")).to_contain_text("Member")
    page.locator("#page-next").click()
    expect(page).to_have_url(re.compile("after="))
    expect(page.locator(".chips")).to_contain_text("Member")
    page.get_by_label("Search").fill("an")
    page.get_by_label("Search").press("Enter")
    expect(page).to_have_url(re.compile("search=an"))

    # Two users get one product, instead of what they had; and that is undone again.
    holdings = "SELECT user_id, products FROM products_productaccess WHERE user_id = ANY(%s) ORDER BY user_id"
    boxes = page.locator("[data-tick]").all()[:2]
    chosen = [int(box.get_attribute("value") or 0) for box in boxes]
    before = console.rows(holdings, chosen)
    [(product, name)] = console.rows(NOBODY_HAS, chosen)
    for box in boxes:
        box.check()
    page.get_by_role("button", name="Manage products").click()
    expect(page.get_by_role("heading", name="Manage products")).to_be_visible()
    for box in page.locator("input[name=product]:enabled").all():
        box.uncheck()
    page.get_by_role("checkbox", name=name).check()
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#preview")).to_contain_text(name)
    page.get_by_role("button", name="Apply changes").click()
    expect(page.locator("main")).to_contain_text("changed")
    assert [products for _user, products in console.rows(holdings, chosen)] == [[product], [product]]
    page.get_by_role("link", name="Undo").click()
    expect(page.locator("main")).to_contain_text("What will happen")
    page.locator("main form button[type=submit]").last.click()
    expect(page.locator("main")).to_contain_text("changed")
    assert console.rows(holdings, chosen) == before

    # What the script makes a palette and a dialog are pages.
    page.locator("#find-anything").click()
    page.locator("#text").fill("GoTo Meeting")
    page.locator("#text").press("Enter")
    page.get_by_role("link", name="GoTo Meeting").click()
    expect(page.get_by_role("heading", name="GoTo Meeting")).to_be_visible()
    page.goto("/shortcuts/")
    page.get_by_role("button", name="Switch them off").click()
    expect(page.get_by_role("button", name="Switch them on")).to_be_visible()
    context.close()


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_main_job_in_a_language_in_the_dark(admin: Page, language: str) -> None:
    """Chosen in the menu; every state is accessible, and fits a phone."""
    admin.emulate_media(color_scheme="dark")
    choose_language(admin, language)
    try:
        with translation.override(language):
            found = main_job(admin, gettext)
    finally:
        admin.set_viewport_size({"width": 1440, "height": 900})
        choose_language(admin, "en")

    assert {state: problems for state, problems in found.items() if problems} == {}


def choose_language(page: Page, language: str) -> None:
    page.goto("/users/")
    if page.locator("html").get_attribute("lang") != language:
        page.locator("#user-menu-button").click()
        page.locator(f"#user-menu button[lang={language}]").click()
        expect(page.locator("html")).to_have_attribute("lang", language)


def main_job(page: Page, word: Callable[[str], str]) -> dict[str, list[str]]:
    """Do the main job, and return what axe and the narrow screen complain of in each state."""
    found: dict[str, list[str]] = {}

    def look(state: str) -> None:
        for theme in ["light", "dark"] if THOROUGH else ["dark"] * (state == "dialog"):
            found[f"{state}, {theme}"] = violations(page, theme)
        for width, letters in WIDTHS:
            page.set_viewport_size({"width": width, "height": 844})
            page.evaluate("size => { document.documentElement.style.fontSize = size }", letters)
            found[f"{state} at {width} pixels, letters of {letters}"] = too_wide(page, width)
        page.evaluate("document.documentElement.style.fontSize = ''")
        page.set_viewport_size({"width": 1440, "height": 900})

    page.goto("/users/?role=MEMBER&sort=-email")
    expect(page.get_by_role("heading", name=word("Manage users"), exact=True)).to_be_visible()
    page.locator("[data-tick]").nth(0).check()
    page.locator("[data-tick]").nth(2).click(modifiers=["Shift"])
    expect(page.locator("[data-tick]:checked")).to_have_count(3)
    look("list")
    page.get_by_role("button", name=word("Manage products")).click()
    dialog = page.locator("dialog[open]")
    expect(dialog.get_by_role("heading", name=word("Manage products"))).to_be_focused()
    dialog.get_by_text(word("Add"), exact=True).click()
    expect(dialog.locator("[name=shown][value=ADD]")).to_have_count(1)
    # As if the mode had been changed without the script.
    dialog.locator("[name=shown]").evaluate("shown => { shown.value = 'REPLACE' }")
    dialog.get_by_role("button", name=word("Apply changes")).click()
    expect(dialog.get_by_role("alert")).to_be_focused()
    look("an error")
    dialog.locator("input[name=product]:enabled").first.check()
    dialog.get_by_role("checkbox", name=word("Do not notify users about this change")).check()
    expect(dialog.locator("#preview-said")).not_to_be_empty()
    look("dialog")
    dialog.get_by_role("button", name=word("Apply changes")).click()
    expect(dialog.get_by_role("link", name=word("Done"))).to_be_visible()
    look("result")
    page.keyboard.press("Escape")
    page.goto("/users/?search=nobody+is+called+this")
    look("nobody found")
    if THOROUGH:
        for path in ("/users/", "/users/2/", "/changes/", "/changes/1/", "/notifications/", "/groups/", "/products/"):
            page.goto(path)
            look(path)
    return found


@pytest.fixture
def from_here(browser: Browser, organisation: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a browser's page that this process answers, in the pseudo-language, signed in as the organisation's first."""
    client = Client()
    client.force_login(organisation["ada"])
    here = contextvars.copy_context()  # in which Django finds the connection of this test

    def answer(route: Route) -> None:
        address = route.request.url.removeprefix("http://here")
        if address.startswith("/static/"):
            route.fulfill(path=str(find(address.removeprefix("/static/").partition("?")[0])))
            return
        sent = {name: value for name, value in route.request.headers.items() if name.startswith("hx-")}
        response = here.run(client.get, address, headers=sent)
        route.fulfill(status=response.status_code, body=response.content, headers={"Content-Type": response["Content-Type"]})

    context = browser.new_context(base_url="http://here")
    context.route("http://here/**", answer)
    yield context.new_page()
    context.close()


@pytest.mark.django_db
def test_texts_that_are_a_third_longer_fit(from_here: Page, organisation: dict[str, Any]) -> None:
    """On laptops, tablets and phones; at 640 px, as on a laptop that shows everything twice as large; and at WCAG's 320 px."""
    found = {}
    for path in (
        "/users/",
        "/users/{person}/",
        "/users/{person}/products/",
        "/users/products/?user={person}",
        "/groups/",
        "/groups/{group}/delete/",
        "/changes/",
        "/changes/{change}/",
        "/products/",
        "/me/",
        "/shortcuts/",
    ):
        from_here.goto(path.format(**organisation))
        expect(from_here.locator(f"html[lang={pseudo.CODE}] .header")).to_be_visible()
        for width in (1280, 1024, 800, 640, 390, 320):
            from_here.set_viewport_size({"width": width, "height": 800})
            found[f"{path} at {width}"] = too_wide(from_here, width)

    assert {where: problems for where, problems in found.items() if problems} == {}
