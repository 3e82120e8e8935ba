"""What the URL of a list asks for, read alike on every page: words, choices, numbers and days; what cannot be is told."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

from django.utils.dateparse import parse_date
from django.utils.functional import Promise
from django.utils.timezone import get_current_timezone
from django.utils.translation import gettext as _

from users.typed import number, searched

DAYS = ("from", "to")


class Choices:
    """What one may filter by: (value, label) of each drop-down, by its name."""

    def __init__(self, by_name: Mapping[str, Sequence[tuple[str, str]]]) -> None:
        self.by_name = by_name

    def label(self, name: str, value: str) -> str | None:
        """Return how a value is shown, None when there is no such value to choose."""
        return dict(self.by_name[name]).get(value)


def read(
    query: Any, labels: Mapping[str, str | Promise], choices: Choices, *, numbers: Sequence[str] = ()
) -> tuple[dict[str, str], list[str]]:
    """Return what a QueryDict says of the fields with these labels, and sentences on what it says that cannot be.

    What is empty or cannot be is left out.
    """
    given = {name: searched(query.get(name, "")) for name in labels}
    values = {name: value for name, value in given.items() if value}
    problems = []
    unknown = [name for name in choices.by_name if name in values and choices.label(name, values[name]) is None]
    unknown += [name for name in numbers if name in values and number(values[name]) is None]
    for name in unknown:
        problem = _("There is no %(category)s “%(value)s” to filter by; it was left out.")
        problems.append(problem % {"category": labels[name], "value": values.pop(name)[:40]})
    for name in [name for name in DAYS if name in values and day_of(values[name]) is None]:
        problems.append(_("“%(value)s” is not a date; it was left out.") % {"value": values.pop(name)[:40]})
    if values.get("from", "") > values.get("to", "9999-12-31"):
        problems.append(_("The first day comes after the last one, so nothing can be found."))
    return values, problems


def day_of(text: str) -> date | None:
    """Return the day that a field of a form says, None when it says none."""
    try:
        return parse_date(text) if len(text) == len("2026-11-22") else None
    except ValueError:
        return None


def midnight(day: date | None, *, days: int = 0) -> datetime | None:
    """Return when a day, or one so many days later, begins for the reader."""
    if day is None or day >= date.max:
        return None
    return datetime.combine(day + timedelta(days), time.min, get_current_timezone())
