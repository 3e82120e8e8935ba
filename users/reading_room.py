"""Django admin as a reading room: pages of rows that nobody can edit, quick at millions of rows, and the filters beside them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, ClassVar, cast
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Func, Q, QuerySet, Value
from django.db.models.functions import Cast
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

from users.models import User
from users.queries import UserFilter, users_matching
from users.reading_list import PAGE_SIZE, ReadingList
from users.typed import LAST_ID, number, searched

FEW, MANY = 500, 3_000
BOOLEAN = models.BooleanField()
STRETCH = 100_000  # ids
NOTHING = SafeString("–")

type Text = str | Promise


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

    def is_rare(self, request: HttpRequest) -> bool:
        """Return whether what is asked for may be so rare, and found by no index, that it is looked for in stretches at once."""
        return False

    def stretches(self, request: HttpRequest, *, first: int = 1, last: int | None = None) -> Sequence[tuple[int, int, Q]]:
        """Return the stretches of ids in which to look for rows, newest first, each with the condition to be in it."""
        newest = self.model._default_manager.order_by("-pk").values_list("pk", flat=True).first() or 0
        top = newest if last is None else min(last, newest)
        found = [(max(high - STRETCH + 1, first), high) for high in range(top, first - 1, -STRETCH)]
        return [(low, high, Q(pk__range=(low, high))) for low, high in found]

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
        words = searched(search_term)
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


class Filter(admin.ListFilter, ABC):
    """A filter that reads the parameters `names`. What it cannot read finds nothing, and it says so."""

    names: ClassVar[tuple[str, ...]] = ()
    template = "admin/reading_filter.html"
    problem = ""

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: type[models.Model], model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self.values = {name: params.pop(name)[-1].strip() if name in params else "" for name in self.names}
        self.used_parameters = {name: value for name, value in self.values.items() if value}

    @property
    @abstractmethod
    def fields(self) -> list[Field]:
        """What the form shows."""

    @abstractmethod
    def narrowed(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows that the filter finds. Raises UnreadableError."""

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
        if (person := number(self.value, most=LAST_ID)) is not None:
            return rows.filter(**{self.field: person})
        return rows.filter(of_people(self.field, self.value))


class ChoiceFilter(OneFilter):
    """Finds the rows with one of several values."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.offered = self.options()

    @abstractmethod
    def options(self) -> Sequence[tuple[str, Text]]:
        """Return what there is to choose: (value, label)."""

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
    field: ClassVar[str] = "at"

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


def people(words: str) -> QuerySet[User]:
    """Return the users whose name or email holds the words, as everywhere in the console."""
    return users_matching(User.objects.all(), UserFilter.from_query({"search": [words]}), now=now())


def of_people(field: str, words: str) -> Q:
    """Return the condition on rows to belong, by the field, to a user whose name or email holds the words."""
    return one_of(field, people(words))


def one_of(field: str, found: QuerySet[Any], *, by: str = "pk") -> Q:
    """Return the condition on a field to name one of the rows found, by a field of theirs.

    Few are named one by one, which lets an index on the field find their rows; of many, some are met soon wherever one begins.
    Those in between are collected first and each row is looked up among them: an index would be asked for every one of them.
    """
    named = list(found.order_by().values_list(by, flat=True)[: MANY + 1])
    if len(named) <= FEW:
        return Q(**{f"{field}__in": named})
    if len(named) > MANY:
        return Q(**{f"{field}__in": found.order_by().values(by)})
    collected = Cast(Value(named), ArrayField(models.BigIntegerField()))
    looked_up = "(%(expressions)s))) IS TRUE"  # which PostgreSQL makes no join of
    return Q(Func(models.F(field), collected, template=looked_up, arg_joiner=" IN (SELECT unnest(", output_field=BOOLEAN))


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
