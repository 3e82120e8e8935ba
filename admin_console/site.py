"""Django admin under the console's name and sign-in: a reading room, for those whose role may read evidence."""

from collections.abc import Callable
from typing import Any

from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponseBase
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from admin_console.access import requires
from users.models import Capability
from users.queries import can
from users.reading_room import ReadOnlyAdmin

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

    def admin_view(self, view: Callable[..., Any], cacheable: bool = False) -> Callable[..., HttpResponseBase]:
        """Return the view behind its guards: signed out, our sign-in; without the capability, 403; anything but reading, 405."""
        return never_cache(requires(Capability.VIEW_EVIDENCE)(require_safe(view)))

    def get_urls(self) -> list[Any]:
        return [url for url in super().get_urls() if getattr(url, "name", None) not in LEFT_OUT]
