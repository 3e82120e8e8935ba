"""Rules that span rows, kept by the database for every path: no group inside itself, never without a Super admin (rule B13)."""

from django.db import migrations, models

# One at a time, and locked before any row is: two moves that together close a circle each look at what the other has done.
GROUPS = """
CREATE FUNCTION users_lock_group_tree() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('users_usergroup'));
    RETURN NULL;
END $$;

CREATE FUNCTION users_refuse_group_cycle() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF EXISTS (
        WITH RECURSIVE above AS (
            SELECT NEW.parent_id AS id
            UNION SELECT g.parent_id FROM users_usergroup g JOIN above ON g.id = above.id
        ) SELECT FROM above WHERE id = NEW.id
    ) THEN
        RAISE EXCEPTION 'user group % would be inside itself', NEW.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'user_group_is_not_inside_itself', TABLE = 'users_usergroup';
    END IF;
    -- An older snapshot does not see what others moved since: locking the rows read makes the database refuse to go on (40001).
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        PERFORM FROM users_usergroup FOR SHARE;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER users_lock_group_tree BEFORE INSERT OR UPDATE OF id, parent_id ON users_usergroup
    FOR EACH STATEMENT EXECUTE FUNCTION users_lock_group_tree();
CREATE TRIGGER users_refuse_group_cycle AFTER INSERT OR UPDATE OF id, parent_id ON users_usergroup
    FOR EACH ROW WHEN (NEW.parent_id IS NOT NULL) EXECUTE FUNCTION users_refuse_group_cycle();
ALTER TABLE users_usergroup ENABLE ALWAYS TRIGGER users_lock_group_tree;
ALTER TABLE users_usergroup ENABLE ALWAYS TRIGGER users_refuse_group_cycle;
"""
NO_GROUPS = """
DROP TRIGGER users_refuse_group_cycle ON users_usergroup;
DROP TRIGGER users_lock_group_tree ON users_usergroup;
DROP FUNCTION users_refuse_group_cycle();
DROP FUNCTION users_lock_group_tree();
"""

# Deferred, so that a role can be handed over in one transaction in either order; whoever wants to know at once sets it immediate.
SUPER_ADMINS = """
CREATE FUNCTION users_keep_a_super_admin() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('users_last_super_admin'));
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        PERFORM FROM users_user WHERE role = 'SUPER_ADMIN' FOR SHARE;
    END IF;
    IF NOT EXISTS (SELECT FROM users_user WHERE role = 'SUPER_ADMIN' AND is_active) THEN
        RAISE EXCEPTION 'the last Super admin must keep the role and stay active'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'users_last_super_admin', TABLE = 'users_user';
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION users_refuse_truncate() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM users_user WHERE role = 'SUPER_ADMIN' AND is_active) THEN
        RAISE EXCEPTION 'the last Super admin must keep the role and stay active'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'users_last_super_admin', TABLE = 'users_user';
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER users_last_super_admin_deleted AFTER DELETE ON users_user
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (OLD.role = 'SUPER_ADMIN' AND OLD.is_active) EXECUTE FUNCTION users_keep_a_super_admin();
CREATE CONSTRAINT TRIGGER users_last_super_admin_changed AFTER UPDATE ON users_user
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (OLD.role = 'SUPER_ADMIN' AND OLD.is_active AND NOT (NEW.role = 'SUPER_ADMIN' AND NEW.is_active))
    EXECUTE FUNCTION users_keep_a_super_admin();
CREATE TRIGGER users_refuse_truncate BEFORE TRUNCATE ON users_user
    FOR EACH STATEMENT EXECUTE FUNCTION users_refuse_truncate();
ALTER TABLE users_user ENABLE ALWAYS TRIGGER users_last_super_admin_deleted;
ALTER TABLE users_user ENABLE ALWAYS TRIGGER users_last_super_admin_changed;
ALTER TABLE users_user ENABLE ALWAYS TRIGGER users_refuse_truncate;
"""
NO_SUPER_ADMINS = """
DROP TRIGGER users_refuse_truncate ON users_user;
DROP TRIGGER users_last_super_admin_changed ON users_user;
DROP TRIGGER users_last_super_admin_deleted ON users_user;
DROP FUNCTION users_refuse_truncate();
DROP FUNCTION users_keep_a_super_admin();
"""


class Migration(migrations.Migration):
    dependencies = [("users", "0001_initial")]

    operations = [
        migrations.AddConstraint(
            model_name="usergroup",
            constraint=models.CheckConstraint(
                condition=models.Q(("name__regex", r"[/;]|^\s|\s$"), _negated=True), name="user_group_name_fits_in_a_path"
            ),
        ),
        migrations.AddIndex(
            model_name="user",
            index=models.Index(
                condition=models.Q(("role", "MEMBER"), _negated=True), fields=["role", "id"], name="users_beyond_members"
            ),
        ),
        migrations.RunSQL(GROUPS, NO_GROUPS),
        migrations.RunSQL(SUPER_ADMINS, NO_SUPER_ADMINS),
    ]
