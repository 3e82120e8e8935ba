"""Rule B13 counts who can sign in: a Super admin who never chose a password, at an address with a typo perhaps, lets nobody in.

Nor may the last who can lose the password. Where nobody can sign in already there is nothing to keep: the next start lets
somebody in (`users.actions.ensure_first_super_admin`). A password that cannot be used begins with "!".
"""

from django.db import migrations

RULE = """
CREATE OR REPLACE FUNCTION users_keep_a_super_admin() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('users_last_super_admin'));
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        PERFORM FROM users_user WHERE role = 'SUPER_ADMIN' FOR SHARE;
    END IF;
    IF NOT EXISTS (SELECT FROM users_user WHERE {counts}) THEN
        RAISE EXCEPTION 'the last Super admin{who} must keep the role{what} and stay active'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'users_last_super_admin', TABLE = 'users_user';
    END IF;
    RETURN NULL;
END $$;

DROP TRIGGER users_last_super_admin_deleted ON users_user;
DROP TRIGGER users_last_super_admin_changed ON users_user;
CREATE CONSTRAINT TRIGGER users_last_super_admin_deleted AFTER DELETE ON users_user
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN ({old}) EXECUTE FUNCTION users_keep_a_super_admin();
CREATE CONSTRAINT TRIGGER users_last_super_admin_changed AFTER UPDATE ON users_user
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN ({old} AND NOT ({new}))
    EXECUTE FUNCTION users_keep_a_super_admin();
ALTER TABLE users_user ENABLE ALWAYS TRIGGER users_last_super_admin_deleted;
ALTER TABLE users_user ENABLE ALWAYS TRIGGER users_last_super_admin_changed;
"""


def rule(counts: str, **words: str) -> str:
    """Return the rule about those who count: a condition with {row} before each column."""
    return RULE.format(counts=counts.format(row=""), old=counts.format(row="OLD."), new=counts.format(row="NEW."), **words)


COUNTS = "{row}role = 'SUPER_ADMIN' AND {row}is_active"
CAN_SIGN_IN = COUNTS + " AND {row}password ~ '^[^!]'"


class Migration(migrations.Migration):
    dependencies = [("users", "0011_migrations_by_the_owner")]

    operations = [
        migrations.RunSQL(rule(CAN_SIGN_IN, who=" who can sign in", what=", the password"), rule(COUNTS, who="", what=""))
    ]
