"""What a screen reader is given: the tree of roles, names and states that the browser makes of the main job's pages."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.journeys.conftest import Console
from tests.journeys.test_course import apply_to_everyone, jam

__all__ = ["jam"]

LIST = """
- heading "Manage users" [level=1]
- region "Users":
  - search:
    - searchbox "Search"
    - combobox "Filter category"
    - combobox "Filter by"
  - button /Select all \\d+/
  - list "Filters that are on":
    - listitem:
      - 'link "Role: Member Remove this filter"'
  - table "Users":
    - rowgroup:
      - row:
        - columnheader:
          - checkbox /Select the \\d+ users on this page/ [checked=mixed]
        - columnheader "Name"
        - columnheader "Email"
        - columnheader "User group"
        - columnheader "Role"
        - columnheader "Products"
        - columnheader "Status"
        - columnheader "Last seen"
  - navigation "Pages of the list"
- paragraph:
  - strong: 2 selected
- button "Clear selection"
- button "Manage products"
"""
DIALOG = """
- dialog "Manage products":
  - heading "Manage products" [level=2]
  - paragraph: for 2 users
  - link "Close"
  - group "What to do with the ticked products":
    - radio "Replace" [checked]
    - radio "Add"
    - radio "Remove"
  - group "Products":
    - list:
      - listitem:
        - checkbox "GoTo Meeting" [checked=mixed]
  - checkbox "Do not notify users about this change"
  - textbox /Reason/
  - region "What will happen":
    - heading "What will happen" [level=3]
    - heading "Removed" [level=4]
    - list
  - contentinfo:
    - link "Cancel"
    - button "Apply changes"
"""
RESULT = """
- dialog "Manage products":
  - heading "Manage products" [level=2]
  - contentinfo:
    - link "Open this change"
    - link "Done"
"""
# One who has the product and one who has not, with the same name to be found by.
TWO = """
SELECT min(u.id) FILTER (WHERE holds), min(u.id) FILTER (WHERE NOT holds) FROM (
    SELECT user_id AS id, products @> (SELECT array_agg(id) FROM products_product WHERE name = 'GoTo Meeting') AS holds
    FROM products_productaccess JOIN users_user u ON u.id = user_id WHERE role = 'MEMBER' AND language = 'it'
) u
"""


@pytest.mark.thorough
def test_the_main_job_reads_as_intended(admin: Page, console: Console, jam: Callable[[], None]) -> None:
    admin.goto("/users/?role=MEMBER&language=it")
    for person in console.rows(TWO)[0]:
        admin.locator(f"#tick-{person}").check()
    expect(admin.locator("#said")).to_have_text(re.compile("2 selected"))
    expect(admin.locator("main")).to_match_aria_snapshot(LIST)
    expect(admin.locator("th[aria-sort=ascending]")).to_have_text("Name")

    admin.locator("#manage-products").click()
    dialog = admin.locator("dialog[open]")
    expect(dialog).to_match_aria_snapshot(DIALOG)
    mixed = dialog.get_by_role("checkbox", name="GoTo Meeting")
    expect(mixed).to_have_accessible_description(re.compile("1 of 2 have it"))
    dialog.get_by_text("Add", exact=True).click()
    expect(dialog.locator("[name=shown][value=ADD]")).to_have_count(1)
    dialog.get_by_role("checkbox", name="GoTo Meeting").check()
    expect(dialog.locator("#preview-said")).to_have_text("1 changed, 1 unchanged, 0 become Suspended.")
    dialog.get_by_role("checkbox", name="Do not notify users about this change").check()
    dialog.get_by_role("button", name="Apply changes").click()
    expect(dialog).to_match_aria_snapshot(RESULT)
    expect(dialog).to_contain_text("1 user changed")
    admin.keyboard.press("Escape")

    running = apply_to_everyone(admin, "Remove", "Grasshopper")
    expect(running.get_by_role("progressbar", name="Users reached")).to_be_visible()
    expect(running.locator("[role=status][id$=said]")).to_have_count(1)
    jam()
    expect(running).to_contain_text(re.compile(r"users? changed"), timeout=30_000)
    expect(running.get_by_role("progressbar")).to_have_count(0)
