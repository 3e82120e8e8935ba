"""Which migrations were made is the owner's to note: one that the console's role noted beforehand would never be made."""

from django.db import migrations

RIGHTS = """
DO $$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN
        SELECT DISTINCT quote_ident(pg_get_userbyid(acl.grantee)) FROM pg_class c, aclexplode(c.relacl) acl
        WHERE c.oid = 'django_migrations'::regclass AND acl.grantee NOT IN (0, c.relowner)
    LOOP
        EXECUTE format('{} INSERT, UPDATE, DELETE ON django_migrations {} %s', grantee);
    END LOOP;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("users", "0010_numbers_of_the_record")]

    operations = [migrations.RunSQL(RIGHTS.format("REVOKE", "FROM"), RIGHTS.format("GRANT", "TO"))]
