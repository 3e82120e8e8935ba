"""manage.py email_pictures: show each email as a mail program does, for the docs. A tool of developers: it needs Chromium."""

import shutil
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
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
SCALE = 0.8  # the docs are no gallery: each picture stays under 60 kB
FLAGS = ["--no-sandbox", "--disable-gpu"]


@dataclass(frozen=True)
class Picture:
    """One email to take a picture of."""

    name: str
    html: str


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
                page.screenshot(path=to / f"{picture.name}{ending}", full_page=True)
            browser.close()
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
                yield Picture("-".join(part for part in (kind.name.lower(), variant, language) if part), html)
