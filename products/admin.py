"""Who holds what: the entitlement history, the bulk changes and the products, as support reads them.

The history has millions of rows. Its lists never count, and every page is found by an index: newest first by the primary key;
of a user by history_of_a_user (user_id, id); of a bulk change by history_of_a_change (change_id, user_id), for which that list is
ordered by user; of a period in the partitions of its months.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.db.models import Max, Min, Q, QuerySet
from django.db.models.functions import Coalesce, Now
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from notifications.admin import TOPICS
from notifications.phrases import labelled
from products import seals  # noqa: F401  # its pages are registered
from products.emails import CHANGE, ONBOARDING
from products.models import AccessChange, BulkChange, BulkChangeSkip, Mode, Product, Source
from products.news import COURSES
from products.panels import change_link, in_words, timeline_panel
from products.pauses import pause_of
from products.queries import product_names, skipped_by_reason
from products.selection import selection_in_words
from products.stretches import Kind, Stretch, stretches
from users.admin import SUBJECTS, DoneBy, UserAdmin
from users.models import Capability, GroupMembership, User, UserGroup
from users.queries import can, visible_groups, with_subgroups
from users.reading_list import AFTER, BEFORE
from users.reading_room import (
    FEW,
    MANY,
    NOTHING,
    ChoiceFilter,
    NumberFilter,
    PeriodFilter,
    PersonFilter,
    ReadOnlyAdmin,
    Text,
    column,
    moment,
    of_people,
    one_of,
    page_link,
    people,
    person_link,
    under,
)
from users.typed import LAST_ID, number

CLOCKS_DIFFER = timedelta(days=1)  # at the most: a row has the time of the database, a bulk change that of the console

# The entitlement history


class OfPerson(PersonFilter):
    name, field = "person", "user"
    title = _("User")


class OfChange(NumberFilter):
    name, field = "change", "change"
    title = _("Bulk change")


class ProductFilter(ChoiceFilter):
    """Finds the rows that grant, or revoke, one product."""

    def options(self) -> Sequence[tuple[str, Text]]:
        return [(str(pk), name) for pk, name in product_names().items()]


class Granted(ProductFilter):
    name = "granted"
    title = _("Product granted")

    def chosen(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        return rows.filter(Q(after__contains=[int(self.value)]) & ~Q(before__contains=[int(self.value)]))


class Revoked(ProductFilter):
    name = "revoked"
    title = _("Product revoked")

    def chosen(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        return rows.filter(Q(before__contains=[int(self.value)]) & ~Q(after__contains=[int(self.value)]))


class InGroup(ChoiceFilter):
    """Finds the rows of those who are in a user group now, or in one below it."""

    name = "group"
    title = _("User group")

    def options(self) -> Sequence[tuple[str, Text]]:
        return [(str(pk), path) for pk, path in visible_groups(self.request.user)]

    def chosen(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        return rows.filter(one_of("user", _memberships(int(self.value)), by="user"))


def _memberships(group: int) -> QuerySet[GroupMembership]:
    """Return the memberships of a user group and of those below it."""
    return GroupMembership.objects.filter(group__id__any=with_subgroups((group,)))


class BySource(ChoiceFilter):
    name = field = "source"
    title = _("Source")

    def options(self) -> Sequence[tuple[str, Text]]:
        return Source.choices


@admin.register(AccessChange)
class AccessChangeAdmin(ReadOnlyAdmin):
    """The entitlement history, newest first; of one bulk change, by user."""

    search_fields = ("name", "email", "change", "reason")
    search_help_text = _("Any part of the user's name or email, the number of a bulk change, or words of its reason.")
    list_display = ("when", "person", "granted_and_first", "revoked", "by", "bulk_change", "origin")
    list_filter = (OfPerson, InGroup, Granted, Revoked, DoneBy, OfChange, PeriodFilter, BySource)
    fieldsets = (
        (None, {"fields": ("when", "person", "granted", "revoked", "first_time", "held_before", "held_after")}),
        (None, {"fields": ("by", "bulk_change", "emails", "origin", "db_role")}),
    )

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        is_of_a_change = request.GET.get("change") or number(request.GET.get("q", "")) is not None
        return ("user_id", "id") if is_of_a_change else ("-id",)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Show the list, and the way to an evidence pack of what it finds for those who may make one."""
        may_export = can(request.user, Capability.EXPORT_EVIDENCE)
        told = {name: value for name, value in request.GET.items() if name not in (BEFORE, AFTER)}
        query = f"?{urlencode(told)}" if told else ""
        return super().changelist_view(request, {"evidence_pack": reverse("evidence") + query if may_export else ""})

    def is_rare(self, request: HttpRequest) -> bool:
        asked = {name for name, value in request.GET.items() if value}
        if asked & {"person", "change", "q"}:
            return False
        # Of a group of many PostgreSQL would find all rows and sort them.
        group = number(request.GET.get("group", ""), most=LAST_ID)
        return bool(asked & {"granted", "revoked", "by", "source"}) or (
            group is not None and _memberships(group)[MANY : MANY + 1].exists()
        )

    def stretches(self, request: HttpRequest, *, first: int = 1, last: int | None = None) -> Sequence[tuple[int, int, Q]]:
        found = stretches(_kind(request), first=first, last=last)
        return [(each.first, each.last, _within(each)) for each in found]

    def dress(self, rows: Sequence[Any]) -> None:
        names = product_names()
        users = User.objects.defer("password").in_bulk(
            {row.user_id for row in rows} | {row.actor_id for row in rows if row.actor_id is not None}
        )
        changes = BulkChange.objects.only("reason").in_bulk({row.change_id for row in rows if row.change_id is not None})
        for row in rows:
            row.names, row.users, row.why = names, users, changes[row.change_id].reason if row.change_id in changes else ""

    def found(self, rows: QuerySet[Any], words: str) -> QuerySet[Any]:
        if (change := number(words)) is not None:
            return rows.filter(change=change)
        return rows.filter(of_people("user", words) | _of_changes(BulkChange.objects.filter(reason__icontains=words)))

    def heading(self, row: Any) -> str:
        return _now("Entitlement history #%(number)s") % {"number": row.pk}

    @column(_("when"))
    def when(self, row: Any) -> SafeString:
        return moment(row.at)

    @column(_("user"))
    def person(self, row: Any) -> SafeString:
        return person_link(row.user_id, row.users)

    @column(_("granted"))
    def granted(self, row: Any) -> SafeString:
        return in_words(row.granted, row.names) or NOTHING

    @column(_("granted"))
    def granted_and_first(self, row: Any) -> SafeString:
        if not row.first:
            return in_words(row.granted, row.names) or NOTHING
        told = _now("first time")
        if set(row.first) != set(row.granted):
            told = SafeString(_now("first time: %(products)s") % {"products": in_words(row.first, row.names)})
        return format_html("{}{}", in_words(row.granted, row.names), under(told))

    @column(_("revoked"))
    def revoked(self, row: Any) -> SafeString:
        return in_words(row.revoked, row.names) or NOTHING

    @column(_("first time"))
    def first_time(self, row: Any) -> SafeString:
        return in_words(row.first, row.names) or NOTHING

    @column(_("held before"))
    def held_before(self, row: Any) -> SafeString:
        return in_words(row.before, row.names) or NOTHING

    @column(_("held afterwards"))
    def held_after(self, row: Any) -> SafeString:
        return in_words(row.after, row.names) or NOTHING

    @column(_("by"))
    def by(self, row: Any) -> SafeString:
        return person_link(row.actor_id, row.users, brief=True)

    @column(_("bulk change"))
    def bulk_change(self, row: Any) -> SafeString:
        return format_html("{}{}", change_link(row.change_id), under(row.why) if row.why else "")

    @column(_("source"))
    def origin(self, row: Any) -> Any:
        return format_html("{}{}", row.get_source_display(), under(row.db_role) if row.source == Source.OUTSIDE else "")

    @column(_("emails"))
    def emails(self, row: Any) -> SafeString:
        if row.change_id is None:
            return NOTHING
        filters = {"person": row.user_id, "kind": CHANGE, "about": row.change_id}
        return page_link("notifications_notification_changelist", _("Change email of this user"), **filters)


