"""Claims name what a sender has and how far it is; the mail server's rate; addresses that are written to no more."""

import django.contrib.postgres.fields
from django.db import migrations, models

# SENDING was the state of the one email of a batch that a sender was handing over, which its claim tells now. At this moment
# nobody sends: what was claimed is due again, and the one being handed over may have arrived.
NO_CLAIMS_YET = """
UPDATE notifications_notification SET state = 'QUEUED', possible_duplicate = possible_duplicate OR state = 'SENDING'
WHERE state IN ('CLAIMED', 'SENDING')
"""
AS_BEFORE = "UPDATE notifications_notification SET state = 'QUEUED' WHERE state = 'CLAIMED'"
# A claim's row is updated once for each email: what does not change then is kept out of it, and what is left behind is soon
# cleared.
NARROW = """
ALTER TABLE notifications_claim ALTER ids SET STORAGE EXTERNAL, ALTER letters SET STORAGE EXTERNAL;
ALTER TABLE notifications_claim SET (
    toast_tuple_target = 128, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0
)
"""


class Migration(migrations.Migration):
    dependencies = [("notifications", "0003_wordings")]

    operations = [
        migrations.RunSQL(NO_CLAIMS_YET, AS_BEFORE),
        migrations.AlterField(
            model_name="notification",
            name="state",
            field=models.CharField(
                choices=[
                    ("QUEUED", "Queued"),
                    ("CLAIMED", "Being sent"),
                    ("DEFERRED", "Deferred"),
                    ("SENT", "Sent"),
                    ("FAILED", "Failed"),
                    ("UNKNOWN", "Unknown"),
                    ("EXPIRED", "Expired"),
                ],
                db_default="QUEUED",
                default="QUEUED",
                max_length=8,
                verbose_name="state",
            ),
        ),
        migrations.RemoveIndex(model_name="notification", name="notifications_open"),
        migrations.AddIndex(
            model_name="notification",
            index=models.Index(
                condition=models.Q(("state__in", ("QUEUED", "CLAIMED", "DEFERRED"))),
                fields=["lane", "not_before", "id"],
                name="notifications_open",
            ),
        ),
        migrations.CreateModel(
            name="Claim",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("place", models.PositiveSmallIntegerField()),
                ("ends_at", models.DateTimeField()),
                ("ids", django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField())),
                ("sending", models.BigIntegerField(null=True)),
                ("letters", models.JSONField(null=True)),
            ],
        ),
        migrations.RunSQL(NARROW, migrations.RunSQL.noop),
        migrations.CreateModel(
            name="Suppression",
            fields=[
                ("address", models.TextField(primary_key=True, serialize=False, verbose_name="address")),
                ("failures", models.PositiveIntegerField(default=1, verbose_name="failures")),
                ("reason", models.TextField(verbose_name="reason")),
                (
                    "source",
                    models.CharField(
                        choices=[
                            ("REFUSED", "The mail server refused it"),
                            ("BOUNCED", "An email came back"),
                            ("COMPLAINED", "The reader complained of spam"),
                        ],
                        max_length=10,
                        verbose_name="source",
                    ),
                ),
                ("failed_at", models.DateTimeField(verbose_name="last failure")),
                ("since", models.DateTimeField(null=True, verbose_name="suppressed since")),
            ],
            options={
                "indexes": [
                    models.Index(condition=models.Q(("since__isnull", False)), fields=["-since"], name="suppressed_addresses")
                ],
            },
        ),
        migrations.AddField(model_name="mailserver", name="slowed_at", field=models.DateTimeField(null=True)),
        migrations.AddField(model_name="mailserver", name="slowed_from", field=models.FloatField(null=True)),
        migrations.AddField(model_name="mailserver", name="slowed_to", field=models.FloatField(null=True)),
        migrations.AddField(model_name="mailserver", name="allowance", field=models.FloatField(db_default=0, default=0)),
        migrations.AddField(model_name="mailserver", name="allowance_at", field=models.DateTimeField(null=True)),
        migrations.AddField(model_name="mailserver", name="speed", field=models.FloatField(null=True)),
    ]
