"""Why a change paused is told in its reader's language: its cause is stored, not a sentence in the worker's."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("products", "0014_erased_since")]

    operations = [
        migrations.AddField(
            "bulkchange",
            "state_cause",
            models.CharField(
                blank=True,
                choices=[
                    ("NOT_ALLOWED", "Not Allowed"),
                    ("OUT_OF_REACH", "Out Of Reach"),
                    ("DISK_FULL", "Disk Full"),
                    ("BATCHES_FAILED", "Batches Failed"),
                ],
                db_default="",
                default="",
                max_length=16,
            ),
        ),
    ]
