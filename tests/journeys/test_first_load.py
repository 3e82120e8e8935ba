"""The first load of Manage users: how much comes, what moves while it comes, and how long a phone on slow 4G waits for it."""

from typing import Any

import pytest
from playwright.sync_api import CDPSession, Page, expect

from tests.journeys.conftest import THOROUGH

MOST_BYTES = 150_000
# Lighthouse's slow 4G: 150 ms there and back, 1.6 Mbit/s down, 750 kbit/s up.
SLOW_4G = {"offline": False, "latency": 150, "downloadThroughput": 1_600_000 / 8, "uploadThroughput": 750_000 / 8}

WATCH = """
window.watched = { shifts: [], painted: 0 };
const each = (type, see) => new PerformanceObserver((list) => list.getEntries().forEach(see)).observe({ type, buffered: true });
each("layout-shift", (entry) => {
    const moved = (each) => `${each.node?.id || each.node?.className || each.node?.textContent}`;
    watched.shifts.push(`${entry.value.toFixed(5)}: ${entry.sources.map(moved).join(", ")}`);
});
each("largest-contentful-paint", (entry) => { watched.painted = entry.startTime; });
"""


@pytest.fixture
def wire(admin: Page) -> CDPSession:
    """Return what the browser says of the network, with nothing kept from the pages before."""
    wire = admin.context.new_cdp_session(admin)
    wire.send("Network.enable")
    wire.send("Network.setCacheDisabled", {"cacheDisabled": True})
    admin.add_init_script(WATCH)
    return wire


def load(page: Page) -> dict[str, Any]:
    """Open Manage users and return what was seen until nothing more was asked for and all counts stood there."""
    page.goto("/users/", wait_until="networkidle")
    expect(page.get_by_text("Counting…")).to_have_count(0)
    return dict(page.evaluate("watched"))


@pytest.mark.parametrize("width", [1440, 390])
def test_it_is_small_and_nothing_moves(admin: Page, wire: CDPSession, width: int) -> None:
    sizes: list[float] = []
    wire.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    admin.set_viewport_size({"width": width, "height": 844})

    seen = load(admin)

    assert 10_000 < sum(sizes) < MOST_BYTES
    assert seen["shifts"] == []


@pytest.mark.skipif(not THOROUGH, reason="a time, so only `make browser` takes it")
def test_it_is_there_within_a_second_on_slow_4g(admin: Page, wire: CDPSession, capsys: pytest.CaptureFixture[str]) -> None:
    wire.send("Network.emulateNetworkConditions", SLOW_4G)

    painted = min(load(admin)["painted"] for _ in range(3))

    with capsys.disabled():
        print(f"\nManage users on slow 4G: the largest part is painted after {painted:.0f} ms")
    assert 0 < painted < 1_000
