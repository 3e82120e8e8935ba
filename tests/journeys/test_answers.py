"""Support answers what a person had, when, who gave it, why, and whether the email came; and gives it away as evidence."""

import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.journeys.conftest import ADMIN, Console

UNTOUCHED = """
SELECT u.id, u.first_name || ' ' || u.last_name FROM users_user u JOIN products_productaccess a ON a.user_id = u.id
WHERE u.role = 'MEMBER' AND u.last_name <> '' AND a.products = '{}' ORDER BY u.id LIMIT 1
"""


@pytest.fixture(scope="module")
def somebody(browser: Browser, console: Console, cookies_of: Callable[[str], Any]) -> tuple[int, str, int, datetime]:
    """Let an admin give somebody a product on their page; return their number, their name, which change it was, and when."""
    ((user_id, name),) = console.rows(UNTOUCHED)
    context = browser.new_context(base_url=console.url)
    context.add_cookies(cookies_of(ADMIN))
    page = context.new_page()
    page.goto(f"/users/{user_id}/products/")
    page.get_by_role("checkbox", name="GoTo Meeting").check()
    page.get_by_label("Reason").fill("She starts on Monday")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("link", name="Edit Products")).to_be_visible()
    context.close()
    newest = "SELECT change_id, at FROM products_accesschange WHERE user_id = %s ORDER BY id DESC LIMIT 1"
    ((change_id, at),) = console.rows(newest, user_id)
    return user_id, name, change_id, at


def test_support_answers_what_a_person_had_when_and_why(support: Page, somebody: tuple[int, str, int, datetime]):
    user_id, name, change_id, at = somebody

    support.goto("/admin/")
    support.get_by_label("Find a person").fill(name[1 : len(name) - 1])
    support.get_by_role("button", name="Search").click()
    support.get_by_role("link", name=name, exact=True).first.click()
    expect(support.get_by_role("heading", name="Timeline")).to_be_visible()
    support.get_by_role("link", name=f"#{change_id}", exact=True).first.click()
    support.get_by_role("link", name="Change emails and their fate").click()
    expect(support.get_by_role("cell", name=re.compile(re.escape(name))).first).to_be_visible()

    support.goto(f"/admin/users/user/{user_id}/change/")
    support.get_by_label("As of").fill(at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S"))
    support.get_by_label("Time zone").fill("UTC")
    support.get_by_role("button", name="Show").click()
    expect(support.locator("dt", has_text=at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"))).to_be_visible()
    support.get_by_role("link", name="Compare two moments").click()
    support.get_by_label("As of").fill("2020-01-01T00:00")
    support.get_by_label("Until").fill(datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"))
    support.get_by_role("button", name="Show").click()
    expect(support.get_by_role("heading", name="Held at 2020-01-01 00:00:00 UTC")).to_be_visible()
    expect(support.get_by_text("Nothing: this user was Suspended or not there yet.")).to_be_visible()
    expect(support.get_by_role("link", name=f"Change #{change_id}").first).to_be_visible()


def test_support_sees_who_held_a_product(support: Page, console: Console):
    held = "SELECT p.id, p.name, s.used FROM products_product p JOIN products_seat s ON s.product_id = p.id"
    ((product_id, name, used),) = console.rows(f"{held} ORDER BY s.used DESC LIMIT 1")

    support.goto(f"/products/{product_id}/")
    support.get_by_role("link", name="As of a date").click()
    expect(support.get_by_role("heading", name=f"Who held {name}")).to_be_visible()
    expect(support.locator("#as-of-count")).to_have_text(f"{used:,}" if used < 10_000 else str(used))
    support.get_by_role("link", name="Next page").click()
    expect(support.get_by_role("link", name="First page")).to_be_visible()


def test_support_makes_a_pack_that_an_auditor_verifies_offline(
    support: Page, somebody: tuple[int, str, int, datetime], tmp_path: Path, console: Console
):
    user_id, name, _change_id, _at = somebody

    support.goto(f"/admin/products/accesschange/?person={user_id}")
    support.get_by_role("link", name="Evidence pack of these rows").click()
    expect(support.get_by_text(f"user: {user_id}").first).to_be_visible()
    key = support.locator("pre code").inner_text().rpartition(" ")[2]
    support.get_by_role("button", name="Make the pack").click()
    link = support.get_by_role("link", name=re.compile(r"Pack #\d+")).first
    expect(link).to_be_visible(timeout=30_000)
    with support.expect_download() as download:
        link.click()
    pack = tmp_path / download.value.suggested_filename
    download.value.save_as(pack)

    with zipfile.ZipFile(pack) as archive:
        archive.extract("verify.py", tmp_path)
        assert name in archive.read("history-00001.csv").decode("utf-8-sig")
    asked = [sys.executable, "-I", str(tmp_path / "verify.py"), str(pack), "--key", key]
    done = subprocess.run(asked, capture_output=True, text=True, cwd=tmp_path, env={})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "VERIFIED" in done.stdout
    rows = console.rows("SELECT count(*) FROM products_accesschange WHERE user_id = %s", user_id)[0][0]
    assert f"Rows: {rows}," in done.stdout
