"""The list in the order of names is searched in its index alone: what a common fragment needs to read is a hundredth of it."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("users", "0007_emails_of_a_language")]

    operations = [
        migrations.RemoveIndex("user", "users_by_name"),
        migrations.AddIndex("user", models.Index(fields=["name_key", "id"], include=["search_key"], name="users_by_name")),
    ]
