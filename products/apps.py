from django.apps import AppConfig


class ProductsConfig(AppConfig):
    name = "products"

    def ready(self) -> None:
        """Tell the outbox below us how to compose the emails about products, and when bulk changes want the worker too."""
        from notifications.actions import makes_way_for
        from products import emails, news, queries

        emails.register()
        news.register()
        makes_way_for.append(lambda: queries.unfinished().exists())
