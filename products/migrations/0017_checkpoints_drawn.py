"""Who may add checkpoints chooses neither their numbers nor a time beyond all clocks: either would stop those that are signed."""

from django.db import migrations

# Not of those that are there: what the console's role may have left shall not stop an upgrade.
TIMES = """
ALTER TABLE products_checkpoint ADD CONSTRAINT a_checkpoint_is_of_our_time
    CHECK (at BETWEEN '2000-01-01 00:00+00' AND '2999-01-01 00:00+00') NOT VALID
"""
RIGHTS = """
DO $$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN
        SELECT DISTINCT quote_ident(pg_get_userbyid(acl.grantee)) FROM pg_class c, aclexplode(c.relacl) acl
        WHERE c.oid = 'products_checkpoint'::regclass AND acl.grantee NOT IN (0, c.relowner)
    LOOP
        EXECUTE format('REVOKE INSERT ON products_checkpoint FROM %s', grantee);
        EXECUTE format('GRANT INSERT{} ON products_checkpoint TO %s', grantee);
    END LOOP;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("products", "0016_turns")]

    operations = [
        migrations.RunSQL(TIMES, "ALTER TABLE products_checkpoint DROP CONSTRAINT a_checkpoint_is_of_our_time"),
        migrations.RunSQL(RIGHTS.format(" (at, payload, signature, key)"), RIGHTS.format("")),
    ]
