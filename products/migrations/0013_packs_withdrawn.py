"""An evidence pack that expired, or was withdrawn because somebody was erased, keeps nothing that may name a person."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("products", "0012_called")]

    operations = [
        migrations.AddConstraint(
            "evidencepack",
            models.CheckConstraint(
                condition=models.Q(
                    models.Q(("state", "EXPIRED"), _negated=True), models.Q(("files", {}), ("wanted", {})), _connector="OR"
                ),
                name="expired_packs_tell_nothing",
            ),
        ),
    ]
