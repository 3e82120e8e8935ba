"""Moments as a reader types them: a date, perhaps a time, and a time zone, understood exactly or refused with a sentence."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Self
from zoneinfo import ZoneInfo, available_timezones

from django.utils.translation import gettext as _


class UnreadableMoment(ValueError):
    """What was typed is no moment of the past; the text says why."""


@dataclass(frozen=True)
class Moment:
    """A moment of the past, and the time zone in which it was asked for."""

    at: datetime  # in UTC
    zone: ZoneInfo

    @classmethod
    def read(cls, text: str, zone: str, *, now: datetime) -> Self:
        """Read a time like “2026-11-22 12:00” of a time zone like “Europe/Paris”. Raises UnreadableMoment."""
        if zone not in zones():
            raise UnreadableMoment(_("“%(zone)s” is not a time zone like Europe/Paris.") % {"zone": zone})
        try:
            typed = datetime.fromisoformat(text)
            local = typed if typed.tzinfo else typed.replace(tzinfo=ZoneInfo(zone))
            at = local.astimezone(UTC)  # PostgreSQL does not take every offset that Python takes
            is_skipped = typed.tzinfo is None and at.astimezone(local.tzinfo).replace(tzinfo=None) != typed
        except (ValueError, OverflowError):
            raise UnreadableMoment(_("“%(text)s” is not a time like 2026-11-22 12:00.") % {"text": text}) from None
        if is_skipped:
            skipped = _("There was no %(text)s in %(zone)s: the clocks were put forward over it.")
            raise UnreadableMoment(skipped % {"text": typed.isoformat(" "), "zone": zone})
        if at > now:
            raise UnreadableMoment(_("That is still to come."))
        return cls(at, ZoneInfo(zone))

    def __str__(self) -> str:
        """Return the moment as it was understood, in its zone and in UTC."""
        local, utc = f"{self.at.astimezone(self.zone):%Y-%m-%d %H:%M:%S %Z}", f"{self.at:%Y-%m-%d %H:%M:%S} UTC"
        return local if local == utc else f"{local} ({utc})"


@cache
def zones() -> list[str]:
    """Return the names of all time zones, sorted."""
    return sorted(available_timezones())
