"""What is owed by mail: every email and its fate, as support reads it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from notifications.emails import KINDS
from notifications.message_ids import parts_of, without_seal
from notifications.models import Notification, State
from notifications.queries import letters_of
from users.admin import UserAdmin
from users.models import User
from users.reading_list import AFTER, BEFORE
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
    page_link,
    person_link,
    under,
)

SHOWN = 50  # emails on a user's page


# By kind: links to what emails tell of, by its ids. Filled in by the apps whose emails these are.
TOPICS: dict[str, Callable[[set[int]], Mapping[int, SafeString]]] = {}


class ByPerson(PersonFilter):
    name, field = "person", "user"  # served by notification_owed_once (user, kind, about)
    title = _("User")


class ByKind(ChoiceFilter):
    name = field = "kind"
    title = _("Kind")

    def options(self) -> Sequence[tuple[str, Text]]:
        return [(kind.name, kind.label) for kind in KINDS.values()]


class ByAbout(NumberFilter):
    name = field = "about"  # for one change served by notifications_of_a_change
    title = _("About")
    hint = _("Number of what it tells of")


class ByState(ChoiceFilter):
    name = field = "state"
    title = _("State")

    def options(self) -> Sequence[tuple[str, Text]]:
        return State.choices


class Owed(PeriodFilter):
    field = "owed_at"


@admin.register(Notification)
class NotificationAdmin(ReadOnlyAdmin):
    """The emails, newest first."""

    search_fields = ("name", "email", "message_id")
    search_help_text = _("Any part of the user's name or email, or a whole Message-ID.")
    list_display = ("owed", "person", "what", "fate", "attempts", "sent", "words")
    list_filter = (ByPerson, ByKind, ByAbout, ByState, Owed)
    fieldsets = (
        (None, {"fields": ("person", "kind_of_email", "about_what", "owed")}),
        (None, {"fields": ("state", "attempts", "next_try", "sent", "words", "possible_duplicate", "told_in")}),
        (None, {"fields": ("to_address", "language", "subject", "message_id")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Notification]:
        return Notification.objects.defer("message")

    def is_rare(self, request: HttpRequest) -> bool:
        """Return whether emails of a kind are asked for: no index knows the kind alone, and the newest may all be of another."""
        return {name for name, value in request.GET.items() if value} - {BEFORE, AFTER} == {"kind"}

    def dress(self, rows: Sequence[Any]) -> None:
        users = User.objects.defer("password").in_bulk({row.user_id for row in rows})
        links = {
            kind: links_of({row.about for row in rows if row.kind == kind})
            for kind, links_of in TOPICS.items()
            if any(row.kind == kind for row in rows)
        }
        for row in rows:
            row.users, row.link = users, links.get(row.kind, {}).get(row.about)
            row.message_id = without_seal(row.message_id)

    def found(self, rows: QuerySet[Any], words: str) -> QuerySet[Any]:
        return rows.filter(of_people("user", words) | _with_message_id(words))

    def heading(self, row: Any) -> str:
        return str(_("Email #%(number)s") % {"number": row.pk})

    @column(_("owed since"))
    def owed(self, row: Any) -> SafeString:
        return moment(row.owed_at)

    @column(_("user"))
    def person(self, row: Any) -> SafeString:
        return person_link(row.user_id, row.users)

    @column(_("kind"))
    def kind_of_email(self, row: Any) -> str:
        return str(KINDS[row.kind].label) if row.kind in KINDS else row.kind

    @column(_("about"))
    def about_what(self, row: Any) -> SafeString:
        return row.link or NOTHING

    @column(_("about"))
    def what(self, row: Any) -> SafeString:
        return format_html("{} {}", self.kind_of_email(row), row.link or "")

    @column(_("state"))
    def fate(self, row: Any) -> SafeString:
        return format_html("{}{}", row.get_state_display(), under(_("possible duplicate")) if row.possible_duplicate else "")

    @column(_("sent"))
    def sent(self, row: Any) -> SafeString:
        return moment(row.sent_at)

    @column(_("next try"))
    def next_try(self, row: Any) -> SafeString:
        return moment(row.not_before) if row.is_open else NOTHING

    @column(_("the server's last words"))
    def words(self, row: Any) -> Any:
        return f"{row.last_code or ''} {row.last_words}".strip() or NOTHING

    @column(_("told in"))
    def told_in(self, row: Any) -> SafeString:
        if row.told_by_id is None:
            return NOTHING
        return page_link("notifications_notification_change", f"#{row.told_by_id}", row.told_by_id)


def _with_message_id(words: str) -> Q:
    """Return the condition on an email to have this Message-ID, by what it is made of: an index finds that."""
    parts = parts_of(words)
    return Q(user=parts.user, kind=parts.kind, about=parts.about) if parts else Q(pk=None)


def emails_panel(request: HttpRequest, user: User) -> SafeString:
    """Return the newest emails of a user, and the way to all of them."""
    letters = list(letters_of(user).defer("message")[: SHOWN + 1])
    pages = NotificationAdmin(Notification, admin.site)
    pages.dress(letters)
    rows = [
        (
            page_link("notifications_notification_change", moment(letter.owed_at), letter.pk),
            pages.kind_of_email(letter),
            pages.about_what(letter),
            pages.fate(letter),
            pages.sent(letter),
            pages.words(letter),
        )
        for letter in letters[:SHOWN]
    ]
    everything = page_link("notifications_notification_changelist", _("All emails of this user"), person=user.pk)
    context = {"rows": rows, "everything": everything, "is_cut": len(letters) > SHOWN, "shown": SHOWN}
    return SafeString(render_to_string("admin/users/user/emails.html", context, request))


UserAdmin.added_panels.append(emails_panel)
