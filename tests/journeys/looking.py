"""What is wrong with a page that can be seen: what axe complains of, and what does not fit its width."""

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

from tests.journeys.conftest import THOROUGH

# Telling the colours of the fifty rows of a list takes ten times as long as all the rest; `make test` looks at six of them.
LOOKED_AT = {} if THOROUGH else {"exclude": [["tbody tr:nth-child(n + 7)"]]}
COMPLAINTS = """async (context) => {
    document.getAnimations().forEach((each) => each.finish()); // no colour is on its way to another
    const found = await axe.run({ include: [["html"]], ...context }, { resultTypes: ["violations"] });
    return found.violations.map(({ id, nodes }) => `${id}: ${nodes[0].html.slice(0, 200)}`);
}"""


def violations(page: Page, theme: str = "") -> list[str]:
    """Return what axe complains of in the page as it stands, or in the light or in the dark."""
    if theme:
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    return list(page.evaluate(COMPLAINTS, LOOKED_AT))


def too_wide(page: Page, width: int) -> list[str]:
    """Return what makes the page scroll sideways, or is cut off without a way to read it."""
    return list(page.evaluate(TOO_WIDE, width))


TOO_WIDE = """(width) => {
    const scrolls = (each) => each && (/auto|scroll/.test(getComputedStyle(each).overflowX) || scrolls(each.parentElement));
    const found = document.documentElement.scrollWidth > width ? [`the page: ${document.documentElement.scrollWidth}`] : [];
    for (const each of document.querySelectorAll("button, .button, h1, h2, h3, legend, dt, .badge, .choice")) {
        const box = each.getBoundingClientRect();
        if (box.width <= 1 || each.closest(".visually-hidden") || scrolls(each)) continue; // only read out, or to be scrolled to
        if (box.right > width + 1 || box.left < -1) found.push(`outside: ${each.outerHTML.slice(0, 120)}`);
        else if (each.scrollWidth > each.clientWidth + 2 && getComputedStyle(each).display !== "inline")
            found.push(`cut: ${each.outerHTML.slice(0, 120)}`);
    }
    // What ends in an ellipsis can be read whole: in its title, in what its button opens, or while pointer or keyboard is there.
    const whole = "[title], [popovertarget], .people-email > div, .people-group-name, .visually-hidden";
    for (const each of document.querySelectorAll("main *, dialog[open] *, .brand *")) {
        const { textOverflow, webkitLineClamp } = getComputedStyle(each);
        if (textOverflow !== "ellipsis" && webkitLineClamp === "none") continue;
        if (each.scrollWidth <= each.clientWidth + 1 && each.scrollHeight <= each.clientHeight + 2) continue;
        if (!each.closest(whole)) found.push(`cut without a title: ${each.outerHTML.slice(0, 120)}`);
    }
    return found;
}"""
