"""The outbox, the mail server's row and the messages of the built-in mail sink."""

import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

# Each row is updated three times on its way: its dead versions at the head of the queue's index are what slows claiming down.
VACUUM_EARLY = (
    "ALTER TABLE notifications_notification SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0)"
)
VACUUM_AS_USUAL = "ALTER TABLE notifications_notification RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_cost_delay)"


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="SinkMessage",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "received_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), default=django.utils.timezone.now),
                ),
                ("sender", models.TextField()),
                ("recipients", django.contrib.postgres.fields.ArrayField(base_field=models.TextField())),
                ("raw", models.BinaryField()),
                ("confidential", models.BooleanField(db_default=False, default=False)),
            ],
        ),
        migrations.CreateModel(
            name="MailServer",
            fields=[
                ("id", models.PositiveSmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("down_since", models.DateTimeField(null=True)),
                ("failures", models.PositiveIntegerField(default=0)),
                ("next_try_at", models.DateTimeField(null=True)),
                ("last_words", models.TextField(default="")),
            ],
            options={
                "constraints": [models.CheckConstraint(condition=models.Q(("id", 1)), name="there_is_one_mail_server")],
            },
        ),
        migrations.CreateModel(
            name="Notification",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("kind", models.CharField(max_length=16, verbose_name="kind")),
                ("about", models.BigIntegerField(verbose_name="about")),
                ("lane", models.PositiveSmallIntegerField()),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("QUEUED", "Queued"),
                            ("CLAIMED", "Being sent"),
                            ("SENDING", "Talking to the server"),
                            ("DEFERRED", "Deferred"),
                            ("SENT", "Sent"),
                            ("FAILED", "Failed"),
                            ("UNKNOWN", "Unknown"),
                            ("EXPIRED", "Expired"),
                        ],
                        db_default="QUEUED",
                        default="QUEUED",
                        max_length=8,
                        verbose_name="state",
                    ),
                ),
                ("attempts", models.PositiveSmallIntegerField(db_default=0, default=0, verbose_name="attempts")),
                (
                    "not_before",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        default=django.utils.timezone.now,
                        verbose_name="next try",
                    ),
                ),
                ("possible_duplicate", models.BooleanField(db_default=False, default=False, verbose_name="possible duplicate")),
                (
                    "owed_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        default=django.utils.timezone.now,
                        verbose_name="owed since",
                    ),
                ),
                ("sent_at", models.DateTimeField(null=True, verbose_name="sent")),
                ("to_address", models.CharField(db_default="", default="", max_length=320, verbose_name="to")),
                ("language", models.CharField(db_default="", default="", max_length=5, verbose_name="language")),
                ("subject", models.TextField(db_default="", default="", verbose_name="subject")),
                ("message_id", models.TextField(db_default="", default="", verbose_name="Message-ID")),
                ("last_code", models.PositiveSmallIntegerField(null=True, verbose_name="reply code")),
                ("last_words", models.TextField(db_default="", default="", verbose_name="the server's last words")),
                ("message", models.JSONField(editable=False, null=True)),
                (
                    "told_by",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        to="notifications.notification",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="notifications",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="user",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("state__in", ("QUEUED", "CLAIMED", "SENDING", "DEFERRED"))),
                        fields=["lane", "not_before", "id"],
                        name="notifications_open",
                    ),
                    models.Index(condition=models.Q(("kind", "CHANGE")), fields=["about"], name="notifications_of_a_change"),
                ],
                "constraints": [models.UniqueConstraint(fields=("user", "kind", "about"), name="notification_owed_once")],
            },
        ),
        migrations.RunSQL(VACUUM_EARLY, VACUUM_AS_USUAL),
    ]
