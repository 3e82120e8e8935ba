"""Django admin under the console's name and sign-in: a reading room, for those whose role may read evidence."""

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from django.contrib.admin import AdminSite
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from admin_console.access import requires
from users.models import Action, Capability, User
from users.queries import can
from users.reading_room import ReadOnlyAdmin
from users.record import record

IN_ORDER = ("User", "AccessChange", "BulkChange", "Notification", "Product", "AdminAction", "Checkpoint", "HistoryBlock")
# The console signs people in and out itself; nothing in here needs the others.
LEFT_OUT = {"logout", "password_change", "password_change_done", "autocomplete", "jsi18n", "view_on_site"}


class ReadingRoom(AdminSite):
    """The only Django admin there is: whatever is registered, what could be written to stays out."""

    site_header = site_title = _("Admin Console")
    index_title = _("Evidence")
    site_url = None

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        """Take in read-only pages; those that packages bring along (groups, email addresses) are not shown."""
        if admin_class is not None and issubclass(admin_class, ReadOnlyAdmin):
            super().register(model_or_iterable, admin_class, **options)

    def has_permission(self, request: HttpRequest) -> bool:
        return can(request.user, Capability.VIEW_EVIDENCE)

    def admin_view(self, view: Callable[..., Any], cacheable: bool = False) -> Any:
        """Return the view behind its guards: signed out, our sign-in; without the capability, 403; anything but reading, 405."""
        return never_cache(requires(Capability.VIEW_EVIDENCE)(require_safe(_recorded(view))))

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """Return the lists in the order in which one looks, under one heading: which app keeps them is nobody's concern."""
        apps = super().get_app_list(request, app_label)
        if app_label is not None:
            return apps
        pages = {page["object_name"]: page for app in apps for page in app["models"]}
        known = [pages.pop(name) for name in IN_ORDER if name in pages]
        evidence = {
            "name": self.index_title,
            "app_label": "evidence",
            "app_url": reverse("admin:index"),
            "has_module_perms": True,
        }
        return [{**evidence, "models": [*known, *pages.values()]}]

    def get_urls(self) -> list[Any]:
        return [url for url in super().get_urls() if getattr(url, "name", None) not in LEFT_OUT]


def _recorded(view: Callable[..., Any]) -> Callable[..., Any]:
    """Return the view, each look at which is recorded: what is searched for may name a person, so it is among the words.

    So is an address that somebody made up: an erasure could not reach it elsewhere.
    """

    @wraps(view)
    def recorded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        page, query = {"page": request.path}, request.META.get("QUERY_STRING", "")
        is_ours = all(str(each).isdigit() for each in kwargs.values())
        words = ({} if is_ours else page) | ({"query": query} if query else {})
        record(Action.EVIDENCE_VIEWED, actor=cast(User, request.user), after=page if is_ours else None, words=words)
        return view(request, *args, **kwargs)

    return recorded
