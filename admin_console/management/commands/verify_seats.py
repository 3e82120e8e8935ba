"""manage.py verify_seats: count anew how many seats are taken, and compare with the counters."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from products.seats import Recount, recounted, repair_seats


class Command(BaseCommand):
    help = "Count the holders of each product and the seats that unfinished changes reserved, and compare with the counters."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--repair", action="store_true", help="set wrong counters right (as the owner of the tables)")

    def handle(self, *, repair: bool, verbosity: int, **options: Any) -> None:
        found = repair_seats(using="owner") if repair else recounted()
        wrong = [each for each in found if not each.is_right]
        for each in wrong:
            self.stdout.write(f"{_line(each)}{_remedy(each, repair)}")
        if not wrong and verbosity:
            self.stdout.write(f"The seats of all {len(found)} products are counted right.")
        if any(each.is_oversold or not repair for each in wrong):
            raise SystemExit(1)


def _line(each: Recount) -> str:
    used = f"used is {each.used:,}, {each.holders:,} hold it"
    reserved = f"reserved is {each.reserved:,}, {each.set_aside:,} are set aside"
    return f"{each.name}: {used}; {reserved}"


def _remedy(each: Recount, repair: bool) -> str:
    if each.is_oversold:
        return f". There are only {each.seats:,} seats: set more, then repair."
    return ", set right" if repair else ""
