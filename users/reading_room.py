"""Django admin as a reading room: pages of rows that nobody can edit, quick at millions of rows, and the filters beside them."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, ClassVar, cast
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db import OperationalError, connection, models, transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, reverse
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.timezone import get_current_timezone, localtime, make_aware, now
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from psycopg.errors import QueryCanceled

from users.models import User
from users.queries import UserFilter, users_matching

PAGE_SIZE = 50
PATIENCE = "5s"  # so long the database may look for one page, then the reader is asked to narrow down
FEW = 500
BEFORE, AFTER = "before", "after"
NOTHING = SafeString("–")

type Text = str | Promise


class ReadingList(ChangeList):
    """One page of a list, told by the row it begins or ends at: nothing is counted, and no page costs more than the first."""

    model_admin: "ReadOnlyAdmin"
    next_page = previous_page = ""
    was_cut_off = False

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
        backwards = BEFORE in request.GET
        mark = self._mark(request.GET.get(BEFORE) or request.GET.get(AFTER), request)
        rows = self.queryset.filter(self._beyond(mark, request, backwards=backwards)) if mark else self.queryset
        found = self._read((rows.reverse() if backwards and mark else rows)[: PAGE_SIZE + 1])
        page, more = found[:PAGE_SIZE], len(found) > PAGE_SIZE
        if backwards and mark:
            page.reverse()
            has_previous, has_next = more, True
        else:
            has_previous, has_next = mark is not None, more
        if page:
            self.previous_page = self.get_query_string({BEFORE: page[0].pk}) if has_previous else ""
            self.next_page = self.get_query_string({AFTER: page[-1].pk}) if has_next else ""
        self.model_admin.dress(page)
        self.result_list, self.result_count, self.full_result_count = page, len(page), None
        self.can_show_all = self.multi_page = self.show_full_result_count = self.show_admin_actions = False

    def _mark(self, text: str | None, request: HttpRequest) -> tuple[Any, ...] | None:
        """Return what the list is ordered by, of the row that a page begins or ends at; None to begin at the start."""
        fields = [field.lstrip("-") for field in self.get_ordering(request, self.queryset)]
        row = number(text or "")
        return self.model._default_manager.filter(pk=row).values_list(*fields).first() if row is not None else None

    def _beyond(self, mark: tuple[Any, ...], request: HttpRequest, *, backwards: bool) -> Q:
        ordering = self.get_ordering(request, self.queryset)
        comparison = "lt" if ordering[0].startswith("-") != backwards else "gt"
        return _beyond([field.lstrip("-") for field in ordering], mark, comparison)

    def _read(self, rows: QuerySet[Any]) -> list[Any]:
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SELECT set_config('statement_timeout', %s, true)", [PATIENCE])
                return list(rows)
        except OperationalError as error:
            if not isinstance(error.__cause__, QueryCanceled):
                raise
            self.was_cut_off = True
            return []


def _beyond(fields: Sequence[str], mark: Sequence[Any], comparison: str) -> Q:
    """Return the condition on rows that come after the mark in the order of the fields, written so that an index serves it."""
    beyond = Q(**{f"{fields[0]}__{comparison}": mark[0]})
    if len(fields) == 1:
        return beyond
    return Q(**{f"{fields[0]}__{comparison}e": mark[0]}) & (beyond | _beyond(fields[1:], mark[1:], comparison))


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Pages of a model that show and link, and take nothing: a list with search and filters, and a page for each row."""

    actions = None
    empty_value_display = NOTHING
    list_per_page = PAGE_SIZE
    list_filter: ClassVar[Any] = ()  # our own filters only
    ordering: ClassVar[Any] = ("-id",)  # all ascending or all descending, and unique: pages are told by it
    preserve_filters = False
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    sortable_by: ClassVar[Any] = ()

    def dress(self, rows: Sequence[Any]) -> None:
        """Look up at once what all these rows show of other tables, and leave it with each."""

    def found(self, rows: QuerySet[Any], words: str) -> QuerySet[Any]:
        """Return those of the rows that a search finds."""
        return rows

    def panels(self, request: HttpRequest, row: Any) -> Iterable[SafeString]:
        """Return what a row's page shows below its fields."""
        return ()

    def heading(self, row: Any) -> str:
        """Return the heading of a row's page."""
        return f"{capfirst(self.opts.verbose_name)} {row}"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Allow what our filters ask only: by `?password__startswith=` one could guess what is never shown."""
        return any(lookup in spec.names for spec in self.list_filter)

    def to_field_allowed(self, request: HttpRequest, to_field: str) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        """Return the list and a row's page: there is no address to add, change or delete anything."""
        page = f"{self.opts.app_label}_{self.opts.model_name}_change"
        return [url for url in super().get_urls() if getattr(url, "name", None) in (page, f"{page}list")]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ReadingList]:
        return ReadingList

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> tuple[QuerySet[Any], bool]:
        words = " ".join(search_term.replace("\x00", "").split())[:200]
        return (self.found(queryset, words) if words else queryset), False

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        row = super().get_object(request, object_id, from_field)
        if row is not None:
            self.dress([row])
        return row

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Show the list; fields of the filter form that were left empty are dropped from the address first."""
        told = [(name, value) for name, values in request.GET.lists() for value in values if value.strip()]
        if len(told) != sum(len(values) for _name, values in request.GET.lists()):
            return redirect(f"{request.path}?{urlencode(told)}" if told else request.path)
        return super().changelist_view(request, extra_context)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        row = context["original"]
        context |= {"title": self.heading(row), "subtitle": None, "panels": list(self.panels(request, row))}
        return super().render_change_form(request, context, *args, **kwargs)


# Filters: fields of one form beside the list, so that several are filled in and applied at once


@dataclass(frozen=True)
class Field:
    """One field of the filter form: a text, a date, or a choice when there are options."""

    name: str
    label: Text
    value: str
    type: str = "text"
    hint: Text = ""
    options: Sequence[tuple[str, Text]] = ()


class UnreadableError(ValueError):
    """What was typed into a filter cannot be; the text says why."""


class Filter(admin.ListFilter):
    """A filter that reads the parameters `names`. What it cannot read finds nothing, and it says so."""

    names: ClassVar[tuple[str, ...]] = ()
    template = "admin/reading_filter.html"
    problem = ""

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: type[models.Model], model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self.values = {name: params.pop(name)[-1].strip() if name in params else "" for name in self.names}
        self.used_parameters = {name: value for name, value in self.values.items() if value}

    @property
    def fields(self) -> list[Field]:
        """What the form shows."""
        raise NotImplementedError

    def narrowed(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows that the filter finds. Raises UnreadableError."""
        raise NotImplementedError

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str | None]:
        return list(self.names)

    def choices(self, changelist: Any) -> Any:
        return ()

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.used_parameters:
            return queryset
        try:
            return self.narrowed(queryset)
        except UnreadableError as error:
            self.problem = str(error)
            return queryset.none()


