from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    name = "notifications"

    def ready(self) -> None:
        """Make known the emails of this app that have rooms of their own."""
        from notifications import addresses

        addresses.register()
