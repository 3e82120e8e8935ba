"""Numbers of the record are drawn, not chosen: one below what is sealed would be damage, the next ones would stop all recording.

So the console's role may write every other column, and a column that is added later has to be granted.
"""

from django.db import migrations

COLUMNS = "at, action, actor_id, subject_id, db_role, before, after, words, salt, words_digest"
RIGHTS = """
DO $$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN
        SELECT DISTINCT quote_ident(pg_get_userbyid(acl.grantee)) FROM pg_class c, aclexplode(c.relacl) acl
        WHERE c.oid = 'users_adminaction'::regclass AND acl.grantee NOT IN (0, c.relowner)
    LOOP
        EXECUTE format('REVOKE INSERT ON users_adminaction FROM %s', grantee);
        EXECUTE format('GRANT INSERT{} ON users_adminaction TO %s', grantee);
    END LOOP;
END $$;
"""
DRAWN = RIGHTS.format(f" ({COLUMNS})")
CHOSEN = RIGHTS.format("")


class Migration(migrations.Migration):
    dependencies = [("users", "0009_drops_by_the_owner")]

    operations = [migrations.RunSQL(DRAWN, CHOSEN)]
