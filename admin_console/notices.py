"""What the reader was told lately: each toast goes away by itself, and is found again in the header, from the session."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from django.contrib.messages import get_messages
from django.utils.dateparse import parse_datetime
from django.utils.timezone import now

KEPT = "notices"  # in the session, newest first
MOST = 20


class Notice(NamedTuple):
    """One thing that was told: in which tone, in which words, and the bulk change that it is about, if any."""

    tone: str
    text: str
    change: int | None = None
    undo_of: int | None = None  # that change, if the reader may undo it
    told_at: str = ""

    @property
    def at(self) -> datetime | None:
        """When it was told."""
        return parse_datetime(self.told_at)


def keep(request: Any, notices: Iterable[Notice]) -> None:
    """Let the reader find again what they are told now."""
    at = now().isoformat(timespec="seconds")
    if told := [notice._replace(told_at=at) for notice in notices]:
        request.session[KEPT] = [*reversed(told), *request.session.get(KEPT, [])][:MOST]


def kept(request: Any) -> list[Notice]:
    """Return what the reader was told in this session, newest first."""
    return [Notice(*each) for each in request.session.get(KEPT, [])]


def from_messages(request: Any) -> list[Notice]:
    """Return what the page before left to tell on this one, kept from now on; asked again, nothing is left."""
    notices = [Notice(message.level_tag, str(message)) for message in get_messages(request)]
    keep(request, notices)
    return notices
