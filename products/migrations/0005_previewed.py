"""Whom the last preview was for, so that an admin is told who came and who left since."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("products", "0004_course")]

    operations = [
        migrations.CreateModel(
            name="PreviewedUsers",
            fields=[
                (
                    "draft",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.DB_CASCADE,
                        primary_key=True,
                        related_name="previewed",
                        serialize=False,
                        to="products.selectiondraft",
                    ),
                ),
                ("mark", models.BigIntegerField()),
                ("user_ids", django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), size=None)),
            ],
        ),
        # Never looked for inside: compressing millions of ids costs more than the disk they take.
        migrations.RunSQL(
            "ALTER TABLE products_previewedusers ALTER COLUMN user_ids SET STORAGE EXTERNAL", migrations.RunSQL.noop
        ),
    ]
