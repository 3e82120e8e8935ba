"""What a claim has stands apart from the claim, whose row is written once for each email."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models

# Senders may be at work with these claims: what they have stays known.
APART = """
INSERT INTO notifications_claimedemails (claim_id, ids, letters) SELECT id, ids, letters FROM notifications_claim;
ALTER TABLE notifications_claimedemails ALTER ids SET STORAGE EXTERNAL, ALTER letters SET STORAGE EXTERNAL;
ALTER TABLE notifications_claim DROP ids, DROP letters;
ALTER TABLE notifications_claim RESET (toast_tuple_target)
"""
TOGETHER = """
ALTER TABLE notifications_claim ADD ids bigint[], ADD letters jsonb;
UPDATE notifications_claim claim SET ids = emails.ids, letters = emails.letters
FROM notifications_claimedemails emails WHERE emails.claim_id = claim.id;
SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE notifications_claim ALTER ids SET NOT NULL, ALTER ids SET STORAGE EXTERNAL, ALTER letters SET STORAGE EXTERNAL;
ALTER TABLE notifications_claim SET (toast_tuple_target = 128)
"""


class Migration(migrations.Migration):
    dependencies = [("notifications", "0006_erased_names")]

    operations = [
        migrations.CreateModel(
            name="ClaimedEmails",
            fields=[
                (
                    "claim",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.DB_CASCADE,
                        primary_key=True,
                        related_name="emails",
                        serialize=False,
                        to="notifications.claim",
                    ),
                ),
                ("ids", django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField())),
                ("letters", models.JSONField(null=True)),
            ],
        ),
        migrations.RunSQL(
            APART,
            TOGETHER,
            state_operations=[migrations.RemoveField("claim", "ids"), migrations.RemoveField("claim", "letters")],
        ),
    ]
