"""manage.py demo: fill an empty console with an invented organisation."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from admin_console.demo import NotEmpty, make_demo


class Command(BaseCommand):
    help = "Fill an empty console with an invented organisation to look around in; nobody in it is owed an email."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--users", type=int, default=2_000, help="how many people (2,000)")

    def handle(self, *, users: int, verbosity: int, **options: Any) -> None:
        if users < 0:
            raise CommandError("--users is a number from 0.")
        try:
            make_demo(users=users, now=timezone.now())
        except NotEmpty as error:
            raise CommandError(str(error)) from error
        if verbosity:
            self.stdout.write(f"The demo organisation has {users} people.")