def _kind(request: HttpRequest) -> Kind:
    """Return what the filters of the list say of a row that the summaries know too."""
    asked = request.GET
    actors: tuple[int, ...] | None = None
    if by := asked.get("by", "").strip():
        person = number(by, most=LAST_ID)
        few = [person] if person is not None else list(people(by).order_by().values_list("pk", flat=True)[: FEW + 1])
        actors = tuple(few) if len(few) <= FEW else None
    granted, revoked = (number(asked.get(name, ""), most=LAST_ID) for name in ("granted", "revoked"))
    return Kind(granted=granted, revoked=revoked, actors=actors, source=asked.get("source") or None)


def _of_changes(found: QuerySet[BulkChange]) -> Q:
    """Return the condition on a row to belong to one of these changes; knowing when they ran saves looking into other months."""
    ran = found.aggregate(since=Min("requested_at"), until=Max(Coalesce("finished_at", Now())))
    if ran["since"] is None:
        return one_of("change", found)
    return one_of("change", found) & Q(at__range=(ran["since"] - CLOCKS_DIFFER, ran["until"] + CLOCKS_DIFFER))


def _within(stretch: Stretch) -> Q:
    """Return the condition on a row to be in a stretch; knowing when it was written saves looking into other months."""
    if stretch.since is None:
        return Q(id__range=(stretch.first, stretch.last))
    return Q(id__range=(stretch.first, stretch.last), at__range=(stretch.since, stretch.until))


