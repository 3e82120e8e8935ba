"""manage.py import_users people.csv: bring your own people."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, IntegrityError, OperationalError, transaction
from django.utils import timezone
from django.utils.translation import override

from products import imports as product_imports
from products.actions import Step, advance_bulk_change
from products.models import BulkChange
from products.refusals import ChangeRefused
from products.running import words_of
from products.tasks import ring_for
from users.actions import LastSuperAdmin, NotAllowed
from users.imports import PeopleImport
from users.models import User
from users.queries import first_super_admin
from users.sheets import InvalidFile, Sheet

HELP = """Add and change users from a file, one line each, found again by their email.

Columns, in any order, their names in any capitals; only "email" is needed, and a column that is not there changes nothing:
  email, first name, last name, time zone (Europe/Rome)
  language   a code (fr) or its name (Français)
  groups     paths, separated by ";": Sales / Benelux; Marketing. Missing groups are made. Empty: in no group
  role       Member, Manager, Admin, Super admin or Support. Empty: as it is, Member for a new user
  products   names or codes, separated by ";". Afterwards the user holds exactly these. Empty: none, the user shows as Suspended

Nothing is imported unless every line is good, or --skip-bad says where the bad ones go. The same file twice changes nothing.
Ends with 0, or with 1 when a line was refused.
"""


class Command(BaseCommand):
    help = HELP

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return super().create_parser(prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, help="a CSV file; its first line names the columns")
        parser.add_argument("--dry-run", action="store_true", help="say what would happen, and change nothing")
        parser.add_argument("--skip-bad", type=Path, metavar="FILE", help="write refused lines to this file and import the rest")
        parser.add_argument("--encoding", default="", help="for example utf-8 or cp1252; found out when not given")
        parser.add_argument("--delimiter", default="", help='one character, or "tab"; found out when not given')
        parser.add_argument(
            "--actor", metavar="EMAIL", default="", help="in whose name; else the first Super admin who can sign in"
        )
        parser.add_argument("--notify", action="store_true", help="send change emails (onboarding emails are sent in any case)")
        parser.add_argument(
            "--already-held", action="store_true", help="record products as held since before the console: nobody gets an email"
        )

    @override("en")  # as all that it says; the organisation's language is for readers of pages and emails
    def handle(self, *, file: Path, skip_bad: Path | None, dry_run: bool, **options: Any) -> None:
        if skip_bad and skip_bad.resolve() == file.resolve():
            raise CommandError("The refused lines cannot go to the file that they come from.")
        try:
            sheet = Sheet.at(file, encoding=options["encoding"], delimiter=options["delimiter"])
            with transaction.atomic():
                people = PeopleImport(sheet, actor=_actor(options["actor"]))
                refused, changes = self._import(people, dry_run=dry_run, skip_bad=skip_bad, **options)
        except (InvalidFile, NotAllowed, LastSuperAdmin, ChangeRefused) as error:
            raise CommandError(f"Nothing was imported. {error}") from error
        except OSError as error:
            raise CommandError(f"Nothing was imported. {error.filename}: {error.strerror}.") from error
        except (IntegrityError, OperationalError) as error:
            raise CommandError(_what_became_of_it(error)) from error
        for change in changes:
            # A worker may be at it already, or an earlier change comes first: then the worker goes on with it.
            while advance_bulk_change(change_id=change.pk, now=timezone.now()) is Step.MORE:
                pass
            change.refresh_from_db()
            ring_for(change)
        if refused:
            raise SystemExit(1)

    def _import(
        self, people: PeopleImport, *, dry_run: bool, skip_bad: Path | None, **options: Any
    ) -> tuple[int, list[BulkChange]]:
        """Import the people, or nothing, and say what was done; return how many lines were refused, and the bulk changes made."""
        with_products = "products" in people.sheet.columns
        people.read()
        if with_products:
            product_imports.check(people, already_held=options["already_held"])
        outcome = people.outcome()
        for refusal in people.refusals():
            self.stderr.write(f"line {refusal.line}: {refusal.field.replace('_', ' ') or 'the line'}: {refusal.reason}")
        does = not dry_run and (skip_bad or not outcome.refused)
        self.stdout.write(
            "Imported:" if does else "Would be imported:" if dry_run else "Nothing was imported. Without the refused:"
        )
        self.stdout.write(
            f"  users: {outcome.added} added, {outcome.changed} changed, {outcome.unchanged} unchanged, {outcome.refused} refused"
        )
        if outcome.new_groups:
            self.stdout.write(f"  new groups: {', '.join(outcome.new_groups)}")
        if with_products:
            self._tell_products(product_imports.forecast(people, already_held=options["already_held"]), **options)
        if not does:
            return outcome.refused, []
        if outcome.refused and skip_bad:
            people.write_refused(skip_bad)
            self.stdout.write(f"The refused lines are in {skip_bad}.")
        return outcome.refused, self._apply(people, with_products=with_products, **options)

    def _tell_products(self, forecast: product_imports.Forecast, *, notify: bool, already_held: bool, **_: Any) -> None:
        self.stdout.write(f"  product access: {forecast.changed} users change, {forecast.suspending} become Suspended")
        for product in sorted({*forecast.gains, *forecast.losses}, key=lambda product: product.position):
            gained, lost = forecast.gains.get(product, 0), forecast.losses.get(product, 0)
            self.stdout.write(f"    {product}: {gained} granted, {lost} removed")
        for need in forecast.seats:
            if need.missing:
                self.stdout.write(f"    seats: {need.needed} needed, {need.free} free, so this cannot be imported")
        if already_held:
            self.stdout.write("  emails: none, the products count as held since before the console")
            return
        self.stdout.write(f"  change emails: {forecast.changed if notify else 0}")
        for product, users in forecast.first.items():
            self.stdout.write(f"  onboarding emails for {product}: {users}")

    def _apply(
        self, people: PeopleImport, *, with_products: bool, already_held: bool, notify: bool, **_: Any
    ) -> list[BulkChange]:
        people.apply(now=timezone.now())
        if with_products and already_held:
            product_imports.apply_already_held(people)
        if not with_products or already_held:
            return []
        reason = f"Import of {people.sheet.path.name}"
        return product_imports.apply(people, notify=notify, reason=reason, now=timezone.now())


def _what_became_of_it(error: DatabaseError) -> str:
    """Return what an import did that the database did not take, and why."""
    words = words_of(error)
    match getattr(error.__cause__, "sqlstate", None):
        case "23503" | "23505" | "40001" | "40P01" | "55P03":  # a key is gone or taken; not one after the other; a lock is held
            return f"Nothing was imported, for somebody changed the same users at this moment. Import it again. ({words})"
        case None:  # the connection broke, and that may have been at the very end
            return f"Perhaps nothing was imported. Import it again: the same file twice changes nothing. ({words})"
    return f"Nothing was imported. The database says: {words}"


def _actor(email: str) -> User:
    actor = User.objects.filter(email=email.strip().lower(), is_active=True).first() if email else first_super_admin()
    if actor is None:
        raise CommandError(f"There is no active user {email}." if email else "There is no Super admin who can sign in.")
    return actor
