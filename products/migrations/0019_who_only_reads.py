"""Who may only read this app's tables writes into none: migrations 0002, 0008 and 0018 let everybody who had any right to them.

So a role for reports, given SELECT, could set seats, add products, rename them and add checkpoints. Who may add bulk changes is
the console's; nobody else keeps these rights.
"""

from django.db import migrations

# They were given column by column, and what is revoked of a table is revoked of its columns.
READERS_ONLY = """
DO $$
DECLARE
    relation regclass;
    grantee oid;
BEGIN
    FOR relation, grantee IN
        SELECT DISTINCT a.attrelid, acl.grantee FROM pg_attribute a, aclexplode(a.attacl) acl
        WHERE a.attrelid IN ('products_seat'::regclass, 'products_checkpoint'::regclass, 'products_product'::regclass)
            AND acl.grantee <> 0 AND NOT has_table_privilege(acl.grantee, 'products_bulkchange', 'INSERT')
    LOOP
        EXECUTE format('REVOKE INSERT, UPDATE ON %s FROM %I', relation, pg_get_userbyid(grantee));
    END LOOP;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("products", "0018_catalogue")]

    # Undone, nobody gets back what they were never meant to have.
    operations = [migrations.RunSQL(READERS_ONLY, migrations.RunSQL.noop)]
