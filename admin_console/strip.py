"""The strip on every page while a bulk change runs, and the one word to its admin, elsewhere by then, that it has ended."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from django.contrib.humanize.templatetags.humanize import intcomma
from django.http import HttpRequest
from django.urls import Resolver404, resolve
from django.utils.timezone import now
from django.utils.translation import ngettext

from admin_console.change_page import Outcome, may_undo
from admin_console.notices import Notice, keep
from products.models import BulkChange
from products.queries import visible_changes
from users.models import Capability
from users.queries import can
from users.typed import number

WATCHED = "watched_changes"  # in the session: the reader's own changes that were seen running
MOST = 100  # running at a time, that are counted


class Strip:
    """The changes that run now, as far as the reader sees them and is not on their page; their own come first."""

    def __init__(self, request: Any) -> None:
        self.request, self.reader = request, request.user
        found = visible_changes(self.reader).filter(state=BulkChange.State.RUNNING).order_by("id")
        self._all: Sequence[BulkChange] = list(found[:MOST]) if can(self.reader, Capability.VIEW_USERS) else []
        here = _page_of(request)
        self.running = sorted(
            (change for change in self._all if change.pk != here), key=lambda each: (each.actor_id != self.reader.pk, each.pk)
        )
        self._known_elsewhere = {here, *map(number, request.GET.getlist("watched"))}
        self.said = number(request.GET.get("said", ""))
        self.news = self._news()

    @cached_property
    def lead(self) -> Outcome | None:
        """The change that is shown: the reader's own oldest, else the oldest."""
        return Outcome(self.running[0], reader=self.reader, now=now()) if self.running else None

    @property
    def others(self) -> int:
        """How many more run."""
        return len(self.running) - 1

    @property
    def key(self) -> str:
        """What is shown, apart from how far it is."""
        return f"{self.running[0].pk}-{self.others}" if self.running else ""

    @property
    def speaks(self) -> bool:
        """Whether a screen reader hears how far it is: at each full ten percent, and not what another part of the page says."""
        if self.lead is None or self.lead.change.pk in self._known_elsewhere:
            return False
        return self.said is not None and self.lead.tens > self.said

    def _news(self) -> list[Notice]:
        """Return what became of the reader's own changes that were seen running and run no more; each is told once."""
        session = self.request.session
        watched: set[int] = set(session.get(WATCHED, []))
        running = {change.pk for change in self._all if change.actor_id == self.reader.pk}
        if watched != running:
            session[WATCHED] = sorted(running)
        ended = watched - running - self._known_elsewhere
        changes = BulkChange.objects.filter(pk__in=ended).order_by("pk") if ended else ()
        news = [_news_of(change, self.reader) for change in changes]
        keep(self.request, news)
        return news


def leave(request: HttpRequest, change_id: int) -> None:
    """Say nothing of a change later: whoever steers it knows."""
    watched = request.session.get(WATCHED, [])
    if change_id in watched:
        request.session[WATCHED] = [each for each in watched if each != change_id]


def _page_of(request: Any) -> int | None:
    """Return the change whose page the reader is on, None on any other page."""
    try:
        match = resolve(request.htmx.current_url_abs_path.partition("?")[0]) if request.htmx else request.resolver_match
    except (AttributeError, Resolver404, ValueError):
        return None
    return match.kwargs.get("change_id") if match and match.url_name == "change" else None


def _news_of(change: BulkChange, reader: Any) -> Notice:
    """Return what to tell of a change that runs no more."""
    states = BulkChange.State
    changed = change.changed
    words = {
        states.FINISHED: ngettext(
            "Change #%(number)s is finished: %(changed)s user changed.",
            "Change #%(number)s is finished: %(changed)s users changed.",
            changed,
        ),
        states.FAILED: ngettext(
            "Change #%(number)s is finished, but some users could not be changed; %(changed)s user changed.",
            "Change #%(number)s is finished, but some users could not be changed; %(changed)s users changed.",
            changed,
        ),
        states.CANCELLED: ngettext(
            "Change #%(number)s was cancelled: %(changed)s user changed.",
            "Change #%(number)s was cancelled: %(changed)s users changed.",
            changed,
        ),
        states.PAUSED: ngettext(
            "Change #%(number)s has paused: %(changed)s user changed so far.",
            "Change #%(number)s has paused: %(changed)s users changed so far.",
            changed,
        ),
    }
    state = states(change.state)
    text = words.get(state, "") % {"number": change.pk, "changed": intcomma(changed)}
    tone = {states.FINISHED: "success"}.get(state, "warning" if state in words else "info")
    return Notice(tone, text, change.pk, change.pk if may_undo(reader, change) else None)
