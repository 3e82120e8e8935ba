"""What the reader was told lately: each toast goes away by itself, and is found again in the header, from the session."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from django.contrib.messages import get_messages
from django.utils.dateparse import parse_datetime
from django.utils.timezone import now

KEPT = "notices"  # in the session, newest first
NEW = "new_notices"  # in the session: how many came by themselves since the list was last looked at
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
        if came := sum(notice.change is not None for notice in told):  # the rest answers what the reader did just now
            request.session[NEW] = min(new(request) + came, MOST)


def kept(request: Any) -> list[Notice]:
    """Return what the reader was told in this session, newest first."""
    return [Notice(*each) for each in request.session.get(KEPT, [])]


def new(request: Any) -> int:
    """Return how many notices the reader has not looked at: ends of changes, not the answers to their own clicks."""
    return int(request.session.get(NEW, 0))


def looked_at(request: Any) -> list[Notice]:
    """Return what the reader was told in this session, as `kept`; from now on none of it is new."""
    request.session.pop(NEW, None)
    return kept(request)


def from_messages(request: Any) -> list[Notice]:
    """Return what the page before left to tell on this one, kept from now on; asked again, nothing is left."""
    notices = [Notice(message.level_tag, str(message)) for message in get_messages(request)]
    keep(request, notices)
    return notices
