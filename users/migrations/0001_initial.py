"""The tables of users, groups and roles, and the text functions that their generated columns need."""

import django.contrib.postgres.indexes
import django.db.models.deletion
import django.db.models.functions.datetime
import django.db.models.functions.text
import django.utils.timezone
from django.conf import settings
from django.contrib.postgres.operations import CreateExtension, TrigramExtension, UnaccentExtension
from django.db import migrations, models

# unaccent() is only STABLE, because its dictionary may be replaced; naming the dictionary of the extension makes it safe to fix.
FOLD = """
CREATE FUNCTION users_fold(text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN lower(public.unaccent('public.unaccent'::regdictionary, $1) COLLATE "default")
"""


class Migration(migrations.Migration):
    initial = True

    dependencies: list[tuple[str, str]] = []

    operations = [
        TrigramExtension(),
        UnaccentExtension(),
        CreateExtension("intarray"),
        migrations.RunSQL(FOLD, "DROP FUNCTION users_fold(text)"),
        migrations.CreateModel(
            name="User",
            fields=[
                ("password", models.CharField(max_length=128, verbose_name="password")),
                ("id", models.AutoField(primary_key=True, serialize=False)),
                ("email", models.EmailField(db_collation="C", max_length=254, unique=True, verbose_name="email")),
                ("first_name", models.CharField(blank=True, db_default="", max_length=64, verbose_name="first name")),
                ("last_name", models.CharField(blank=True, db_default="", max_length=64, verbose_name="last name")),
                (
                    "language",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("en", "English"),
                            ("fr", "Français"),
                            ("it", "Italiano"),
                            ("de", "Deutsch"),
                            ("es", "Español"),
                            ("pt", "Português"),
                            ("nl", "Nederlands"),
                        ],
                        db_default="",
                        max_length=5,
                        verbose_name="language",
                    ),
                ),
                ("time_zone", models.CharField(blank=True, db_default="", max_length=64, verbose_name="time zone")),
                (
                    "role",
                    models.CharField(
                        choices=[
                            ("MEMBER", "Member"),
                            ("MANAGER", "Manager"),
                            ("ADMIN", "Admin"),
                            ("SUPER_ADMIN", "Super admin"),
                            ("SUPPORT", "Support"),
                        ],
                        db_default="MEMBER",
                        default="MEMBER",
                        max_length=16,
                        verbose_name="role",
                    ),
                ),
                ("is_active", models.BooleanField(db_default=True, default=True, verbose_name="may sign in")),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        default=django.utils.timezone.now,
                        verbose_name="added",
                    ),
                ),
                (
                    "name_key",
                    models.GeneratedField(
                        db_persist=True,
                        expression=models.Func(
                            django.db.models.functions.text.Concat(
                                models.F("first_name"), models.Value(" "), models.F("last_name"), output_field=models.TextField()
                            ),
                            function="users_fold",
                            output_field=models.TextField(db_collation="C"),
                        ),
                        output_field=models.TextField(db_collation="C"),
                    ),
                ),
                (
                    "search_key",
                    models.GeneratedField(
                        db_persist=True,
                        expression=models.Func(
                            django.db.models.functions.text.Concat(
                                models.F("first_name"),
                                models.Value(" "),
                                models.F("last_name"),
                                models.Value("\n"),
                                models.F("email"),
                                output_field=models.TextField(),
                            ),
                            function="users_fold",
                            output_field=models.TextField(db_collation="C"),
                        ),
                        output_field=models.TextField(db_collation="C"),
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="LastSeen",
            fields=[
                (
                    "user",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.DB_CASCADE,
                        primary_key=True,
                        related_name="last_seen",
                        serialize=False,
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("first_at", models.DateTimeField()),
                ("at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="UserGroup",
            fields=[
                ("id", models.AutoField(primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=120, verbose_name="name")),
                (
                    "parent",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="subgroups",
                        to="users.usergroup",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="GroupMembership",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.DB_CASCADE, related_name="memberships", to=settings.AUTH_USER_MODEL
                    ),
                ),
                (
                    "group",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.DB_CASCADE, related_name="memberships", to="users.usergroup"
                    ),
                ),
            ],
        ),
        migrations.AddField(
            model_name="user",
            name="groups",
            field=models.ManyToManyField(related_name="members", through="users.GroupMembership", to="users.usergroup"),
        ),
        migrations.AddField(
            model_name="user",
            name="managed_groups",
            field=models.ManyToManyField(blank=True, related_name="managers", to="users.usergroup"),
        ),
        migrations.AddConstraint(
            model_name="usergroup",
            constraint=models.UniqueConstraint(django.db.models.functions.text.Lower("name"), name="user_group_name_is_unique"),
        ),
        migrations.AddConstraint(
            model_name="usergroup",
            constraint=models.CheckConstraint(condition=models.Q(("name", ""), _negated=True), name="user_group_has_a_name"),
        ),
        migrations.AddConstraint(
            model_name="groupmembership",
            constraint=models.UniqueConstraint(fields=("user", "group"), name="user_is_in_a_group_once"),
        ),
        migrations.AddIndex(
            model_name="user",
            index=django.contrib.postgres.indexes.GinIndex(
                fields=["search_key"], name="users_by_fragment", opclasses=["gin_trgm_ops"]
            ),
        ),
        migrations.AddIndex(
            model_name="user",
            index=models.Index(fields=["name_key", "id"], name="users_by_name"),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.CheckConstraint(
                condition=models.Q(("email", django.db.models.functions.text.Lower("email"))), name="user_email_is_lowercase"
            ),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.CheckConstraint(
                condition=models.Q(("role__in", ["MEMBER", "MANAGER", "ADMIN", "SUPER_ADMIN", "SUPPORT"])),
                name="user_role_is_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.CheckConstraint(
                condition=models.Q(("language__in", ["", "en", "fr", "it", "de", "es", "pt", "nl"])),
                name="user_language_is_known",
            ),
        ),
    ]
