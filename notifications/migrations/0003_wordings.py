"""What admins write emails with: wordings and the organisation's identity, version by version; and which one an email had.

A version is written once and stays, for emails name it: the database refuses to change or delete one.
"""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

VERSIONS_STAY = """
CREATE FUNCTION notifications_versions_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on % is refused: emails name their version, so write a new one', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER notifications_wording_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON notifications_wording
    FOR EACH STATEMENT EXECUTE FUNCTION notifications_versions_stay();
CREATE TRIGGER notifications_identity_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON notifications_mailidentity
    FOR EACH STATEMENT EXECUTE FUNCTION notifications_versions_stay();
"""
VERSIONS_GO = """
DROP TRIGGER notifications_identity_stays ON notifications_mailidentity;
DROP TRIGGER notifications_wording_stays ON notifications_wording;
DROP FUNCTION notifications_versions_stay();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("notifications", "0002_reading_room"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="notification",
            name="version",
            field=models.PositiveIntegerField(null=True, verbose_name="version"),
        ),
        migrations.CreateModel(
            name="MailIdentity",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("organisation", models.CharField(blank=True, max_length=80, verbose_name="name of the organisation")),
                ("sender_name", models.CharField(blank=True, max_length=80, verbose_name="name of the sender")),
                ("sender_address", models.EmailField(blank=True, max_length=254, verbose_name="address of the sender")),
                (
                    "reply_to",
                    models.CharField(
                        choices=[
                            ("NOBODY", "Nobody: emails say that replies are not read"),
                            ("ADDRESS", "This address"),
                            ("ACTOR", "The admin who acted"),
                        ],
                        default="NOBODY",
                        max_length=8,
                        verbose_name="replies go to",
                    ),
                ),
                ("reply_address", models.EmailField(blank=True, max_length=254, verbose_name="address for replies")),
                ("names_actor", models.BooleanField(default=False, verbose_name="emails name the admin who acted")),
                ("accent", models.CharField(default="#2f6fde", max_length=7, verbose_name="colour")),
                ("logo", models.BinaryField(null=True)),
                ("made_at", models.DateTimeField(null=True, verbose_name="when")),
                (
                    "made_by",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="by",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("reply_to__in", ["NOBODY", "ADDRESS", "ACTOR"])),
                        name="mail_replies_go_somewhere_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("reply_to", "ADDRESS"), _negated=True),
                            models.Q(("reply_address", ""), _negated=True),
                            _connector="OR",
                        ),
                        name="mail_replies_have_an_address",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("accent__regex", "^#[0-9a-f]{6}$")), name="mail_colour_is_a_colour"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Wording",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("kind", models.CharField(max_length=16, verbose_name="kind")),
                ("variant", models.CharField(blank=True, max_length=32)),
                (
                    "language",
                    models.CharField(
                        choices=[
                            ("en", "English"),
                            ("fr", "Français"),
                            ("it", "Italiano"),
                            ("de", "Deutsch"),
                            ("es", "Español"),
                            ("pt", "Português"),
                            ("nl", "Nederlands"),
                        ],
                        max_length=5,
                        verbose_name="language",
                    ),
                ),
                ("number", models.PositiveIntegerField(verbose_name="version")),
                ("subject", models.TextField(blank=True, verbose_name="subject")),
                ("html", models.TextField(blank=True)),
                ("text", models.TextField(blank=True, verbose_name="text")),
                ("made_at", models.DateTimeField(verbose_name="when")),
                (
                    "made_by",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="by",
                    ),
                ),
                (
                    "restores",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="notifications.wording",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("kind", "variant", "language", "number"), name="wording_is_numbered"),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("html", ""), ("subject", ""), ("text", "")),
                            models.Q(models.Q(("subject", ""), _negated=True), models.Q(("html", ""), _negated=True)),
                            _connector="OR",
                        ),
                        name="wording_is_whole_or_nothing",
                    ),
                ],
            },
        ),
        migrations.RunSQL(VERSIONS_STAY, VERSIONS_GO),
    ]
