"""Who: the users, as support reads them. What they hold and which emails they got is told by panels of the apps above."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.timezone import now
from django.utils.translation import gettext_lazy as _

from users.models import Role, User
from users.queries import Status, UserFilter, users_matching, visible_groups, with_status
from users.reading_room import NOTHING, ChoiceFilter, ReadOnlyAdmin, Text, column, moment


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
