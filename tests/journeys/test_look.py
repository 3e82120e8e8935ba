"""How the list of users looks follows the reader's choice at once, and is the same the next time."""

import re

import pytest
from playwright.sync_api import Page, expect


def height_of_a_row(page: Page) -> float:
    return float(page.evaluate("document.querySelectorAll('.people-table tbody tr')[2].getBoundingClientRect().height"))


def test_columns_and_density_change_at_once_and_are_remembered(admin: Page) -> None:
    admin.goto("/users/")
    roomy = height_of_a_row(admin)
    admin.get_by_role("button", name="Columns").click()
    with admin.expect_response("**/users/look/") as answered:
        admin.get_by_role("checkbox", name="Email").uncheck()
    assert answered.value.status == 204
    expect(admin.locator(".people-email").first).to_be_hidden()
    with admin.expect_response("**/users/look/"):
        admin.get_by_text("Compact").click()
    assert height_of_a_row(admin) < roomy - 8

    admin.reload()
    expect(admin.get_by_role("columnheader", name="Email")).to_be_hidden()
    expect(admin.get_by_role("columnheader", name="Status")).to_be_visible()
    assert height_of_a_row(admin) < roomy - 8


@pytest.mark.thorough
def test_the_head_of_the_list_and_the_bar_of_the_selection_stay_in_sight(admin: Page) -> None:
    admin.goto("/users/")
    admin.locator("[data-tick]").first.check()
    admin.mouse.wheel(0, 900)
    expect(admin.locator("[data-tick]").first).not_to_be_in_viewport()

    header = admin.locator(".header").bounding_box()
    head = admin.get_by_role("columnheader", name="Name").bounding_box()
    assert header
    assert head
    assert abs(head["y"] - header["height"]) <= 1
    expect(admin.get_by_role("button", name="Manage products")).to_be_in_viewport()
    admin.get_by_role("button", name="Clear selection").click()
    expect(admin.locator("#selected")).to_have_text("Nobody selected")


@pytest.mark.thorough
def test_the_whole_path_of_a_group_shows_while_the_keyboard_is_in_its_row(admin: Page) -> None:
    admin.goto("/users/")
    row = admin.locator("tbody tr", has=admin.locator(".whole", has_text=" / ")).first
    path = row.locator(".whole")
    assert re.search(" / ", path.text_content() or "")
    assert (path.bounding_box() or {"width": 0})["width"] <= 1
    row.get_by_role("checkbox").focus()
    admin.keyboard.press("Tab")
    expect(row.locator(".people-name a")).to_be_focused()
    assert (path.bounding_box() or {"width": 0})["width"] > 60
