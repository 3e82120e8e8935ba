"""When the free seats of a product ran low."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("products", "0006_quicker"),
    ]

    operations = [
        migrations.CreateModel(
            name="SeatWarning",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("free", models.PositiveIntegerField()),
                ("seats", models.PositiveIntegerField()),
                ("at", models.DateTimeField()),
                ("over_at", models.DateTimeField(null=True)),
                (
                    "product",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.DO_NOTHING, related_name="seat_warnings", to="products.product"
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("over_at", None)), fields=("product",), name="seats_are_low_once_at_a_time"
                    )
                ],
            },
        ),
    ]
