"""The main job, from the click to the inbox and the history, in a real browser on a real console."""

import re
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.journeys.conftest import SUPPORT, THEMES, Console, sign_in


def tick(page: Page, name: str) -> None:
    """Search for a user and tick them."""
    page.get_by_label("Search").fill(name)
    box = page.get_by_role("checkbox", name=f"Select {name}", exact=True)
    expect(page.locator("[data-tick]")).to_have_count(1)
    box.check()


def two_members(console: Console) -> list[tuple[int, str, str]]:
    """Return (id, name, email) of two members whom no other journey touches."""
    return console.rows(
        "SELECT u.id, first_name || ' ' || last_name, email FROM users_user u JOIN products_productaccess a ON a.user_id = u.id "
        "WHERE role = 'MEMBER' AND language = 'en' AND products <> '{}' "
        "AND NOT ever && (SELECT array_agg(id) FROM products_product WHERE onboarding) ORDER BY u.id LIMIT 2"
    )


def test_from_the_click_to_the_inbox_and_the_history(admin: Page, console: Console):
    people = two_members(console)

    # Two users, found by two searches; the first tick is still there and counted.
    for place, (_id, name, _email) in enumerate(people, 1):
        tick(admin, name)
        expect(admin.locator("#selection")).to_contain_text(f"{place} selected")
    admin.get_by_role("button", name="Manage products").click()
    dialog = admin.get_by_role("dialog")
    expect(dialog.get_by_role("heading", name="Manage products")).to_be_focused()
    expect(dialog).to_contain_text("for 2 users")
    expect(dialog).to_contain_text("If all boxes are unticked, products are removed and the user shows as Suspended.")

    # The preview follows the boxes.
    for box in dialog.get_by_role("checkbox").all():
        if box.get_attribute("name") == "product" and box.is_enabled() and box.is_checked():
            box.uncheck()
    expect(dialog.locator("#preview")).to_contain_text("2 users become Suspended")
    dialog.get_by_role("checkbox", name="GoTo Meeting").check()
    expect(dialog.locator("#preview")).not_to_contain_text("Suspended")
    expect(dialog.locator("#preview")).to_contain_text("Onboarding: GoTo Meeting")
    dialog.get_by_label("Reason").fill("They join the sales team")
    dialog.get_by_role("button", name="Apply changes").click()
    expect(dialog).to_contain_text(re.compile(r"users? changed|Nothing changed"))
    dialog.get_by_role("link", name="Done").click()
    expect(dialog).to_be_hidden()

    # The list shows the new state without a reload, and nobody is ticked any more.
    expect(admin.locator("#selection")).to_contain_text("Nobody selected")
    expect(admin.locator("tbody tr")).to_contain_text("GoTo Meeting")

    # Both got an email about the change and one on how to start.
    for _id, _name, email in people:
        admin.goto(f"/inbox/?to={email}")
        reload_until(admin, lambda: admin.locator("main a[href^='/inbox/']").filter(has_text=re.compile("@|GoTo")).count() >= 2)
        expect(admin.locator("main")).to_contain_text("GoTo Meeting")

    # Their page tells what happened, by whom, why, and what became of the emails.
    admin.goto(f"/users/{people[0][0]}/")
    timeline = admin.locator("main")
    expect(timeline).to_contain_text("They join the sales team")
    reload_until(admin, lambda: "Sent" in timeline.inner_text())


def reload_until(page: Page, holds) -> None:
    for _ in range(40):
        if holds():
            return
        page.wait_for_timeout(500)
        page.reload()
    raise AssertionError(page.locator("main").inner_text())


def test_everyone_that_the_filter_finds_is_changed_by_a_worker(admin: Page, console: Console):
    admin.get_by_label("Filter category").select_option(label="Language")
    admin.get_by_label("Filter by").select_option(label="Nederlands")
    expect(admin.locator(".chips")).to_contain_text("Nederlands")
    expect(admin.locator("#found")).to_contain_text("user")  # the number follows the rows
    shown = int(admin.locator("#found").inner_text().split()[0])
    admin.get_by_role("button", name=f"Select all {shown}").click()
    expect(admin.locator("#selection")).to_contain_text(f"{shown} selected")

    # One is unticked again.
    admin.locator("[data-tick]").first.uncheck()
    expect(admin.locator("#selection")).to_contain_text(f"{shown - 1} selected")

    admin.get_by_role("button", name="Manage products").click()
    dialog = admin.get_by_role("dialog")
    dialog.get_by_text("Add", exact=True).click()
    dialog.get_by_role("checkbox", name="Grasshopper").check()
    dialog.get_by_role("checkbox", name="Do not notify users about this change").check()
    expect(dialog.locator("#preview")).to_contain_text("Granted")
    dialog.get_by_role("button", name="Apply changes").click()
    expect(dialog).to_contain_text(re.compile(r"users? changed"), timeout=30_000)

    (targets, changed, unchanged, notify) = console.rows(
        "SELECT targets, changed, unchanged, notify FROM products_bulkchange ORDER BY id DESC LIMIT 1"
    )[0]
    assert (targets, changed + unchanged, notify) == (shown - 1, shown - 1, False)
    held = console.rows(
        "SELECT count(*) FROM products_productaccess a JOIN users_user u ON u.id = a.user_id WHERE language = 'nl' "
        "AND products @> (SELECT array_agg(id) FROM products_product WHERE code = 'grasshopper')"
    )
    assert held[0][0] >= shown - 1


