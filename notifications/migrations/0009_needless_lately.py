"""A sweep looks again at the emails that were found needless a moment ago."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("notifications", "0008_needless")]

    operations = [
        migrations.AddIndex(
            model_name="notification",
            index=models.Index(
                condition=models.Q(("kind", "ONBOARDING"), ("state", "NEEDLESS")),
                fields=["not_before"],
                name="notifications_needless_lately",
            ),
        ),
    ]
