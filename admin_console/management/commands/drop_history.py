"""`manage.py drop_history`: drop the months of the entitlement history that need not be kept any longer."""

from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from admin_console.management.commands.verify_history import moment
from products import checkpoints, retention, sealing


class Command(BaseCommand):
    help = (
        "Drops whole months of the sealed entitlement history, as the owner of the tables (DATABASE_OWNER_URL): those that ended "
        "before a date, by default HISTORY_KEPT_MONTHS ago. Shows them only, unless --yes is given. Nothing brings them back."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--before", type=moment, metavar="DATE", help="drop the months that ended by then")
        parser.add_argument("--yes", action="store_true", help="really drop them")

    def handle(self, *args: Any, **options: Any) -> None:
        """Show or drop the months; the drop is recorded, sealed and signed."""
        before = options["before"] or self._kept_since(timezone.now())
        if settings.HISTORY_KEPT_MONTHS and before > self._kept_since(timezone.now()):
            raise CommandError(f"HISTORY_KEPT_MONTHS says to keep {settings.HISTORY_KEPT_MONTHS} months.")
        if not options["yes"]:
            for name, starts, ends in retention.months_before(before):
                self.stdout.write(f"{name}: from {starts:%Y-%m-%d} until {ends:%Y-%m-%d}. --yes drops it.")
            return
        try:
            for part in retention.drop_before(before):
                self.stdout.write(f"{part['part']}: {part['rows']:,} rows dropped.")
        except retention.NotSealed as error:
            raise CommandError(f"{error} has rows that are not sealed: run `manage.py seal_history` first.") from None
        finally:
            sealing.seal()
            if made := checkpoints.make(now=timezone.now()):
                checkpoints.publish(made)

    def _kept_since(self, now: datetime) -> datetime:
        if not settings.HISTORY_KEPT_MONTHS:
            raise CommandError("Give --before, or say by HISTORY_KEPT_MONTHS for how long the history is kept.")
        months = now.year * 12 + now.month - 1 - settings.HISTORY_KEPT_MONTHS
        return now.replace(year=months // 12, month=months % 12 + 1, day=1, hour=0, minute=0, second=0, microsecond=0)
