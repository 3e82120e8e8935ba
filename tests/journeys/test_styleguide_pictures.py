"""The style guide looks as in docs/img/styleguide, picture by picture; in `make browser` only. docs/design.md tells how."""

import base64
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.journeys.bars import LETTERS, SPACES, font_of_bars
from tests.processes import ROOT

pytestmark = pytest.mark.thorough
AGREED, SEEN = ROOT / "docs" / "img" / "styleguide", ROOT / "var" / "styleguide"
WIDTHS, THEMES = (390, 768, 1440), ("light", "dark")

DRAW_TEXT_AS_BARS = """async (font) => {
    const bytes = Uint8Array.from(atob(font), (letter) => letter.charCodeAt(0));
    document.fonts.add(await new FontFace("bars", bytes).load());
    for (const name of ["--font", "--font-mono"]) document.documentElement.style.setProperty(name, "bars");
    for (const time of document.querySelectorAll("time")) time.textContent = "some time ago";
    for (const toast of document.querySelectorAll("[data-toast]")) toast.replaceWith(toast.cloneNode(true)); // it would go
    document.documentElement.style.scrollbarGutter = "auto";
}"""

# A cell of 12 by 12 pixels is another when more than two of them differ by more than a tenth of what a colour can.
COMPARE = """async ([before, after]) => {
    const [CELL, MOST, LEAST] = [12, 2, 26];
    const load = async (data) => {
        const image = Object.assign(new Image(), { src: `data:image/png;base64,${data}` });
        await image.decode();
        return image;
    };
    const [was, is] = [await load(before), await load(after)];
    const [width, height] = [Math.max(was.width, is.width), Math.max(was.height, is.height)];
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const pixels = (image) => {
        context.clearRect(0, 0, width, height);
        context.drawImage(image, 0, 0);
        return context.getImageData(0, 0, width, height).data;
    };
    const [old, now] = [pixels(was), pixels(is)];
    const others = new Map();
    for (let at = 0; at < now.length; at += 4) {
        if (Math.max(...[0, 1, 2, 3].map((c) => Math.abs(old[at + c] - now[at + c]))) < LEAST) continue;
        const cell = [Math.floor(((at / 4) % width) / CELL), Math.floor(at / 4 / width / CELL)].join();
        others.set(cell, (others.get(cell) ?? 0) + 1);
    }
    const found = [...others].filter(([, count]) => count > MOST).map(([cell]) => cell.split(",").map((place) => place * CELL));
    context.fillStyle = "rgb(255 0 0 / 0.4)";
    for (const [x, y] of found) context.fillRect(x, y, CELL, CELL);
    return { found, size: [was, is].map((each) => `${each.width} x ${each.height}`), picture: canvas.toDataURL().split(",")[1] };
}"""


def taken(guide: Page, width: int, theme: Any) -> bytes:
    """Return a picture of the whole style guide, its text drawn as bars, with nothing moving."""
    guide.set_viewport_size({"width": width, "height": 900})
    guide.emulate_media(color_scheme=theme, reduced_motion="reduce")
    if not guide.evaluate("[...document.fonts].length"):
        guide.evaluate(DRAW_TEXT_AS_BARS, base64.b64encode(font_of_bars()).decode())
    guide.evaluate("document.getAnimations().forEach((animation) => animation.finish())")
    return guide.screenshot(full_page=True, scale="css")


@pytest.fixture
def guide(page: Page) -> Page:
    page.goto("/styleguide/")
    return page


@pytest.fixture
def difference(guide: Page, browser: Browser) -> Iterator[Callable[[int, str], str]]:
    """Return what says where the style guide looks otherwise than in the picture, or nothing."""
    canvas = browser.new_page()  # no page of ours, whose security policy forbids to draw what was given as text

    def difference(width: int, theme: str) -> str:
        name = f"{width}-{theme}.png"
        now = taken(guide, width, theme)
        both = [base64.b64encode(each).decode() for each in ((AGREED / name).read_bytes(), now)]
        seen = canvas.evaluate(COMPARE, both)
        if not seen["found"]:
            return ""
        SEEN.mkdir(parents=True, exist_ok=True)
        (SEEN / name).write_bytes(now)
        (SEEN / f"difference-{name}").write_bytes(base64.b64decode(seen["picture"]))
        return f"{name}: {len(seen['found'])} places, the first at {seen['found'][0]}, {' -> '.join(dict.fromkeys(seen['size']))}"

    yield difference
    canvas.close()


def test_every_letter_of_the_style_guide_is_drawn_as_a_bar(guide: Page) -> None:
    assert set(guide.locator("body").inner_text()) - {"\n", "\t", *map(chr, LETTERS + SPACES)} == set()


def test_the_style_guide_looks_as_in_its_pictures(difference: Callable[[int, str], str]) -> None:
    found = [told for width, theme in product(WIDTHS, THEMES) if (told := difference(width, theme))]

    assert found == [], f"Look into {SEEN}; when it is meant to look so, run `make screenshots`."


@pytest.mark.parametrize(
    "change",
    [
        ":root { --accent: oklch(0.505 0.19 276) }",  # by ten degrees of hue
        ".button { border-radius: 0.5rem }",  # by one pixel
        ".input { padding-inline: 0.75rem }",  # by two pixels
        '[data-sample="progress"] { display: none }',
        ".field-errors { color: var(--warn-ink) }",
        ".guide-grid { grid-template-columns: 26rem }",  # wider than a phone
    ],
)
def test_what_changed_is_seen(guide: Page, difference: Callable[[int, str], str], change: str) -> None:
    adopt = "(css) => { const sheet = new CSSStyleSheet(); sheet.replaceSync(css); document.adoptedStyleSheets.push(sheet); }"
    guide.evaluate(adopt, change)

    assert difference(390, "light")
