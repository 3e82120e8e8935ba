"""Bring the catalogues of translations in step with the source, and compile them; needs no gettext installed."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from admin_console.languages import UNTRANSLATED


class Command(BaseCommand):
    """`manage.py messages [language …]`: all languages, unless told which."""

    help = "Update locale/*/LC_MESSAGES/django.po from the source, keeping every translation, and compile them."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("languages", nargs="*", metavar="language")

    def handle(self, *args: Any, languages: list[str], **options: Any) -> None:
        from admin_console import catalogues  # needs a package that the running console does not

        known = [code for code, _name in settings.LANGUAGES if code != "en"]
        if unknown := set(languages) - set(known):
            raise CommandError(f"There is no language {', '.join(sorted(unknown))}; expected some of {', '.join(known)}.")
        try:
            wanted = catalogues.messages()
        except catalogues.NotExtractable as error:
            raise CommandError(str(error)) from error
        for language in languages or known:
            path = Path(settings.LOCALE_PATHS[0]) / language / "LC_MESSAGES" / "django.po"
            catalogue = catalogues.update(path, language, wanted)
            waiting = catalogue.metadata[UNTRANSLATED]
            self.stdout.write(f"{language}: {waiting} of {len(wanted)} messages wait for a translation.")
