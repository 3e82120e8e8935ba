"""The list's yardstick: a plain changelist of the users, found by name and email.

It has the order that an index knows and as many rows a page as ours; everything else is Django's own.
"""

from typing import Any

from django.contrib.admin import AdminSite, ModelAdmin
from django.http import HttpRequest, HttpResponse
from django.urls import path

from admin_console.user_list import PAGE_SIZE
from users.models import User


class PlainUserAdmin(ModelAdmin):  # type: ignore[type-arg]  # it takes none at run time
    """Users, as `admin.site.register` shows them."""

    list_display = ("email", "first_name", "last_name", "role", "language", "is_active", "created_at")
    search_fields = ("first_name", "last_name", "email")
    ordering = ("name_key", "id")
    list_per_page = PAGE_SIZE


site = AdminSite(name="plain")
site.register(User, PlainUserAdmin)


def readyz(request: HttpRequest, **_: Any) -> HttpResponse:
    """Say that the server runs."""
    return HttpResponse("ready\n")


urlpatterns = [path("admin/", site.urls), path("readyz", readyz)]
