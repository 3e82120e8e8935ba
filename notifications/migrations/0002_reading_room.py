"""Indexes for those who read: the emails of a bulk change in their order, the failed ones, and those of some days."""

from django.contrib.postgres.indexes import BrinIndex
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("notifications", "0001_initial")]

    operations = [
        migrations.RemoveIndex(model_name="notification", name="notifications_of_a_change"),
        migrations.AddIndex(
            model_name="notification",
            index=models.Index(condition=models.Q(("kind", "CHANGE")), fields=["about", "id"], name="notifications_of_a_change"),
        ),
        migrations.AddIndex(
            model_name="notification",
            index=models.Index(
                condition=models.Q(("state__in", ("FAILED", "UNKNOWN", "EXPIRED"))), fields=["id"], name="notifications_failed"
            ),
        ),
        migrations.AddIndex(model_name="notification", index=BrinIndex(fields=["owed_at"], name="notifications_by_time")),
    ]
