"""One page of a list of Django admin, quick at millions of rows: told by the row it begins at, and found stretch by stretch."""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from django.contrib.admin.views.main import ChangeList
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.text import capfirst

from users.plans import WALK, TookTooLong, planned
from users.typed import number

PAGE_SIZE = 50
BEFORE, AFTER = "before", "after"
PATIENCE = "5s"  # so long the database may look for one page, then the reader is asked to narrow down
# A list that can be looked through stretch by stretch is asked at once first, for this long; then so many seconds of stretches
# are a page's work: it shows what it found, says how far it looked, and leads on from there.
AT_ONCE = "60ms"
ENOUGH = 0.1


class ReadingList(ChangeList):
    """One page of a list: nothing is counted, and no page costs more than the first."""

    model_admin: Any  # a reading_room.ReadOnlyAdmin
    next_page = previous_page = ""
    was_cut_off = False
    looked_as_far_as: int | None = None  # the id up to which rows were looked for, when there was no time for all

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = str(capfirst(self.opts.verbose_name_plural))

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        for name in (BEFORE, AFTER):  # a new search or filter begins at the first page
            self.params.pop(name, None)
            self.filter_params.pop(name, None)
        return super().get_queryset(request, exclude_parameters)

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        """Return the one order of the list, which an index serves; `?o=` is not asked."""
        return list(self.model_admin.get_ordering(request))

    def get_results(self, request: HttpRequest) -> None:
        mark = number(request.GET.get(BEFORE) or request.GET.get(AFTER) or "") or None
        place = self._place(mark, request)
        backwards = BEFORE in request.GET and place is not None
        found = self._found(request, place, backwards=backwards)
        page, more = found[:PAGE_SIZE], len(found) > PAGE_SIZE
        ahead = self.looked_as_far_as or (page[-1].pk if more else None)
        # Before a page without rows comes what was looked at up to the mark, the row there included.
        edge = (1 if backwards else -1) if self._is_by_id(request) else 0
        behind = None if place is None or mark is None else page[0].pk if page else mark + edge
        previous, following = (ahead, behind) if backwards else (behind, ahead)
        self.previous_page = self.get_query_string({BEFORE: previous}) if previous is not None else ""
        self.next_page = self.get_query_string({AFTER: following}) if following is not None else ""
        if backwards:
            page.reverse()
        self.model_admin.dress(page)
        self.result_list, self.result_count, self.full_result_count = page, len(page), None
        self.can_show_all = self.multi_page = self.show_full_result_count = self.show_admin_actions = False

    def _place(self, mark: int | None, request: HttpRequest) -> tuple[Any, ...] | None:
        """Return what the list is ordered by, of the row that a page begins or ends at; None to begin at the start."""
        if mark is None:
            return None
        if self._is_by_id(request):
            return (mark,)
        fields = [field.lstrip("-") for field in self.get_ordering(request, self.queryset)]
        return self.model._default_manager.filter(pk=mark).values_list(*fields).first()

    def _is_by_id(self, request: HttpRequest) -> bool:
        return self.get_ordering(request, self.queryset) == ["-id"]

    def _found(self, request: HttpRequest, place: tuple[Any, ...] | None, *, backwards: bool) -> list[Any]:
        """Return the rows of the page in the direction that is turned to, and one more if there are more."""
        rows = self.queryset
        if place is not None:
            ordering = self.get_ordering(request, rows)
            comparison = "lt" if ordering[0].startswith("-") != backwards else "gt"
            rows = rows.filter(_beyond([field.lstrip("-") for field in ordering], place, comparison))
        rows = rows.reverse() if backwards else rows
        by_id, narrowed = self._is_by_id(request), bool(self.query or self.has_active_filters)
        try:
            if narrowed and not by_id:  # what many match is near in the order; PostgreSQL would find all of them and sort
                ids = None
                with suppress(TookTooLong), planned(WALK, longest=AT_ONCE):
                    # Their ids alone, which an index may know without a look at the rows.
                    ids = list(rows.values_list("pk", flat=True)[: PAGE_SIZE + 1])
                if ids is not None:
                    return list(rows.filter(pk__in=ids))
            if not by_id or not narrowed:
                with planned({}, longest=PATIENCE):
                    return list(rows[: PAGE_SIZE + 1])
            if not self.model_admin.is_rare(request):
                with suppress(TookTooLong), planned({}, longest=AT_ONCE):
                    return list(rows[: PAGE_SIZE + 1])
            with planned({}, longest=PATIENCE):
                return self._looked_through(request, rows, place[0] if place else None, backwards=backwards)
        except TookTooLong:
            self.was_cut_off = True
            return []

    def _looked_through(self, request: HttpRequest, rows: QuerySet[Any], place: int | None, *, backwards: bool) -> list[Any]:
        """Return rows found by looking through one stretch after the other, until there are enough or it takes too long."""
        beyond = {} if place is None else {"first": place + 1} if backwards else {"last": place - 1}
        stretches = self.model_admin.stretches(request, **beyond)
        found: list[Any] = []
        until = time.monotonic() + ENOUGH
        for first, last, within in reversed(stretches) if backwards else stretches:
            found += rows.filter(within)[: PAGE_SIZE + 1 - len(found)]
            if len(found) > PAGE_SIZE:
                break
            if time.monotonic() > until and (first, last, within) != stretches[0 if backwards else -1]:
                self.looked_as_far_as = last if backwards else first
                break
        return found


def _beyond(fields: Sequence[str], mark: Sequence[Any], comparison: str) -> Q:
    """Return the condition on rows that come after the mark in the order of the fields, written so that an index serves it."""
    beyond = Q(**{f"{fields[0]}__{comparison}": mark[0]})
    if len(fields) == 1:
        return beyond
    return Q(**{f"{fields[0]}__{comparison}e": mark[0]}) & (beyond | _beyond(fields[1:], mark[1:], comparison))
