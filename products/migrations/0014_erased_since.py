from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("products", "0013_packs_withdrawn")]

    operations = [
        migrations.AlterField(
            "bulkchangeskip",
            "reason",
            models.CharField(
                choices=[
                    ("OUTRANKS", "Has a higher role than the admin"),
                    ("OUT_OF_SCOPE", "No longer in the admin's scope"),
                    ("GONE", "No longer exists"),
                    ("NO_SEAT", "No seat was left"),
                    ("CHANGED_SINCE", "Changed again since"),
                    ("ERASED", "Erased since"),
                    ("NOT_ALLOWED", "The admin may not set a product that this would touch"),
                    ("RETIRED", "Would get back a retired product"),
                    ("FAILED", "Could not be changed"),
                ],
                max_length=16,
            ),
        ),
    ]
