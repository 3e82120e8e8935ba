"""Every component looks as agreed: measured on the style guide, at three widths, light and dark; docs/design.md tells how."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.journeys.conftest import THEMES
from tests.journeys.looking import violations

AGREED = Path(__file__).with_name("styleguide.json")
WIDTHS = (390, 768, 1440)

# What does not depend on the fonts of a machine: of each kind of element of a sample, the colours and measures it is drawn with.
LOOKS = """() => {
  const wanted = {
    text: "color", paper: "backgroundColor", line: "borderTopColor", border: "borderTopWidth", radius: "borderTopLeftRadius",
    size: "fontSize", weight: "fontWeight", padding: "padding", gap: "gap", shadow: "boxShadow", shown: "display",
  };
  for (const animation of document.getAnimations()) animation.finish();
  const plain = new Set(["none", "normal", "0px", "0px 0px 0px 0px", "rgba(0, 0, 0, 0)"]);
  const found = {};
  for (const sample of document.querySelectorAll("[data-sample]")) {
    for (const element of [sample, ...sample.querySelectorAll("*")]) {
      if (element.closest("svg") && element.localName !== "svg") continue;
      const kind = [sample.dataset.sample, element.localName, ...element.classList].join(" ");
      const style = getComputedStyle(element);
      found[kind] ??= Object.entries(wanted).filter(([, name]) => !plain.has(style[name]))
        .map(([word, name]) => `${word} ${style[name].replace(/\\d*\\.\\d+/g, (n) => Number(n).toFixed(2))}`).join("; ");
    }
  }
  return found;
}"""
# What does, a little: how wide and high each sample is.
BOXES = """() => Object.fromEntries([...document.querySelectorAll("[data-sample]")].map((sample) => {
  const box = sample.getBoundingClientRect();
  return [sample.dataset.sample, `${Math.round(box.width)} x ${Math.round(box.height)}`];
}))"""
LINE = 24  # one line more or less is the font's doing


def measured(page: Page) -> dict[str, Any]:
    """Return how the style guide looks: each theme's kinds of elements, each width's boxes."""
    found: dict[str, Any] = {}
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        found[theme] = page.evaluate(LOOKS)
    # Only what dark mode changes: the rest would be said twice.
    found["dark"] = {kind: look for kind, look in found["dark"].items() if look != found["light"][kind]}
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        found[str(width)] = page.evaluate(BOXES)
    page.set_viewport_size({"width": WIDTHS[-1], "height": 900})
    return found


def differences(agreed: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Return in words what looks otherwise than agreed, beyond what another machine's fonts account for."""
    said = []
    for part in agreed.keys() | found.keys():
        was, now = agreed.get(part, {}), found.get(part, {})
        for name in sorted(was.keys() | now.keys()):
            before, after = was.get(name), now.get(name)
            near = part.isdigit() and before and after and _near(before, after)
            if before != after and not near:
                said.append(f"{part}: {name}: {before} -> {after}")
    return sorted(said)


def _near(before: str, after: str) -> bool:
    (width, height), (new_width, new_height) = (map(int, size.split(" x ")) for size in (before, after))
    lines = max(LINE, height * 0.12) if height > 2 * LINE else 3
    return abs(width - new_width) <= max(4, width * 0.12) and abs(height - new_height) <= lines


@pytest.fixture
def guide(page: Page) -> Page:
    page.goto("/styleguide/")
    return page


def test_every_component_looks_as_agreed(guide: Page) -> None:
    found = measured(guide)
    if os.environ.get("AGREE") == "1":
        AGREED.write_text(json.dumps(found, indent=0, sort_keys=True, ensure_ascii=False) + "\n")

    assert differences(json.loads(AGREED.read_text()), found) == []


@pytest.mark.parametrize(
    ("token", "value", "seen"),
    [
        ("--accent", "oklch(0.505 0.19 276)", r"light: button-primary button .*paper oklch\(0\.51 0\.19 276\)"),
        pytest.param("--space-3", "0.875rem", r"light: dialog-foot div dialog-foot: .*padding 14px", marks=pytest.mark.thorough),
        pytest.param("--radius-m", "0.5rem", r"light: field input input: .*radius 8px", marks=pytest.mark.thorough),
        pytest.param("--field", "2.375rem", r"768: button-wide: \d+ x 34 -> \d+ x 38", marks=pytest.mark.thorough),
    ],
)
def test_a_token_that_changed_is_noticed(guide: Page, token: str, value: str, seen: str) -> None:
    guide.evaluate("([token, value]) => document.documentElement.style.setProperty(token, value)", [token, value])
    noticed = differences(json.loads(AGREED.read_text()), measured(guide))

    assert any(re.search(seen, line) for line in noticed), noticed[:20]


def test_no_component_scrolls_sideways_at_320_pixels_or_with_text_twice_as_large(guide: Page) -> None:
    overflow = "document.documentElement.scrollWidth - document.body.clientWidth"
    guide.set_viewport_size({"width": 320, "height": 900})
    assert guide.evaluate(overflow) <= 0
    guide.set_viewport_size({"width": 780, "height": 900})
    guide.evaluate("document.documentElement.style.fontSize = '200%'")
    assert guide.evaluate(overflow) <= 0


@pytest.mark.parametrize("theme", THEMES)
def test_every_component_is_accessible(guide: Page, theme: str) -> None:
    guide.emulate_media(color_scheme=theme)
    guide.reload()  # while colours fade into each other, none of them is what it will be

    assert violations(guide) == []
