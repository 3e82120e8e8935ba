"""The catalogue that the console starts with."""

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

# code, name, whether a first-ever activation sends an onboarding email, whether only admins may grant it
CATALOGUE = [
    ("connect", "GoTo Connect", False, True),
    ("meeting", "GoTo Meeting", True, False),
    ("webinar", "GoTo Webinar", True, False),
    ("training", "GoTo Training", True, False),
    ("openvoice", "OpenVoice", True, False),
    ("resolve", "GoTo Resolve", False, False),
    ("rescue", "Rescue", False, False),
    ("assist", "GoToAssist", False, False),
    ("joinme", "join.me", False, False),
    ("grasshopper", "Grasshopper", False, False),
    ("mypc", "GoToMyPC", False, False),
    ("central", "Central", False, True),
]


def add_catalogue(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    Product = apps.get_model("products", "Product")
    Product.objects.using(schema_editor.connection.alias).bulk_create(
        Product(code=code, name=name, onboarding=onboarding, restricted=restricted, position=position)
        for position, (code, name, onboarding, restricted) in enumerate(CATALOGUE, 1)
    )


def remove_catalogue(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    for name in ("Seat", "Product"):
        apps.get_model("products", name).objects.using(schema_editor.connection.alias).all().delete()


class Migration(migrations.Migration):
    dependencies = [("products", "0002_heart")]

    operations = [migrations.RunPython(add_catalogue, remove_catalogue)]
