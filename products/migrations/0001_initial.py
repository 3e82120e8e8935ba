"""The tables of products, product access, bulk changes and selection drafts."""

import uuid

import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.expressions
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("users", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="AccessChange",
            fields=[
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("at", models.DateTimeField(verbose_name="when")),
                (
                    "source",
                    models.CharField(
                        choices=[
                            ("CONSOLE", "Console"),
                            ("IMPORT", "Import"),
                            ("DEMO", "Demo data"),
                            ("HELD_BEFORE", "Held since before the console"),
                            ("OUTSIDE", "Outside the console"),
                        ],
                        max_length=16,
                        verbose_name="source",
                    ),
                ),
                ("db_role", models.TextField(verbose_name="database role")),
                ("before", django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), verbose_name="before")),
                ("after", django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), verbose_name="after")),
                ("first", django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), verbose_name="first time")),
            ],
            options={
                "verbose_name": "entitlement history",
                "verbose_name_plural": "entitlement history",
                "db_table": "products_accesschange",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="Entitlement",
            fields=[
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
            ],
            options={
                "db_table": "products_entitlement",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="Product",
            fields=[
                ("id", models.AutoField(primary_key=True, serialize=False)),
                ("code", models.SlugField(max_length=32, unique=True, verbose_name="code")),
                ("name", models.CharField(max_length=64, unique=True, verbose_name="name")),
                (
                    "onboarding",
                    models.BooleanField(
                        db_default=False,
                        default=False,
                        help_text="A first-ever activation sends an email on how to use it.",
                        verbose_name="onboarding email",
                    ),
                ),
                (
                    "restricted",
                    models.BooleanField(
                        db_default=False,
                        default=False,
                        help_text="Only admins may grant or remove it, managers may not.",
                        verbose_name="restricted",
                    ),
                ),
                ("retired_at", models.DateTimeField(blank=True, null=True, verbose_name="retired")),
                ("position", models.PositiveSmallIntegerField(db_default=0, default=0, verbose_name="position")),
            ],
        ),
        migrations.CreateModel(
            name="BulkChange",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key", models.UUIDField(default=uuid.uuid4, editable=False, verbose_name="key")),
                ("fingerprint", models.CharField(editable=False, max_length=64)),
                (
                    "source",
                    models.CharField(
                        choices=[
                            ("CONSOLE", "Console"),
                            ("IMPORT", "Import"),
                            ("DEMO", "Demo data"),
                            ("HELD_BEFORE", "Held since before the console"),
                            ("OUTSIDE", "Outside the console"),
                        ],
                        default="CONSOLE",
                        max_length=16,
                        verbose_name="source",
                    ),
                ),
                (
                    "mode",
                    models.CharField(
                        choices=[("REPLACE", "Replace"), ("ADD", "Add"), ("REMOVE", "Remove")],
                        default="REPLACE",
                        max_length=8,
                        verbose_name="mode",
                    ),
                ),
                (
                    "products",
                    django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), verbose_name="ticked products"),
                ),
                (
                    "preserved",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.IntegerField(), verbose_name="preserved products"
                    ),
                ),
                ("selection", models.JSONField(verbose_name="selection")),
                ("notify", models.BooleanField(default=True, verbose_name="change emails")),
                ("reason", models.TextField(blank=True, verbose_name="reason")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("RUNNING", "Running"),
                            ("PAUSED", "Paused"),
                            ("FINISHED", "Finished"),
                            ("FAILED", "Finished with errors"),
                        ],
                        default="RUNNING",
                        max_length=8,
                        verbose_name="state",
                    ),
                ),
                ("state_reason", models.TextField(blank=True)),
                ("requested_at", models.DateTimeField(verbose_name="requested")),
                ("finished_at", models.DateTimeField(null=True, verbose_name="finished")),
                ("targets", models.PositiveIntegerField(default=0, verbose_name="users")),
                ("changed", models.PositiveIntegerField(default=0, verbose_name="changed")),
                ("unchanged", models.PositiveIntegerField(default=0, verbose_name="unchanged")),
                ("skipped", models.PositiveIntegerField(default=0, verbose_name="skipped")),
                ("suspended", models.PositiveIntegerField(default=0, verbose_name="suspended")),
                ("restored", models.PositiveIntegerField(default=0, verbose_name="came back")),
                (
                    "actor",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="bulk_changes",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="BulkChangeBatch",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("n", models.PositiveIntegerField()),
                ("user_ids", django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField())),
                ("first_user", models.IntegerField()),
                ("last_user", models.IntegerField()),
                (
                    "state",
                    models.CharField(
                        choices=[("WAITING", "Waiting"), ("DONE", "Done"), ("FAILED", "Failed")],
                        db_default="WAITING",
                        default="WAITING",
                        max_length=8,
                    ),
                ),
                ("attempts", models.PositiveSmallIntegerField(db_default=0, default=0)),
                ("lease_until", models.DateTimeField(null=True)),
                ("error", models.TextField(blank=True, db_default="")),
                (
                    "change",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.DB_CASCADE, related_name="batches", to="products.bulkchange"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="BulkChangeSkip",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("user_id", models.IntegerField()),
                (
                    "reason",
                    models.CharField(
                        choices=[
                            ("OUTRANKS", "Has a higher role than the admin"),
                            ("OUT_OF_SCOPE", "No longer in the admin's scope"),
                            ("GONE", "No longer exists"),
                            ("NO_SEAT", "No seat was left"),
                            ("FAILED", "Could not be changed"),
                        ],
                        max_length=16,
                    ),
                ),
                (
                    "change",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.DB_CASCADE, related_name="skips", to="products.bulkchange"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Seat",
            fields=[
                (
                    "product",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="seat",
                        serialize=False,
                        to="products.product",
                    ),
                ),
                (
                    "seats",
                    models.PositiveIntegerField(
                        blank=True, help_text="Empty: as many as wanted.", null=True, verbose_name="seats"
                    ),
                ),
                ("used", models.PositiveIntegerField(db_default=0, default=0, verbose_name="used")),
                ("reserved", models.PositiveIntegerField(db_default=0, default=0, verbose_name="reserved")),
            ],
        ),
        migrations.CreateModel(
            name="ProductAccess",
            fields=[
                (
                    "user",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.DB_CASCADE,
                        primary_key=True,
                        related_name="product_access",
                        serialize=False,
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "products",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.IntegerField(),
                        db_default=models.Value(
                            [], output_field=django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField())
                        ),
                        default=list,
                    ),
                ),
                (
                    "ever",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.IntegerField(),
                        db_default=models.Value(
                            [], output_field=django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField())
                        ),
                        default=list,
                    ),
                ),
                (
                    "suspended",
                    models.GeneratedField(
                        db_persist=True,
                        expression=models.Q(
                            (
                                "products",
                                models.Value(
                                    [], output_field=django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField())
                                ),
                            )
                        ),
                        output_field=models.BooleanField(),
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(condition=models.Q(("suspended", True)), fields=["user"], name="suspended_users")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("products__contained_by", models.F("ever"))), name="what_is_held_was_ever_held"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="SeatReservation",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("reserved", models.PositiveIntegerField()),
                (
                    "change",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.DB_CASCADE, related_name="reservations", to="products.bulkchange"
                    ),
                ),
                (
                    "product",
                    models.ForeignKey(on_delete=django.db.models.deletion.DO_NOTHING, related_name="+", to="products.product"),
                ),
            ],
        ),
        migrations.CreateModel(
            name="SelectionDraft",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("everyone", models.BooleanField(default=False)),
                ("filter", models.JSONField(default=dict)),
                ("ids", django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), default=list)),
                ("touched_at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "owner",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.DB_CASCADE,
                        related_name="selection_draft",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
        ),
        migrations.AddIndex(
            model_name="bulkchange",
            index=models.Index(
                condition=models.Q(("state__in", ["RUNNING", "PAUSED"])), fields=["state", "id"], name="unfinished_bulk_changes"
            ),
        ),
        migrations.AddIndex(
            model_name="bulkchange",
            index=models.Index(fields=["actor", "-id"], name="bulk_changes_of_an_actor"),
        ),
        migrations.AddConstraint(
            model_name="bulkchange",
            constraint=models.UniqueConstraint(fields=("actor", "key"), name="bulk_change_is_applied_once", nulls_distinct=False),
        ),
        migrations.AddIndex(
            model_name="bulkchangebatch",
            index=models.Index(condition=models.Q(("state", "WAITING")), fields=["change", "n"], name="waiting_batches"),
        ),
        migrations.AddConstraint(
            model_name="bulkchangebatch",
            constraint=models.UniqueConstraint(fields=("change", "n"), name="bulk_change_batch_number"),
        ),
        migrations.AddConstraint(
            model_name="bulkchangeskip",
            constraint=models.UniqueConstraint(fields=("change", "user_id"), name="skipped_once_in_a_bulk_change"),
        ),
        migrations.AddConstraint(
            model_name="seat",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("seats", None),
                    ("seats__gte", django.db.models.expressions.CombinedExpression(models.F("used"), "+", models.F("reserved"))),
                    _connector="OR",
                ),
                name="seats_are_never_oversold",
            ),
        ),
        migrations.AddConstraint(
            model_name="seatreservation",
            constraint=models.UniqueConstraint(fields=("change", "product"), name="seats_reserved_once"),
        ),
    ]
