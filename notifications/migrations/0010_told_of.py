"""A failure that the provider tells of again is not another one: which email it told of the last time."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("notifications", "0009_needless_lately")]

    operations = [
        migrations.AddField(model_name="suppression", name="told_of", field=models.TextField(db_default="", default=""))
    ]
