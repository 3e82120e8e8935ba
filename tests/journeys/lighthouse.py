"""Lighthouse's four scores of the main pages, on its phone with slow 4G, printed; it needs node 18 and npm."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Playwright

from tests.journeys.conftest import Console, sign_in
from tests.processes import ROOT, free_port

VERSION = "12.8.2"  # the last that runs on node 18 and 20
FOLDER = ROOT / "var" / "lighthouse"
LEAST = 95


@pytest.fixture(scope="module")
def lighthouse() -> list[str]:
    """Return how to run Lighthouse, installed for this tree only."""
    installed = FOLDER / "node_modules" / "lighthouse"
    if not installed.exists() or json.loads((installed / "package.json").read_text())["version"] != VERSION:
        FOLDER.mkdir(parents=True, exist_ok=True)
        install = ["npm", "install", "--prefix", str(FOLDER), "--no-save", "--no-audit", "--no-fund", f"lighthouse@{VERSION}"]
        subprocess.run(install, check=True, env={**os.environ, "PUPPETEER_SKIP_DOWNLOAD": "yes"})
    return ["node", str(installed / "cli" / "index.js")]


def report(lighthouse: list[str], url: str, *, port: int, slower: float) -> dict[str, Any]:
    """Return what Lighthouse finds on a page, on a processor that is so many times slower."""
    # Its tab shares the cookies of the browser that signed in.
    ours = ["--quiet", "--output=json", f"--port={port}", "--disable-storage-reset"]
    order = [*lighthouse, url, *ours, f"--throttling.cpuSlowdownMultiplier={slower:.1f}"]
    found: dict[str, Any] = json.loads(subprocess.run(order, check=True, stdout=subprocess.PIPE).stdout)
    assert found["finalDisplayedUrl"] == url
    return found


def slowdown(index: float) -> float:
    """Return how many times slower than this machine, given its benchmark index, a usual phone is; as Lighthouse advises."""
    for least, times, step in ((1_300, 3, 233), (800, 2, 500), (150, 1, 650)):
        if index >= least:
            return times + (index - least) / step
    return 1


def scores_of(found: dict[str, Any]) -> dict[str, int]:
    """Return the scores of a page out of a hundred; what costs points is printed."""
    for category in found["categories"].values():
        for part in category["auditRefs"]:
            audit = found["audits"][part["id"]]
            if part["weight"] and audit["score"] is not None and audit["score"] < 0.9:
                print(f"    {category['title']}: {audit['title']} {audit.get('displayValue', '')}")
    return {category["title"]: round(100 * category["score"]) for category in found["categories"].values()}


def test_every_page_scores_at_least_95(
    playwright: Playwright,
    browser_type_launch_args: dict[str, Any],
    console: Console,
    lighthouse: list[str],
    tmp_path: Path,
) -> None:
    [(user_id, change_id)] = console.rows(
        "SELECT user_id, change_id FROM products_accesschange WHERE change_id IS NOT NULL ORDER BY id LIMIT 1"
    )
    pages = {
        "Sign in": "/accounts/login/",
        "Manage users": "/users/",
        "Manage products": f"/users/products/?user={user_id}",
        "A change": f"/changes/{change_id}/",
        "A user": f"/users/{user_id}/",
    }
    port = free_port()
    flags = [*browser_type_launch_args["args"], f"--remote-debugging-port={port}"]
    browser = playwright.chromium.launch_persistent_context(
        tmp_path / "profile", **{**browser_type_launch_args, "args": flags}, base_url=console.url
    )

    first = report(lighthouse, console.url + pages["Sign in"], port=port, slower=4)
    index = first["environment"]["benchmarkIndex"]
    print(f"\nBenchmark index {index:.0f}: the processor is slowed down {slowdown(index):.1f} times.")
    scores = {}
    for name, path in pages.items():
        scores[name] = scores_of(report(lighthouse, console.url + path, port=port, slower=slowdown(index)))
        print(f"{name:<16}", *(f"{title} {score}" for title, score in scores[name].items()), sep="  ")
        if name == "Sign in":
            sign_in(browser.new_page())
    browser.close()

    assert {name: each for name, each in scores.items() if min(each.values()) < LEAST} == {}
