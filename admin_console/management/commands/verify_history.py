"""`manage.py verify_history`: whether the entitlement history and the record of admins are as they were sealed."""

import sys
from argparse import ArgumentTypeError
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from django.utils.translation import override

from products import checkpoints
from products.verification import Damage, Finding, verify

NAMED = 20  # ranges of rows of one damage


class Command(BaseCommand):
    help = (
        "Verifies the entitlement history and the record of admins against their seals, and those against signed checkpoints. "
        "Exits with 1 and names block, rows and kind of damage if there is any."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--since", type=moment, metavar="DATE", help="compare rows written since then only (links: all)")
        parser.add_argument(
            "--checkpoint", type=Path, metavar="FILE", help="checkpoints kept elsewhere, instead of the console's"
        )
        parser.add_argument("--key", action="append", metavar="KEY", help="the public key to trust, instead of the console's own")

    @override("en")  # as all that it says: who watches its output does not look for the organisation's language
    def handle(self, *args: Any, **options: Any) -> None:
        """Verify and tell; exit with 1 if anything is damaged."""
        path = options["checkpoint"] or settings.HISTORY_CHECKPOINTS
        try:
            signed = list(checkpoints.read(path)) if options["checkpoint"] or path.exists() else []
        except OSError as error:
            raise CommandError(f"{path} cannot be read ({error.strerror}).") from None
        keys = options["key"] or [checkpoints.public_key()]
        finding = verify(keys=keys, checkpoints=[*checkpoints.stored(keys), *signed], since=options["since"])
        self._tell(finding)
        if not signed:
            self.stderr.write(f"{path} has no checkpoint: blocks cut off or forged by who owns the database cannot be found.")
        if finding.damage:
            sys.exit(1)
        self.stdout.write("No damage was found.")

    def _tell(self, finding: Finding) -> None:
        self.stdout.write(f"{finding.rows:,} rows in {finding.blocks:,} blocks, {finding.checkpoints:,} checkpoints.")
        for chain, window in finding.unsealed.items():
            if window.rows:
                more = "more than " if window.rows_is_more else ""
                self.stdout.write(
                    f"{chain.label}: {more}{window.rows:,} rows not sealed yet, since {window.since:%Y-%m-%d %H:%M:%S}."
                )
        if finding.erased:
            self.stdout.write(f"{finding.erased:,} admin actions without their words, which were erased on request.")
        for part in finding.dropped:
            self.stdout.write(f"Dropped as too old: {part['rows']:,} rows from {part['from'][:10]} until {part['until'][:10]}.")
        for damage in finding.damage:
            self.stdout.write(self.style.ERROR(sentence(damage)))


def sentence(damage: Damage) -> str:
    """Return a damage in words: chain, block, rows, kind, and when the checkpoints were signed that tell of it."""
    if damage.chain is None:
        return f"DAMAGE: {damage.kind.label}"
    where = f"block {damage.block}" if damage.block else "before the first block"
    if damage.last not in (None, damage.block):
        where = f"blocks {damage.block}–{damage.last}"
    rows = f", rows {ranges(damage.rows)}" if damage.rows else ""
    times = [f"{at:%Y-%m-%d %H:%M:%S %Z}" for at in damage.signed or ()]
    signed = f" (signed {' – '.join(dict.fromkeys(times))})" if times else ""
    return f"DAMAGE: {damage.chain.label}, {where}{rows}: {damage.kind.label}{signed}"


def ranges(rows: tuple[int, ...]) -> str:
    """Return row numbers as "3, 5–9", cut short when there are many."""
    found: list[list[int]] = []
    for row in rows:
        if found and row == found[-1][1] + 1:
            found[-1][1] = row
        else:
            found.append([row, row])
    told = [str(first) if first == last else f"{first}–{last}" for first, last in found[:NAMED]]
    return ", ".join(told) + (" …" if len(found) > NAMED else "")


def moment(text: str) -> datetime:
    """Return a date, or a date and time, as a moment; without a time zone, in the console's own."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no date; expected one like 2026-01-31 or 2026-01-31T12:00+01:00") from None
    return found if found.tzinfo else timezone.make_aware(found)
