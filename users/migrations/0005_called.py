"""What Django admin calls these, so that it can be said in every language."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("users", "0004_record")]

    operations = [
        migrations.AlterModelOptions("user", {"verbose_name": "user", "verbose_name_plural": "users"}),
    ]
