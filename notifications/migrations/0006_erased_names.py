"""The name of somebody who is erased is found and overwritten: in emails to others, and in what admins wrote emails with.

A version of those words stays as it is but for that: only one that the record of an erasure names, in its own transaction.
"""

from django.db import migrations, models

ERASABLE = """
CREATE FUNCTION notifications_version_is_erased() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF to_jsonb(NEW) - TG_ARGV[1]::text[] = to_jsonb(OLD) - TG_ARGV[1]::text[] AND EXISTS (
        SELECT FROM users_adminaction
        WHERE action = 'user.erased' AND at >= now() AND after -> TG_ARGV[0] @> to_jsonb(OLD.id)
    ) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'UPDATE on % is refused: emails name their version, so write a new one', TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;
REVOKE EXECUTE ON FUNCTION notifications_version_is_erased() FROM PUBLIC;
DROP TRIGGER notifications_identity_stays ON notifications_mailidentity;
DROP TRIGGER notifications_wording_stays ON notifications_wording;
CREATE TRIGGER notifications_wording_stays BEFORE DELETE OR TRUNCATE ON notifications_wording
    FOR EACH STATEMENT EXECUTE FUNCTION notifications_versions_stay();
CREATE TRIGGER notifications_identity_stays BEFORE DELETE OR TRUNCATE ON notifications_mailidentity
    FOR EACH STATEMENT EXECUTE FUNCTION notifications_versions_stay();
CREATE TRIGGER notifications_wording_is_erased BEFORE UPDATE ON notifications_wording FOR EACH ROW
    EXECUTE FUNCTION notifications_version_is_erased('wordings', '{subject,html,text}');
CREATE TRIGGER notifications_identity_is_erased BEFORE UPDATE ON notifications_mailidentity FOR EACH ROW
    EXECUTE FUNCTION notifications_version_is_erased('identities', '{sender_name,sender_address,reply_to,reply_address}');
"""
NOT_ERASABLE = """
DROP TRIGGER notifications_identity_is_erased ON notifications_mailidentity;
DROP TRIGGER notifications_wording_is_erased ON notifications_wording;
DROP TRIGGER notifications_identity_stays ON notifications_mailidentity;
DROP TRIGGER notifications_wording_stays ON notifications_wording;
DROP FUNCTION notifications_version_is_erased();
CREATE TRIGGER notifications_wording_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON notifications_wording
    FOR EACH STATEMENT EXECUTE FUNCTION notifications_versions_stay();
CREATE TRIGGER notifications_identity_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON notifications_mailidentity
    FOR EACH STATEMENT EXECUTE FUNCTION notifications_versions_stay();
"""


class Migration(migrations.Migration):
    dependencies = [("notifications", "0005_called"), ("users", "0006_erasure_names_words")]

    operations = [
        migrations.AddIndex(
            "notification",
            models.Index(
                condition=models.Q(("kind__in", ("CHANGE", "ONBOARDING")), _negated=True),
                fields=["id"],
                name="notifications_one_by_one",
            ),
        ),
        migrations.RunSQL(ERASABLE, NOT_ERASABLE),
    ]