class OneFilter(Filter):
    """A filter of one parameter, `name`, on one field of the model, `field`."""

    name: ClassVar[str]
    field: ClassVar[str]
    hint: ClassVar[Text] = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.names = (cls.name,) if hasattr(cls, "name") else ()

    @property
    def value(self) -> str:
        """What was typed or chosen."""
        return self.values[self.name]

    @property
    def fields(self) -> list[Field]:
        return [Field(self.name, self.title or "", self.value, hint=self.hint)]


class NumberFilter(OneFilter):
    """Finds the rows that are about one thing, by its number."""

    hint = gettext_lazy("Number")

    def narrowed(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        if (found := number(self.value)) is None:
            raise UnreadableError(_("“%(text)s” is not a number.") % {"text": self.value})
        return rows.filter(**{self.field: found})


class PersonFilter(OneFilter):
    """Finds the rows of one person, by their number as in links, or of those whose name or email holds what was typed."""

    hint = gettext_lazy("Name or email")

    def narrowed(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        if (person := number(self.value, most=2**31)) is not None:
            return rows.filter(**{self.field: person})
        return rows.filter(of_people(self.field, self.value))


class ChoiceFilter(OneFilter):
    """Finds the rows with one of several values."""

    def options(self) -> Sequence[tuple[str, Text]]:
        """Return what there is to choose: (value, label)."""
        raise NotImplementedError

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.offered = self.options()

    @property
    def fields(self) -> list[Field]:
        return [Field(self.name, self.title or "", self.value, options=self.offered)]

    def narrowed(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        if self.value not in dict(self.offered):
            raise UnreadableError(_("There is no such choice."))
        return self.chosen(rows)

    def chosen(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows with the chosen value."""
        return rows.filter(**{self.field: self.value})


class PeriodFilter(Filter):
    """Finds the rows of some days, the first and the last included, in the time zone that the pages show."""

    names = ("since", "until")
    title = gettext_lazy("Period")
    field: ClassVar[str]

    @property
    def fields(self) -> list[Field]:
        zone = get_current_timezone()
        return [
            Field("since", _("From (%(zone)s)") % {"zone": zone}, self.values["since"], "date"),
            Field("until", _("To (%(zone)s)") % {"zone": zone}, self.values["until"], "date"),
        ]

    def narrowed(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        if since := self.values["since"]:
            rows = rows.filter(**{f"{self.field}__gte": _midnight(since)})
        if until := self.values["until"]:
            rows = rows.filter(**{f"{self.field}__lt": _midnight(until, days=1)})
        return rows


def _midnight(text: str, *, days: int = 0) -> datetime:
    try:
        return make_aware(datetime.combine(date.fromisoformat(text) + timedelta(days=days), time.min))
    except (ValueError, OverflowError):
        raise UnreadableError(_("“%(text)s” is not a date like 2026-11-22.") % {"text": text}) from None


# What pages show


def number(text: str, *, most: int = 2**63) -> int | None:
    """Return the number that “12” or “#12” names, None for any other text."""
    digits = text.strip().removeprefix("#")
    return int(digits) if re.fullmatch("[0-9]{1,19}", digits) and int(digits) < most else None


def people(words: str) -> QuerySet[User]:
    """Return the users whose name or email holds the words, as everywhere in the console."""
    return users_matching(User.objects.all(), UserFilter.from_query({"search": [words]}), now=now())


def of_people(field: str, words: str) -> Q:
    """Return the condition on rows to belong, by the field, to a user whose name or email holds the words."""
    return one_of(field, people(words))


def one_of(field: str, found: QuerySet[Any]) -> Q:
    """Return the condition on a field to name one of the rows found.

    Few are named one by one, which lets an index on the field find their rows; of many, some are met soon wherever one begins.
    """
    few = list(found.order_by().values_list("pk", flat=True)[: FEW + 1])
    return Q(**{f"{field}__in": few if len(few) <= FEW else found.order_by().values("pk")})


def page_link(page: str, text: Any, *args: Any, **query: Any) -> SafeString:
    """Return a link to a page of the reading room, named as in `users_user_change`; `query` fills in its filters."""
    address = reverse(f"admin:{page}", args=args)
    return format_html('<a href="{}{}">{}</a>', address, f"?{urlencode(query)}" if query else "", text)


def person_link(user_id: int | None, known: dict[int, User], *, brief: bool = False) -> SafeString:
    """Return a link to a user's page with the name and, unless brief, the email; the number when the user is no longer there."""
    if user_id is None:
        return NOTHING
    if user_id not in known:
        return format_html('#{} <span class="quiet">{}</span>', user_id, _("no longer exists"))
    user = known[user_id]
    return format_html(
        "{}{}", page_link("users_user_change", user.name, user_id), "" if brief or user.email == user.name else under(user.email)
    )


def under(text: Any) -> SafeString:
    """Return a text of less weight, for under what it belongs to."""
    return format_html('<span class="quiet reading-under">{}</span>', text)


def moment(at: datetime | None) -> SafeString:
    """Return a time to the second with its time zone, for evidence leaves no room for “noon”."""
    if at is None:
        return NOTHING
    return format_html('<time datetime="{}" class="nowrap">{}</time>', at.isoformat(), f"{localtime(at):%Y-%m-%d %H:%M:%S %Z}")


def column(description: Text, *, boolean: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that titles a method shown as a column or a field."""
    return admin.display(description=cast(Any, description), boolean=boolean or None)
