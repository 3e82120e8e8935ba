"""Who may only read this app's tables writes into none: migration 0010 let everybody add to the record who had any right to it.

So a role for reports, given SELECT, could add actions of admins. Who may add users is the console's; nobody else keeps the right.
"""

from django.db import migrations

# It was given column by column, and what is revoked of a table is revoked of its columns.
READERS_ONLY = """
DO $$
DECLARE
    grantee oid;
BEGIN
    FOR grantee IN
        SELECT DISTINCT acl.grantee FROM pg_attribute a, aclexplode(a.attacl) acl
        WHERE a.attrelid = 'users_adminaction'::regclass AND acl.grantee <> 0
            AND NOT has_table_privilege(acl.grantee, 'users_user', 'INSERT')
    LOOP
        EXECUTE format('REVOKE INSERT ON users_adminaction FROM %I', pg_get_userbyid(grantee));
    END LOOP;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("users", "0012_who_can_sign_in")]

    # Undone, nobody gets back what they were never meant to have.
    operations = [migrations.RunSQL(READERS_ONLY, migrations.RunSQL.noop)]
