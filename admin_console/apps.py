"""What has to be there as soon as Django is."""

from django.apps import AppConfig


class AdminConsoleConfig(AppConfig):
    name = "admin_console"

    def ready(self) -> None:
        # shared_task finds its app by this.
        from admin_console import celery  # noqa: F401
