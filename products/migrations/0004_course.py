"""The course of a bulk change: cancelled, paused, split where it fails, undone; and what it moved, product by product."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

# A page of ids is never looked for inside: compressing 5,000 of them costs more than the disk they take.
PLAIN_IDS = "ALTER TABLE products_bulkchangebatch ALTER COLUMN user_ids SET STORAGE EXTERNAL"
COMPRESSED_IDS = "ALTER TABLE products_bulkchangebatch ALTER COLUMN user_ids SET STORAGE EXTENDED"

# Of the changes from before there were counts, from the history.
MOVES = """
INSERT INTO products_bulkchangemove (change_id, product_id, gained, lost, onboarding)
SELECT change_id, product, sum(gained), sum(lost), sum(onboarding) FROM (
    SELECT h.change_id, unnest(after - before) AS product, 1 AS gained, 0 AS lost, 0 AS onboarding FROM products_accesschange h
    UNION ALL SELECT h.change_id, unnest(before - after), 0, 1, 0 FROM products_accesschange h
    UNION ALL SELECT h.change_id, p.id, 0, 0, 1 FROM products_accesschange h
        JOIN products_product p ON p.onboarding AND p.id = ANY(h.first)
) moves WHERE change_id IN (SELECT id FROM products_bulkchange) GROUP BY change_id, product
"""


class Migration(migrations.Migration):
    dependencies = [
        ("products", "0003_catalogue"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="bulkchange",
            name="failures",
            field=models.PositiveSmallIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name="bulkchange",
            name="state_by",
            field=models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name="+", to=settings.AUTH_USER_MODEL
            ),
        ),
        migrations.AddField(
            model_name="bulkchange",
            name="undoes",
            field=models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name="undone_by", to="products.bulkchange"
            ),
        ),
        migrations.AddField(
            model_name="bulkchange",
            name="until_full",
            field=models.BooleanField(db_default=False, default=False, verbose_name="assign until full"),
        ),
        migrations.AddField(
            model_name="bulkchangebatch",
            name="depth",
            field=models.PositiveSmallIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name="bulkchangebatch",
            name="done_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="bulkchangeskip",
            name="detail",
            field=models.TextField(blank=True, db_default=""),
        ),
        migrations.AlterField(
            model_name="bulkchange",
            name="mode",
            field=models.CharField(
                choices=[("REPLACE", "Replace"), ("ADD", "Add"), ("REMOVE", "Remove"), ("UNDO", "Undo")],
                default="REPLACE",
                max_length=8,
                verbose_name="mode",
            ),
        ),
        migrations.AlterField(
            model_name="bulkchange",
            name="state",
            field=models.CharField(
                choices=[
                    ("RUNNING", "Running"),
                    ("PAUSED", "Paused"),
                    ("FINISHED", "Finished"),
                    ("FAILED", "Finished with errors"),
                    ("CANCELLED", "Cancelled"),
                ],
                default="RUNNING",
                max_length=16,
                verbose_name="state",
            ),
        ),
        migrations.AlterField(
            model_name="bulkchangebatch",
            name="state",
            field=models.CharField(
                choices=[
                    ("WAITING", "Waiting"),
                    ("DONE", "Done"),
                    ("SPLIT", "Split"),
                    ("FAILED", "Failed"),
                    ("CANCELLED", "Cancelled"),
                ],
                db_default="WAITING",
                default="WAITING",
                max_length=16,
            ),
        ),
        migrations.AlterField(
            model_name="bulkchangeskip",
            name="reason",
            field=models.CharField(
                choices=[
                    ("OUTRANKS", "Has a higher role than the admin"),
                    ("OUT_OF_SCOPE", "No longer in the admin's scope"),
                    ("GONE", "No longer exists"),
                    ("NO_SEAT", "No seat was left"),
                    ("CHANGED_SINCE", "Changed again since"),
                    ("NOT_ALLOWED", "The admin may not set a product that this would touch"),
                    ("RETIRED", "Would get back a retired product"),
                    ("FAILED", "Could not be changed"),
                ],
                max_length=16,
            ),
        ),
        migrations.AddField(
            model_name="bulkchangebatch",
            name="size",
            field=models.GeneratedField(
                db_persist=True,
                expression=models.Func(models.F("user_ids"), function="cardinality"),
                output_field=models.IntegerField(),
            ),
        ),
        migrations.CreateModel(
            name="BulkChangeMove",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("gained", models.PositiveIntegerField(db_default=0, default=0)),
                ("lost", models.PositiveIntegerField(db_default=0, default=0)),
                ("onboarding", models.PositiveIntegerField(db_default=0, default=0)),
                (
                    "change",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.DB_CASCADE, related_name="moves", to="products.bulkchange"
                    ),
                ),
                (
                    "product",
                    models.ForeignKey(on_delete=django.db.models.deletion.DO_NOTHING, related_name="+", to="products.product"),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("change", "product"), name="moved_once_in_a_bulk_change")],
            },
        ),
        migrations.RunSQL(PLAIN_IDS, COMPRESSED_IDS),
        migrations.RunSQL(MOVES, migrations.RunSQL.noop),
    ]
