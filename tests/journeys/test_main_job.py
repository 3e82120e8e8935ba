"""The main job, from the click to the inbox and the history, in a real browser on a real console."""

import re

from playwright.sync_api import Page, expect

from tests.journeys.conftest import Console


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
    admin.goto("/")

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
    expect(admin.locator("tbody tr").get_by_role("img", name="GoTo Meeting")).to_be_visible()

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
    admin.goto("/users/")
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


def test_support_reads_the_history_and_can_edit_nothing(support: Page, console: Console):
    support.goto("/admin/")
    support.get_by_role("link", name="Entitlement history").first.click()
    expect(support.get_by_role("heading", name=re.compile("history", re.IGNORECASE)).first).to_be_visible()
    expect(support.locator("#result_list tbody tr").first).to_be_visible()
    support.locator("#result_list tbody th a").first.click()
    expect(support.locator("input[type=submit], button[name=_save]")).to_have_count(0)
    assert support.goto("/users/") is not None
    expect(support.locator("#select-all")).to_have_count(0)


def test_a_session_that_ended_leads_back_to_sign_in_from_inside_the_page(admin: Page):
    admin.goto("/users/")
    admin.context.clear_cookies()
    admin.get_by_label("Search").fill("a")
    admin.wait_for_url(re.compile("/accounts/login/"))
