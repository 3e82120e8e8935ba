"""The words that an erasure takes are those that its own record names: nobody has a right to take others, or by another way.

Before, any erasure that was recorded since a transaction began let that transaction erase any words.
"""

from django.db import migrations

# The record does it, as the owner; an UPDATE that is not made by a trigger is refused to everybody.
NAMED = """
CREATE FUNCTION users_erase_named_words() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF jsonb_typeof(NEW.after -> 'words') IS DISTINCT FROM 'array' THEN
        RAISE EXCEPTION 'the record of an erasure names the actions whose words it erases' USING ERRCODE = 'check_violation';
    END IF;
    UPDATE users_adminaction SET words = NULL, salt = NULL
    WHERE id IN (SELECT named::bigint FROM jsonb_array_elements_text(NEW.after -> 'words') AS named) AND words IS NOT NULL;
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION users_erase_named_words() FROM PUBLIC;
CREATE TRIGGER record_erases_words AFTER INSERT ON users_adminaction FOR EACH ROW
    WHEN (NEW.action = 'user.erased') EXECUTE FUNCTION users_erase_named_words();
ALTER TABLE users_adminaction ENABLE ALWAYS TRIGGER record_erases_words;
"""
NOT_NAMED = """
DROP TRIGGER record_erases_words ON users_adminaction;
DROP FUNCTION users_erase_named_words();
"""
GUARD = """
CREATE OR REPLACE FUNCTION users_erase_words() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF NEW.words IS NULL AND NEW.salt IS NULL
        AND to_jsonb(NEW) - 'words' - 'salt' = to_jsonb(OLD) - 'words' - 'salt'
        AND {condition}
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'UPDATE on users_adminaction is refused: the record of what admins do is append-only'
        USING ERRCODE = 'insufficient_privilege';
END $$;
"""
BY_THE_RECORD = GUARD.format(condition="pg_trigger_depth() > 1")
BY_ANYBODY = GUARD.format(condition="EXISTS (SELECT FROM users_adminaction WHERE action = 'user.erased' AND at >= now())")
RIGHT = """
DO $$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN
        SELECT DISTINCT quote_ident(pg_get_userbyid(acl.grantee)) FROM pg_class c, aclexplode(c.relacl) acl
        WHERE c.oid = 'users_adminaction'::regclass AND acl.grantee NOT IN (0, c.relowner)
    LOOP
        EXECUTE format('{} %s', grantee);
    END LOOP;
END $$;
"""
NO_RIGHT = RIGHT.format("REVOKE UPDATE (words, salt) ON users_adminaction FROM")
A_RIGHT = RIGHT.format("GRANT UPDATE (words, salt) ON users_adminaction TO")


class Migration(migrations.Migration):
    dependencies = [("users", "0005_called")]

    operations = [
        migrations.RunSQL(NAMED, NOT_NAMED),
        migrations.RunSQL(BY_THE_RECORD, BY_ANYBODY),
        migrations.RunSQL(NO_RIGHT, A_RIGHT),
    ]
