"""Indexes for every order that the list of users can be in, in place of some that others make superfluous. See decision 0006."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

# Texts in the collation "C" need no index of their own for what they begin with.
LIKE = "CREATE INDEX users_user_email_243f6e77_like ON users_user (email varchar_pattern_ops)"


class Migration(migrations.Migration):
    dependencies = [("users", "0002_rules")]

    operations = [
        migrations.AddIndex("lastseen", models.Index(fields=["at", "user"], name="users_by_last_seen")),
        migrations.AddIndex("groupmembership", models.Index(fields=["group", "user"], name="members_of_a_group")),
        migrations.AlterField(
            "groupmembership",
            "group",
            models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.DB_CASCADE,
                related_name="memberships",
                to="users.usergroup",
            ),
        ),
        migrations.AlterField(
            "groupmembership",
            "user",
            models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.DB_CASCADE,
                related_name="memberships",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddIndex(
            "user", models.Index(fields=["language", "name_key", "id"], include=["role"], name="users_by_language")
        ),
        migrations.RunSQL("DROP INDEX users_user_email_243f6e77_like", LIKE),
    ]
