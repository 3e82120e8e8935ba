"""A group is made, a person put in it, a Manager made of it; and the Manager sees that person and nobody else."""

import re

from playwright.sync_api import Browser, Page, expect

from tests.journeys.conftest import SUPPORT, Console, sign_in

MEMBERS = """
SELECT u.id, u.email, u.first_name || ' ' || u.last_name FROM users_user u JOIN products_productaccess a ON a.user_id = u.id
WHERE u.role = 'MEMBER' AND u.last_name <> '' AND u.is_active ORDER BY u.id DESC LIMIT 2
"""
KNOWN_PASSWORD = """
UPDATE users_user SET password = (SELECT password FROM users_user WHERE email = %s) WHERE id = %s RETURNING id
"""


def test_a_manager_sees_just_the_person_in_their_group(admin: Page, browser: Browser, console: Console) -> None:
    (person, _email, name), (manager, email, _name) = console.rows(MEMBERS)
    console.rows(KNOWN_PASSWORD, SUPPORT, manager)

    admin.goto("/users/")
    admin.get_by_role("link", name="User groups").click()
    admin.get_by_role("link", name="Add group").click()
    admin.get_by_label("Name").fill("Night shift")
    admin.get_by_label("Subgroup of").select_option(index=1)
    admin.get_by_role("button", name="Add group").click()
    expect(admin.get_by_role("heading", name="Night shift")).to_be_visible()
    admin.goto("/groups/")
    admin.get_by_role("searchbox").fill("shift night")
    expect(admin.locator(".groups-table tbody tr")).to_have_count(1)

    admin.goto(f"/users/{person}/")
    admin.get_by_role("link", name="Edit User groups").click()
    ticked = admin.get_by_role("checkbox", checked=True)
    while ticked.count():
        ticked.first.uncheck()
    admin.get_by_role("searchbox").fill("NIGHT")
    admin.get_by_role("searchbox").press("Enter")
    expect(admin.locator(".choices .choice:visible")).to_have_count(1)
    admin.get_by_role("checkbox", name="Night shift").check()
    admin.get_by_role("button", name="Save").click()
    expect(admin.locator("[aria-labelledby=groups-title] li")).to_have_text([re.compile(" / Night shift$")])

    admin.goto(f"/users/{manager}/")
    admin.get_by_role("link", name="Change role").click()
    choice = admin.get_by_role("checkbox", name="Night shift")
    expect(choice).to_be_hidden()
    admin.get_by_label("Role").select_option("Manager")
    admin.get_by_role("button", name="Save").click()
    expect(admin.get_by_text("Choose at least one user group")).to_be_visible()
    choice.check()
    admin.get_by_role("button", name="Save").click()
    expect(admin.get_by_text("Managed groups")).to_be_visible()

    context = browser.new_context(base_url=console.url, locale="en-GB")
    theirs = sign_in(context.new_page(), email)
    theirs.goto("/users/")
    expect(theirs.locator(".people-name a")).to_have_text([name])
    expect(theirs.get_by_role("link", name="User groups")).to_be_hidden()
    context.close()
