"""Run a program of PostgreSQL (psql, pg_dump, pg_restore, …) on the embedded server, as its superuser."""

import os
from argparse import REMAINDER, ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from admin_console.embedded import SUPERUSER, postgres_binaries


class Command(BaseCommand):
    help = "Run a program of PostgreSQL on the embedded server: manage.py pg psql; manage.py pg pg_dump -Fc >console.dump"
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("program")
        parser.add_argument("arguments", nargs=REMAINDER)

    def handle(self, *args: Any, program: str, arguments: list[str], **options: Any) -> None:
        path = postgres_binaries() / program
        if not path.is_file():
            raise CommandError(f"{program} is none of PostgreSQL's programs.")
        environment = {**os.environ, "PGHOST": str(settings.SOCKETS), "PGUSER": SUPERUSER, "PGDATABASE": "console"}
        os.execve(path, [str(path), *arguments], environment)  # noqa: S606
