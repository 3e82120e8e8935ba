from django.db import migrations


class Migration(migrations.Migration):
    """The table of the cache that counts attempts to sign in: as `createcachetable` makes it, but quicker, for it may be lost."""

    operations = [
        migrations.RunSQL(
            """
            CREATE UNLOGGED TABLE admin_console_throttle (
                cache_key varchar(255) PRIMARY KEY,
                value text NOT NULL,
                expires timestamptz NOT NULL
            );
            CREATE INDEX admin_console_throttle_expires ON admin_console_throttle (expires);
            """,
            "DROP TABLE admin_console_throttle",
        )
    ]
