"""What has to be there as soon as Django is."""

from django.apps import AppConfig
from django.contrib.admin import apps as django_admin


class AdminConsoleConfig(AppConfig):
    name = "admin_console"
    default = True

    def ready(self) -> None:
        # shared_task finds its app by this.
        from admin_console import (
            celery,  # noqa: F401
            signing_in,
        )

        signing_in.record_it()


class ReadingRoomConfig(django_admin.AdminConfig):
    """Django's own admin app, with our site for its only one."""

    default = False
    default_site = "admin_console.site.ReadingRoom"
