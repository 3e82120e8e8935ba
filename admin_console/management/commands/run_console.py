"""Run the whole console: servers, worker, web server; Ctrl-C stops it."""

import sys
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand

from admin_console.launcher import Launcher


class Command(BaseCommand):
    help = __doc__
    requires_system_checks = []  # They ask the database, which does not run yet.

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            launcher = Launcher(sys.stdout)
        except ImproperlyConfigured as error:
            sys.exit(str(error))
        sys.exit(launcher.run())
