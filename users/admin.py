"""Who: the users, and what admins did, as support reads them. What users hold and which emails they got, the apps above tell."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.timezone import now
from django.utils.translation import gettext_lazy as _

from users.models import Action, AdminAction, Role, User, UserGroup
from users.queries import Status, UserFilter, users_matching, visible_groups, with_status
from users.reading_room import (
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
    person_link,
)
from users.typed import number


class ByRole(ChoiceFilter):
    name = field = "role"
    title = _("Role")

    def options(self) -> Sequence[tuple[str, Text]]:
        return Role.choices


class ByStatus(ChoiceFilter):
    name = "status"
    title = _("Status")

    def options(self) -> Sequence[tuple[str, Text]]:
        return Status.choices

    def chosen(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        return users_matching(rows, UserFilter(status=(self.value,)), now=now())


class ByGroup(ChoiceFilter):
    name = "group"
    title = _("User group")

    def options(self) -> Sequence[tuple[str, Text]]:
        return [*((str(pk), path) for pk, path in visible_groups(self.request.user)), ("0", _("No group"))]

    def chosen(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        return users_matching(rows, UserFilter(group=(int(self.value),)), now=now())


@admin.register(User)
class UserAdmin(ReadOnlyAdmin):
    """The people, found by half a name. A person's page goes on with the panels that other apps add."""

    # Each gets the request and the user, and returns what it shows.
    added_panels: ClassVar[list[Callable[[HttpRequest, User], SafeString]]] = []

    ordering = ("name_key", "id")
    search_fields = ("name", "email")
    search_help_text = _("Any part of the name or the email; accents and capitals do not matter.")
    list_display = ("name", "email", "role", "status", "group_names")
    list_filter = (ByRole, ByStatus, ByGroup)
    fieldsets = (
        (None, {"fields": ("name", "email", "role", "status", "may_sign_in", "last_seen_at")}),
        (None, {"fields": ("group_names", "managed_group_names", "language", "time_zone", "added")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        found = with_status(User.objects.defer("password"), now=now())
        return found.prefetch_related("groups", "managed_groups")

    def found(self, rows: QuerySet[Any], words: str) -> QuerySet[Any]:
        return users_matching(rows, UserFilter(search=words), now=now())

    def panels(self, request: HttpRequest, row: Any) -> Iterable[SafeString]:
        return [panel(request, row) for panel in self.added_panels]

    def heading(self, row: Any) -> str:
        return str(row.name)

    @column(_("name"))
    def name(self, row: Any) -> str:
        return str(row.name)

    @column(_("status"))
    def status(self, row: Any) -> str:
        return str(Status(row.status).label)

    @column(_("user groups"))
    def group_names(self, row: Any) -> str:
        return ", ".join(sorted(group.name for group in row.groups.all())) or NOTHING

    @column(_("manages"))
    def managed_group_names(self, row: Any) -> str:
        return ", ".join(sorted(group.name for group in row.managed_groups.all())) or NOTHING

    @column(_("may sign in"), boolean=True)
    def may_sign_in(self, row: Any) -> bool:
        return bool(row.is_active)

    @column(_("last seen"))
    def last_seen_at(self, row: Any) -> SafeString:
        return moment(row.seen_at)

    @column(_("added"))
    def added(self, row: Any) -> SafeString:
        return moment(row.created_at)


# What admins did, other than to what users hold


class DoneBy(PersonFilter):
    name, field = "by", "actor"  # served by admin_actions_of_an_actor
    title = _("By")


class ByAction(ChoiceFilter):
    name = field = "action"  # served by admin_actions_of_a_kind
    title = _("What was done")

    def options(self) -> Sequence[tuple[str, Text]]:
        return Action.choices


class ToSubject(NumberFilter):
    name, field = "to", "subject_id"  # served by admin_actions_on_a_subject
    title = _("Done to (number)")


def _user_links(ids: set[int]) -> dict[int, SafeString]:
    users = User.objects.defer("password").in_bulk(ids)
    return {pk: person_link(pk, users, brief=True) for pk in ids}


def _group_names(ids: set[int]) -> dict[int, SafeString]:
    return {pk: format_html("{}", name) for pk, name in UserGroup.objects.filter(pk__in=ids).values_list("id", "name")}


# By what the code of an action begins with: links to what it was done to, by its ids. Filled in by the apps above too.
SUBJECTS: dict[str, Callable[[set[int]], Mapping[int, SafeString]]] = {"user": _user_links, "group": _group_names}


@admin.register(AdminAction)
class AdminActionAdmin(ReadOnlyAdmin):
    """The record of what admins do, newest first."""

    search_fields = ("name", "email", "number")
    search_help_text = _("Any part of the name or email of who did it, or the number of what it was done to.")
    list_display = ("when", "by", "what", "to", "was", "became", "words_told")
    list_filter = (DoneBy, ByAction, ToSubject, PeriodFilter)
    fieldsets = ((None, {"fields": ("when", "by", "what", "to", "was", "became", "words_told", "db_role")}),)

    def dress(self, rows: Sequence[Any]) -> None:
        users = User.objects.defer("password").in_bulk({row.actor_id for row in rows if row.actor_id is not None})
        kinds: dict[str, set[int]] = {}
        for row in rows:
            if row.subject_id is not None:
                kinds.setdefault(row.subject, set()).add(row.subject_id)
        links = {kind: SUBJECTS[kind](ids) for kind, ids in kinds.items() if kind in SUBJECTS}
        for row in rows:
            row.users, row.link = users, links.get(row.subject, {}).get(row.subject_id)

    def found(self, rows: QuerySet[Any], words: str) -> QuerySet[Any]:
        if (subject := number(words)) is not None:
            return rows.filter(subject_id=subject)
        return rows.filter(of_people("actor", words))

    def heading(self, row: Any) -> str:
        return str(row.sentence)

    @column(_("when"))
    def when(self, row: Any) -> SafeString:
        return moment(row.at)

    @column(_("by"))
    def by(self, row: Any) -> SafeString:
        return person_link(row.actor_id, row.users, brief=True)

    @column(_("what was done"))
    def what(self, row: Any) -> str:
        return str(row.sentence)

    @column(_("done to"))
    def to(self, row: Any) -> Any:
        return row.link or (NOTHING if row.subject_id is None else f"#{row.subject_id}")

    @column(_("before"))
    def was(self, row: Any) -> Any:
        return _facts(row.before)

    @column(_("afterwards"))
    def became(self, row: Any) -> Any:
        return _facts(row.after)

    @column(_("words"))
    def words_told(self, row: Any) -> Any:
        return _("erased") if row.is_erased else _facts(row.words)


def _facts(told: Mapping[str, Any] | None) -> SafeString:
    """Return what was recorded, a line for each fact."""
    if not told:
        return NOTHING
    facts = (
        (name, value if isinstance(value, str | int) else json.dumps(value, ensure_ascii=False)) for name, value in told.items()
    )
    return format_html_join("", '<span class="reading-fact" translate="no"><span class="quiet">{}:</span> {}</span>', facts)