# Bulk changes


class ByMode(ChoiceFilter):
    name = field = "mode"
    title = _("Mode")

    def options(self) -> Sequence[tuple[str, Text]]:
        return Mode.choices


class ByState(ChoiceFilter):
    name = field = "state"
    title = _("State")

    def options(self) -> Sequence[tuple[str, Text]]:
        return BulkChange.State.choices


class RequestedIn(PeriodFilter):
    field = "requested_at"


@admin.register(BulkChange)
class BulkChangeAdmin(ReadOnlyAdmin):
    """The bulk changes, newest first, each with the way to its users and to its emails."""

    search_fields = ("number", "name", "email", "reason")
    search_help_text = _("Number of the bulk change, any part of the admin's name or email, or words of the reason.")
    list_display = (
        "number", "when", "by", "mode", "ticked", "whom", "counts", "state", "why"
    )  # fmt: skip
    list_filter = (DoneBy, ByMode, ByState, RequestedIn, BySource)
    fieldsets = (
        (None, {"fields": ("when", "by", "source", "state_in_words", "finished")}),
        (_("What was asked"), {"fields": ("mode", "ticked", "kept", "whom", "told", "why")}),
        (_("What it did"), {"fields": ("targets", "changed", "unchanged", "skips", "suspended", "restored", "users", "emails")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[BulkChange]:
        return BulkChange.objects.select_related("actor")

    def dress(self, rows: Sequence[Any]) -> None:
        products, groups = product_names(), dict(UserGroup.objects.values_list("id", "name"))
        for row in rows:
            row.names = products
            row.whom = selection_in_words(row.selection, products=products, groups=groups)

    def found(self, rows: QuerySet[Any], words: str) -> QuerySet[Any]:
        if (change := number(words)) is not None:
            return rows.filter(pk=change)
        return rows.filter(of_people("actor", words) | Q(reason__icontains=words))

    @column(_("number"))
    def number(self, row: Any) -> str:
        return f"#{row.pk}"

    @column(_("when"))
    def when(self, row: Any) -> SafeString:
        return moment(row.requested_at)

    @column(_("finished"))
    def finished(self, row: Any) -> SafeString:
        return moment(row.finished_at)

    @column(_("by"))
    def by(self, row: Any) -> SafeString:
        return person_link(row.actor_id, {row.actor_id: row.actor}, brief=True)

    @column(_("ticked products"))
    def ticked(self, row: Any) -> Any:
        return in_words(row.products, row.names) or _("none")

    @column(_("left alone"))
    def kept(self, row: Any) -> SafeString:
        return in_words(row.preserved, row.names) or NOTHING

    @column(_("selection"))
    def whom(self, row: Any) -> str:
        return str(row.whom)

    @column(_("change emails"), boolean=True)
    def told(self, row: Any) -> bool:
        return bool(row.notify)

    @column(_("reason"))
    def why(self, row: Any) -> Any:
        return row.reason or NOTHING

    @column(_("state"))
    def state_in_words(self, row: Any) -> str:
        state = str(row.get_state_display())
        pause = pause_of(row)
        return labelled(state, str(pause)) if pause else state

    @column(_("users"))
    def counts(self, row: Any) -> SafeString:
        told = [(_now("changed"), row.changed), (_now("unchanged"), row.unchanged), (_now("skipped"), row.skipped)]
        return format_html("{}{}", row.targets, under(", ".join(labelled(label, count) for label, count in told)))

    @column(_("skipped"))
    def skips(self, row: Any) -> Any:
        reasons = (f"{users} × {BulkChangeSkip.Reason(reason).label}" for reason, users in skipped_by_reason(row).items())
        return ", ".join(reasons) or row.skipped

    @column(_("entitlement history"))
    def users(self, row: Any) -> SafeString:
        return page_link("products_accesschange_changelist", _("Users changed"), change=row.pk)

    @column(_("emails"))
    def emails(self, row: Any) -> SafeString:
        return page_link("notifications_notification_changelist", _("Change emails and their fate"), kind=CHANGE, about=row.pk)


# Products


@admin.register(Product)
class ProductAdmin(ReadOnlyAdmin):
    """The catalogue with seats and holders."""

    ordering = ("position", "id")
    list_display = ("name", "code", "holders", "seats", "reserved", "free", "onboarding", "restricted", "retired")
    fieldsets = (
        (None, {"fields": ("name", "code", "onboarding", "restricted", "retired")}),
        (_("Seats"), {"fields": ("holders", "seats", "reserved", "free", "history")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Product]:
        return Product.objects.select_related("seat")

    @column(_("holders"))
    def holders(self, row: Any) -> int:
        return int(row.seat.used)

    @column(_("seats"))
    def seats(self, row: Any) -> Any:
        return _("as many as wanted") if row.seat.seats is None else row.seat.seats

    @column(_("reserved"))
    def reserved(self, row: Any) -> int:
        return int(row.seat.reserved)

    @column(_("free"))
    def free(self, row: Any) -> Any:
        return NOTHING if row.seat.free is None else row.seat.free

    @column(_("retired"))
    def retired(self, row: Any) -> SafeString:
        return moment(row.retired_at)

    @column(_("entitlement history"))
    def history(self, row: Any) -> SafeString:
        granted = page_link("products_accesschange_changelist", _("Granted"), granted=row.pk)
        return format_html("{} · {}", granted, page_link("products_accesschange_changelist", _("Revoked"), revoked=row.pk))


UserAdmin.added_panels.insert(0, timeline_panel)


def _change_links(ids: set[int]) -> dict[int, SafeString]:
    return {change: change_link(change) for change in ids}


def _product_links(ids: set[int]) -> dict[int, SafeString]:
    names = product_names()
    return {product: page_link("products_product_change", names[product], product) for product in ids if product in names}


SUBJECTS["change"], SUBJECTS["product"] = _change_links, _product_links
TOPICS |= {ONBOARDING: _product_links, **dict.fromkeys((CHANGE, *COURSES), _change_links)}
