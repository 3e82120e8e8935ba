"""The console adds products and changes what may change of them: no code, no number, and it deletes none."""

from django.db import migrations

RIGHTS = """
DO $$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN
        SELECT DISTINCT quote_ident(pg_get_userbyid(acl.grantee)) FROM pg_class c, aclexplode(c.relacl) acl
        WHERE c.oid = 'products_product'::regclass AND acl.grantee NOT IN (0, c.relowner)
    LOOP
        EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON products_product FROM %s', grantee);
        EXECUTE format('GRANT {} ON products_product TO %s', grantee);
    END LOOP;
END $$;
"""
CHANGES = "name, onboarding, restricted, retired_at, position"
NOW = f"INSERT (code, {CHANGES}), UPDATE ({CHANGES})"


class Migration(migrations.Migration):
    dependencies = [("products", "0017_checkpoints_drawn")]

    operations = [migrations.RunSQL(RIGHTS.format(NOW), RIGHTS.format("INSERT, UPDATE, DELETE"))]
