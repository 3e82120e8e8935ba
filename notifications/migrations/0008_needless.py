"""An email is not needed when what it was to tell was taken back. One on how to start with a product may be needed again."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("notifications", "0007_narrow_claims")]

    operations = [
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
                    ("NEEDLESS", "Not needed"),
                ],
                db_default="QUEUED",
                default="QUEUED",
                max_length=8,
                verbose_name="state",
            ),
        ),
        migrations.AddIndex(
            model_name="notification",
            index=models.Index(
                condition=models.Q(("kind", "ONBOARDING"), ("state", "NEEDLESS")),
                fields=["user", "about"],
                name="notifications_needless",
            ),
        ),
    ]
