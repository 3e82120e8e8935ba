"""Every email fits a phone and can be read, light and dark."""

import pytest
from playwright.sync_api import Page

from tests.journeys.conftest import THOROUGH

LANGUAGES = ["en", "fr", "it", "de", "es", "pt", "nl"] if THOROUGH else ["de"]  # of German words the longest
# What cannot be told from the colour behind it (WCAG: 4.5, 3 where it is large), with that contrast.
TOO_FAINT = """() => {
  const linear = part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const light = colour => {
    const [red, green, blue] = colour.match(/[\\d.]+/g).slice(0, 3).map(part => linear(part / 255));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = element => {
    const colour = getComputedStyle(element).backgroundColor;
    return colour === "rgba(0, 0, 0, 0)" && element.parentElement ? behind(element.parentElement) : colour;
  };
  const hasWords = element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  const found = [];
  for (const element of document.body.querySelectorAll("*")) {
    if (!hasWords(element) || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const [low, high] = [light(style.color), light(behind(element))].sort((one, other) => one - other);
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast < (parseFloat(style.fontSize) >= 24 ? 3 : 4.5)) found.push([element.textContent.trim(), contrast]);
  }
  return found;
}"""


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_email_fits_320_pixels_and_can_be_read_light_and_dark(admin: Page, language: str) -> None:
    admin.goto("/emails/")
    addresses = admin.locator(f"a[href^='/emails/'][href$='/{language}/']").evaluate_all("links => links.map(a => a.pathname)")
    admin.set_viewport_size({"width": 320, "height": 700})

    for address in addresses:
        admin.goto(f"{address}preview/")
        assert admin.evaluate("document.documentElement.scrollWidth") == 320, address
        papers = []
        for theme in ("light", "dark"):
            admin.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
            assert admin.evaluate(TOO_FAINT) == [], f"{address}, {theme}"
            papers.append(admin.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert papers[0] != papers[1], address

    assert len(addresses) == len(set(addresses)) >= 13
