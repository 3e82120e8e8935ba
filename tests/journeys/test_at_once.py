"""Whatever one does is answered within a tenth of a second with something, however late the server answers."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

LATE = {"offline": False, "latency": 1_500, "downloadThroughput": -1, "uploadThroughput": -1}

# Does something as a click or a key does, and tells after how many milliseconds a frame showed it: a box, a dialog, or that the
# page waits. No pointer is over anything, nothing is pressed, and what a field itself shows is not looked at: none of it counts.
ANSWERED_AFTER = """async ([selector, act]) => {
    const shown = () => {
        const dialog = [...document.querySelectorAll("dialog[open]")].at(-1);
        const line = getComputedStyle(dialog ?? document.body, "::before");
        const ticked = document.querySelectorAll("input:checked").length;
        return [dialog?.className, line.content !== "none" && line.opacity > 0.5, ticked].join();
    };
    const element = document.querySelector(selector);
    const before = shown();
    const begin = performance.now();
    if (act === "click") element.click();
    else {
        element.value = act;
        for (const type of ["input", "change", "search"]) element.dispatchEvent(new Event(type, { bubbles: true }));
    }
    while (performance.now() - begin < 1000) {
        await new Promise(requestAnimationFrame);
        if (shown() !== before) return performance.now() - begin;
    }
    return Infinity;
}"""


@pytest.mark.thorough
def test_every_step_of_the_main_job_shows_something_within_100_ms(admin: Page) -> None:
    rounds = [main_job(admin)]
    while max(best(rounds).values()) > 100 and len(rounds) < 3:  # whatever else this machine does takes its time
        rounds.append(main_job(admin))

    assert {step: after for step, after in best(rounds).items() if after > 100} == {}
    assert len(rounds[0]) == 13


def best(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {step: min(each[step] for each in rounds) for step in rounds[0]}


def main_job(page: Page) -> dict[str, float]:
    """Do the main job against a server that answers late; return after how many milliseconds each step showed something."""
    wire = page.context.new_cdp_session(page)
    wire.send("Network.enable")
    took: dict[str, float] = {}

    def do(step: str, selector: str, act: str = "click", *, until: Callable[[], None]) -> None:
        wire.send("Network.emulateNetworkConditions", LATE)
        took[step] = page.evaluate(ANSWERED_AFTER, [selector, act])
        wire.send("Network.emulateNetworkConditions", {**LATE, "latency": 0})
        until()
        expect(page.locator("html.waiting")).to_have_count(0)

    page.goto("/users/?role=MEMBER")
    expect(page.get_by_text("Counting…")).to_have_count(0)
    dialog, count, values = page.locator("dialog[open]"), page.locator("#selection-count"), page.locator("#filter-by")
    do("tick", "[data-tick]", until=lambda: expect(count).to_contain_text("1 selected"))
    do("open the dialog", "#manage-products", until=lambda: expect(dialog).to_be_visible())
    dialog.get_by_text("Add", exact=True).click()
    expect(dialog.locator("[name=shown][value=ADD]")).to_have_count(1)
    said = dialog.locator("#preview-said")
    do("tick a product", "#choice [type=checkbox]:enabled", until=lambda: expect(said).to_contain_text("changed"))
    dialog.get_by_role("checkbox", name="Do not notify users about this change").check()
    do("Apply changes", "#apply", until=lambda: expect(dialog.get_by_role("link", name="Done")).to_be_visible())
    page.keyboard.press("Escape")
    expect(count).to_contain_text("Nobody selected")
    do("Select all", "#select-all", until=lambda: expect(count).to_contain_text("everyone"))
    do("Clear selection", "#clear-selection", until=lambda: expect(count).to_contain_text("Nobody selected"))
    do("next page", "#page-next", until=lambda: expect(page.locator("#page-previous[href]")).to_be_visible())
    do("sort", "#sort-email", until=lambda: expect(page.locator("th[data-column=email][aria-sort]")).to_be_visible())
    do("filter category", "#filter-category", "language", until=lambda: expect(values).to_contain_text("Deutsch"))
    do("filter", "#filter-by", "de", until=lambda: expect(page.locator(".chips")).to_contain_text("Deutsch"))
    do("search", "#search", "an", until=lambda: expect(page.locator(".chips")).to_contain_text("an"))
    do("palette", "#find-anything", until=lambda: expect(page.locator("#palette [role=option]").first).to_be_visible())
    page.keyboard.press("Escape")
    do("open a user", ".people-name a", until=lambda: expect(page.locator("#who")).to_be_visible())
    return took
