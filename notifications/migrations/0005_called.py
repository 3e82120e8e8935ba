"""What Django admin calls these, so that it can be said in every language."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("notifications", "0004_delivery")]

    operations = [
        migrations.AlterModelOptions("notification", {"verbose_name": "notification", "verbose_name_plural": "notifications"}),
    ]
