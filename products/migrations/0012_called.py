"""What Django admin calls these, so that it can be said in every language."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("products", "0011_erasure")]

    operations = [
        migrations.AlterModelOptions("product", {"verbose_name": "product", "verbose_name_plural": "products"}),
        migrations.AlterModelOptions("bulkchange", {"verbose_name": "bulk change", "verbose_name_plural": "bulk changes"}),
    ]
