from django.apps import AppConfig


class ProductsConfig(AppConfig):
    name = "products"

    def ready(self) -> None:
        """Tell the outbox below us how to compose the emails about products."""
        from products import emails

        emails.register()
