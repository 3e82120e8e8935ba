import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("products", "0010_tally"), migrations.swappable_dependency(settings.AUTH_USER_MODEL)]

    operations = [
        migrations.CreateModel(
            name="EvidencePack",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("wanted", models.JSONField(default=dict, verbose_name="filter")),
                (
                    "state",
                    models.CharField(
                        choices=[("WAITING", "Waiting"), ("READY", "Ready"), ("FAILED", "Failed"), ("EXPIRED", "Expired")],
                        default="WAITING",
                        max_length=8,
                        verbose_name="state",
                    ),
                ),
                ("requested_at", models.DateTimeField(verbose_name="requested")),
                ("last_id", models.BigIntegerField(verbose_name="last row")),
                ("reached", models.BigIntegerField(db_default=0, default=0)),
                ("pieces", models.PositiveIntegerField(db_default=0, default=0)),
                ("rows", models.PositiveBigIntegerField(db_default=0, default=0, verbose_name="rows")),
                ("files", models.JSONField(db_default={}, default=dict)),
                ("lease_until", models.DateTimeField(null=True)),
                ("attempts", models.PositiveSmallIntegerField(db_default=0, default=0)),
                ("size", models.PositiveBigIntegerField(db_default=0, default=0, verbose_name="bytes")),
                ("expires_at", models.DateTimeField(null=True, verbose_name="kept until")),
                (
                    "actor",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="by",
                    ),
                ),
                (
                    "checkpoint",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="products.checkpoint",
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(condition=models.Q(("state", "WAITING")), fields=["id"], name="waiting_evidence_packs")],
            },
        ),
    ]
