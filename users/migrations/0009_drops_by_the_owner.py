"""A record that history was dropped excuses its rows from verification: only who owns the history, and can drop it, makes one."""

from django.db import migrations

BY_THE_OWNER = """
CREATE FUNCTION users_refuse_drop_by_others() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF NOT pg_has_role(session_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'MEMBER') THEN
        RAISE EXCEPTION 'the record of a drop is refused: only who owns the history drops any of it'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;
REVOKE EXECUTE ON FUNCTION users_refuse_drop_by_others() FROM PUBLIC;
CREATE TRIGGER record_of_a_drop_is_the_owners BEFORE INSERT ON users_adminaction FOR EACH ROW
    WHEN (NEW.action = 'history.dropped') EXECUTE FUNCTION users_refuse_drop_by_others();
ALTER TABLE users_adminaction ENABLE ALWAYS TRIGGER record_of_a_drop_is_the_owners;
"""
BY_ANYBODY = """
DROP TRIGGER record_of_a_drop_is_the_owners ON users_adminaction;
DROP FUNCTION users_refuse_drop_by_others();
"""


class Migration(migrations.Migration):
    dependencies = [("users", "0008_searched_by_name")]

    operations = [migrations.RunSQL(BY_THE_OWNER, BY_ANYBODY)]