def test_one_users_products_are_edited_on_their_page(admin: Page, console: Console):
    (user_id,) = console.rows("SELECT id FROM users_user WHERE language = 'de' AND role = 'MEMBER' ORDER BY id LIMIT 1")[0]
    admin.goto(f"/users/{user_id}/")
    admin.get_by_role("link", name="Edit Products").click()
    expect(admin.get_by_role("button", name="Save")).to_be_visible()
    for box in admin.locator("input[name=product]:enabled").all():
        box.uncheck()
    expect(admin.locator("#preview")).to_contain_text("1 user becomes Suspended")
    admin.get_by_label("Reason").fill("Left the company")
    admin.get_by_role("button", name="Save").click()
    expect(admin.get_by_role("heading", name="No product")).to_be_visible()
    expect(admin.locator("#who")).to_contain_text("Suspended")
    expect(admin.locator("main")).to_contain_text("Left the company")


def test_support_reads_the_history_and_can_edit_nothing(page: Page, console: Console):
    sign_in(page, SUPPORT)
    page.goto("/admin/")
    page.get_by_role("link", name="Entitlement history").first.click()
    expect(page.get_by_role("heading", name=re.compile("history", re.IGNORECASE)).first).to_be_visible()
    expect(page.locator("#result_list tbody tr").first).to_be_visible()
    page.locator("#result_list tbody th a").first.click()
    expect(page.locator("input[type=submit], button[name=_save]")).to_have_count(0)
    assert page.goto("/users/") is not None
    expect(page.locator("#select-all")).to_have_count(0)


def test_a_session_that_ended_leads_back_to_sign_in_from_inside_the_page(admin: Page):
    admin.goto("/users/")
    admin.context.clear_cookies()
    admin.get_by_label("Search").fill("a")
    admin.wait_for_url(re.compile("/accounts/login/"))


@pytest.mark.parametrize("theme", THEMES)
def test_every_page_is_accessible(admin: Page, console: Console, theme: str):
    admin.emulate_media(color_scheme=theme)
    (user_id,) = console.rows("SELECT user_id FROM products_accesschange WHERE change_id IS NOT NULL ORDER BY id LIMIT 1")[0]
    (change_id,) = console.rows("SELECT max(id) FROM products_bulkchange")[0]
    pages = {
        "list": "/users/",
        "nobody found": "/users/?search=nobody+is+called+this",
        "a filter that cannot be": "/users/?status=NOBODY",
        "user": f"/users/{user_id}/",
        "edit": f"/users/{user_id}/products/",
        "changes": "/changes/",
        "change": f"/changes/{change_id}/",
        "inbox": "/inbox/",
        "not found": "/nowhere/",
    }
    found = {}
    for name, path in pages.items():
        admin.goto(path)
        found[name] = violations(Axe().run(admin).response)
    admin.goto("/users/")
    admin.locator("[data-tick]").nth(0).check()
    admin.locator("[data-tick]").nth(1).check()
    admin.get_by_role("button", name="Manage products").click()
    expect(admin.get_by_role("dialog")).to_be_visible()
    found["dialog"] = violations(Axe().run(admin).response)
    admin.keyboard.press("Escape")
    admin.get_by_role("button", name="Clear selection").click()
    admin.context.clear_cookies()
    for path in ("/accounts/login/", "/accounts/password/reset/"):
        admin.goto(path)
        found[path] = violations(Axe().run(admin).response)

    assert {name: problems for name, problems in found.items() if problems} == {}


def violations_in(page: Page, theme: str) -> list[str]:
    """Return what axe complains of in the light or in the dark."""
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    page.evaluate("document.getAnimations().forEach((each) => each.finish())")  # no colour is on its way to another
    return violations(Axe().run(page).response)


def violations(response: dict[str, Any]) -> list[str]:
    return [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in response["violations"]]


def test_the_pages_fit_a_phone(admin: Page, console: Console):
    admin.set_viewport_size({"width": 390, "height": 844})
    (user_id,) = console.rows("SELECT user_id FROM products_accesschange ORDER BY id LIMIT 1")[0]
    for path in ("/users/", f"/users/{user_id}/", f"/users/{user_id}/products/", "/changes/", "/inbox/", "/accounts/logout/"):
        admin.goto(path)
        assert admin.evaluate("document.documentElement.scrollWidth") <= 390, path
