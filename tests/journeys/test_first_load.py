"""The first load of Manage users: how much comes, what moves while it comes, and how long a phone on slow 4G waits for it."""

from typing import Any

import pytest
from playwright.sync_api import CDPSession, Page, expect

MOST_BYTES = 150_000
# Lighthouse's slow 4G: 150 ms there and back, 1.6 Mbit/s down, 750 kbit/s up.
SLOW_4G = {"offline": False, "latency": 150, "downloadThroughput": 1_600_000 / 8, "uploadThroughput": 750_000 / 8}

WATCH = """
window.watched = { shifts: [], painted: 0, arrived: 0 };
const each = (type, see) => new PerformanceObserver((list) => list.getEntries().forEach(see)).observe({ type, buffered: true });
each("layout-shift", (entry) => {
    const moved = (each) => `${each.node?.id || each.node?.className || each.node?.textContent}`;
    watched.shifts.push(`${entry.value.toFixed(5)}: ${entry.sources.map(moved).join(", ")}`);
});
each("largest-contentful-paint", (entry) => { watched.painted = entry.startTime; });
const arrives = (entry) => { watched.arrived = Math.max(watched.arrived, entry.responseEnd); };
each("navigation", arrives);
each("resource", (entry) => { if (entry.renderBlockingStatus === "blocking") arrives(entry); });
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


@pytest.mark.thorough  # It takes a time.
def test_what_is_painted_arrives_within_a_second_on_slow_4g(
    admin: Page, wire: CDPSession, capsys: pytest.CaptureFixture[str]
) -> None:
    wire.send("Network.emulateNetworkConditions", SLOW_4G)

    seen = [load(admin) for _ in range(3)]

    arrived, painted = (min(each[what] for each in seen) for what in ("arrived", "painted"))
    with capsys.disabled():  # how long painting takes depends on what else this machine does, so that is told only
        print(f"\nManage users on slow 4G: what is painted first is there after {arrived:.0f} ms, painted after {painted:.0f} ms")
    assert 150 < arrived < 1_000
