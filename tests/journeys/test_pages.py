"""Every page there is, looked at once: axe finds nothing to complain of, and on a phone nothing sticks out or is cut off."""

from datetime import UTC, datetime, timedelta

import pytest
from django.urls import URLPattern, get_resolver
from playwright.sync_api import Page, expect

from tests.journeys.conftest import THEMES, Console
from tests.journeys.looking import too_wide, violations

KINDS_OF_ID = {
    "person": "SELECT user_id FROM products_accesschange WHERE change_id IS NOT NULL ORDER BY id LIMIT 1",
    "group": "SELECT id FROM users_usergroup ORDER BY id LIMIT 1",
    "change": "SELECT id FROM products_bulkchange WHERE changed > 0 AND state = 'FINISHED' ORDER BY id DESC LIMIT 1",
    "product": "SELECT id FROM products_product WHERE name = 'GoTo Meeting'",
    "notification": "SELECT id FROM notifications_notification ORDER BY id LIMIT 1",
    "message": "SELECT id FROM notifications_sinkmessage ORDER BY id LIMIT 1",
}
BETWEEN = f"at=2020-01-01T00:00&until={datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%M:%S}&zone=UTC"
# By the name of its URL, the page and those of its states that are reached by an address.
PAGES = {
    "me": ["/me/"],
    "find": ["/find/?text=GoTo"],
    "shortcuts": ["/shortcuts/"],
    "manage_users": ["/users/", "/users/?search=nobody+is+called+this", "/users/?status=NOBODY"],
    "add_user": ["/users/add/"],
    "manage_products": ["/users/products/?user={person}"],
    "affected_users": ["/users/products/names/?user={person}&mode=REPLACE&number=changed"],
    "user": ["/users/{person}/"],
    "edit_user": ["/users/{person}/edit/"],
    "user_products": ["/users/{person}/products/"],
    "erase_user": ["/users/{person}/erase/"],
    "user_role": ["/users/{person}/role/"],
    "user_groups": ["/users/{person}/groups/"],
    "user_as_of": [f"/users/{{person}}/as-of/?{query}" for query in ("at=2999-01-01T00:00", BETWEEN)],
    "groups": ["/groups/"],
    "add_group": ["/groups/add/"],
    "group": ["/groups/{group}/"],
    "delete_group": ["/groups/{group}/delete/"],
    "changes": ["/changes/"],
    "change": ["/changes/{change}/"],
    "cancel_change": ["/changes/{paused}/cancel/"],
    "undo_change": ["/changes/{change}/undo/"],
    "products": ["/products/"],
    "add_product": ["/products/add/"],
    "product": ["/products/{product}/"],
    "edit_product": ["/products/{product}/edit/"],
    "product_as_of": [f"/products/{{product}}/as-of/?{query}" for query in ("", f"{BETWEEN}&what=lost")],
    "evidence": ["/evidence/"],
    "email_texts": ["/emails/"],
    "mail_identity": ["/emails/identity/"],
    "email_words": ["/emails/account/-/en/"],
    "notifications": ["/notifications/"],
    "suppressed_addresses": ["/notifications/suppressed/"],
    "notification": ["/notifications/{notification}/"],
    "test_inbox": ["/inbox/"],
    "test_inbox_message": ["/inbox/{message}/"],
    "account_logout": ["/accounts/logout/"],
}
SIGNED_OUT = {
    "account_login": ["/accounts/login/"],
    "account_reset_password": ["/accounts/password/reset/"],
    "account_reset_password_done": ["/accounts/password/reset/done/"],
    "account_reset_password_from_key": ["/accounts/password/reset/key/1-nothing/"],
    "account_reset_password_from_key_done": ["/accounts/password/reset/key/done/"],
    "accept_invitation": ["/invitation/nothing/"],
}
# Answers that are no page, a part of one, or an email; and the style guide, which test_styleguide.py looks at.
NO_PAGES = {
    *("healthz", "readyz", "home", "notices", "choose_language", "running_changes", "styleguide", "email_events"),
    *("count_users", "count_selected", "tick_users", "select_all_users", "clear_selection", "look_of_users"),
    *("preview_changes", "apply_changes", "export_affected_users", "invite_user", "retry_email", "product_seats"),
    *("export_change", "pause_change", "resume_change", "retry_change", "export_product_as_of", "make_pack", "evidence_pack"),
    *("preview_email", "restore_words", "retry_notifications", "release_address", "notification_html", "retry_notification"),
    *("test_inbox_html",),
}


def test_no_page_is_forgotten() -> None:
    names = {pattern.name for pattern in get_resolver().url_patterns if isinstance(pattern, URLPattern) and pattern.name}

    assert names == PAGES.keys() | SIGNED_OUT.keys() | NO_PAGES


@pytest.mark.parametrize("theme", THEMES)
def test_every_page_is_accessible_and_fits_a_phone(admin: Page, console: Console, paused: int, theme: str) -> None:
    ids = {"paused": paused, **{name: console.rows(question)[0][0] for name, question in KINDS_OF_ID.items()}}
    found: dict[str, list[str]] = {}

    def look(state: str) -> None:
        found[state] = violations(admin, theme)
        admin.set_viewport_size({"width": 390, "height": 844})
        found[f"{state} on a phone"] = too_wide(admin, 390)
        admin.set_viewport_size({"width": 1440, "height": 900})

    def visit(pages: dict[str, list[str]]) -> None:
        for name, addresses in pages.items():
            for address in addresses:
                asked = console.url + address.format(**ids)
                admin.goto(asked)
                assert admin.url == asked, f"{name}: another page was looked at instead"
                look(f"{name}: {address}")

    visit(PAGES)
    admin.goto("/nowhere/")
    look("not found")
    admin.goto("/users/?search=an")
    admin.locator("[data-tick]").nth(0).check()
    admin.locator("[data-tick]").nth(1).check()
    admin.get_by_role("button", name="Manage products").click()
    expect(admin.get_by_role("dialog")).to_be_visible()
    look("dialog")
    admin.keyboard.press("Escape")
    admin.get_by_role("button", name="Clear selection").click()
    expect(admin.locator("#selection")).to_contain_text("Nobody selected")
    admin.goto(f"/changes/{ids['change']}/")
    admin.locator("[id^=undo-change]").click()
    expect(admin.get_by_role("dialog")).to_be_visible()
    look("undo")
    admin.context.clear_cookies()
    visit(SIGNED_OUT)

    assert {state: problems for state, problems in found.items() if problems} == {}
