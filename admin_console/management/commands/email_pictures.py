"""manage.py email_pictures: show each email as a mail program does, for the docs. A tool of developers: it needs Chromium."""

import base64
import shutil
import struct
import zlib
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import translation
from django.utils.timezone import now

from notifications.customising import shown
from notifications.emails import KINDS, languages
from users.models import User

WIDE, NARROW = 480, 320  # pixels
SCALE = 0.8  # the docs are no gallery, and each picture has 256 colours at most
FLAGS = ["--no-sandbox", "--disable-gpu"]


@dataclass(frozen=True)
class Picture:
    """One email to take a picture of."""

    email: str
    language: str
    html: str

    def file(self, ending: str) -> str:
        """Return the name of its file."""
        return f"{self.email}-{self.language}{ending}"


class Command(BaseCommand):
    help = "Take a picture of each email, as somebody of the organisation would get it, in each language that there is."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--to", type=Path, default=settings.BASE_DIR / "docs" / "img" / "emails", help="the folder (docs/img/emails)"
        )
        parser.add_argument("--language", action="append", choices=sorted(languages()), help="only this one; can be repeated")
        parser.add_argument("--dark", action="store_true", help="as in dark mode")
        parser.add_argument("--phone", action="store_true", help="320 pixels wide")

    def handle(self, *, to: Path, language: list[str] | None, dark: bool, phone: bool, verbosity: int, **options: Any) -> None:
        chromium = shutil.which("chromium")
        if chromium is None:
            raise CommandError("There is no Chromium: bin/get-chromium installs it.")
        from playwright.sync_api import sync_playwright  # not there in production

        pictures = list(_pictures(language or sorted(languages())))
        to.mkdir(parents=True, exist_ok=True)
        ending = f"{'-phone' if phone else ''}{'-dark' if dark else ''}.png"
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
            size: Any = {"width": NARROW if phone else WIDE, "height": 400}
            page = browser.new_page(viewport=size, device_scale_factor=SCALE, color_scheme="dark" if dark else "light")
            for picture in pictures:
                page.set_content(picture.html)
                (to / picture.file(ending)).write_bytes(_with_palette(page, page.screenshot(full_page=True)))
            browser.close()
        if not (language or dark or phone):
            (to / "README.md").write_text(_gallery(pictures, ending))
        if verbosity:
            self.stdout.write(f"{len(pictures)} pictures are in {to}.")


def _pictures(wanted: list[str]) -> Iterator[Picture]:
    """Yield every email in every language wanted, with facts about somebody who holds products. Raises CommandError."""
    reader = User.objects.exclude(first_name="").filter(product_access__suspended=False).order_by("id").first()
    if reader is None:
        raise CommandError("There is nobody to show emails for: start the console with the demo organisation.")
    for kind in KINDS.values():
        for variant in kind.variants():
            for language in wanted:
                with translation.override(language):
                    html = shown(kind, variant, language, reader=reader, now=now()).html
                yield Picture("-".join(part for part in (kind.name.lower(), variant) if part), language, html)


def _gallery(pictures: list[Picture], ending: str) -> str:
    """Return the page that shows all of them, email by email."""
    lines = ["# Every email in every language", "", "Written by `make email-pictures`; [notifications](../../notifications.md)."]
    for email, of_email in groupby(pictures, key=lambda picture: picture.email):
        shown = [f'<img width="230" alt="{email}, {p.language}" src="{p.file(ending)}">' for p in of_email]
        lines += ["", f"## {email}", "", *shown]
    return "\n".join([*lines, ""])


def _with_palette(page: Any, png: bytes) -> bytes:
    """Return a picture with its 256 most frequent colours, the others as the one that is nearest: a third of the bytes."""
    width, height, colours, pixels = page.evaluate(REDUCE, base64.b64encode(png).decode())
    places = base64.b64decode(pixels)
    rows = b"".join(b"\0" + places[start : start + width] for start in range(0, width * height, width))
    parts = {
        b"IHDR": struct.pack(">2I5B", width, height, 8, 3, 0, 0, 0),
        b"PLTE": bytes(colours),
        b"IDAT": zlib.compress(rows, 9),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts.items()
    )


# The browser has the picture's points at hand. Returns width, height, the palette, and the place in it of each point.
REDUCE = """async png => {
  const image = await createImageBitmap(new Blob([Uint8Array.from(atob(png), c => c.charCodeAt(0))]));
  const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
  canvas.drawImage(image, 0, 0);
  const points = new Uint32Array(canvas.getImageData(0, 0, image.width, image.height).data.buffer), times = new Map();
  for (const point of points) times.set(point, (times.get(point) ?? 0) + 1);
  const parts = colour => [colour & 255, colour >> 8 & 255, colour >> 16 & 255];
  const kept = [...times].sort((one, other) => other[1] - one[1]).slice(0, 256).map(([colour]) => parts(colour));
  const nearest = ([r, g, b]) => {
    const away = kept.map(k => (k[0] - r) ** 2 + (k[1] - g) ** 2 + (k[2] - b) ** 2);
    return away.indexOf(Math.min(...away));
  };
  const place = new Map([...times.keys()].map(colour => [colour, nearest(parts(colour))]));
  let pixels = "";
  for (const point of points) pixels += String.fromCharCode(place.get(point));
  return [image.width, image.height, kept.flat(), btoa(pixels)];
}"""
