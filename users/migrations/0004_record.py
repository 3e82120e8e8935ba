"""The record of what admins do. It is append-only for everybody; what names a person in it can be erased, and nothing else."""

import django.db.models.deletion
import django.db.models.functions
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

# Before the first id is drawn the transaction has its own number: by that the sealer knows when all up to an id are committed.
# Who writes cannot choose the time, the role or the salt.
APPEND_ONLY = """
CREATE FUNCTION users_open_record() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_current_xact_id();
    RETURN NULL;
END $$;

CREATE FUNCTION users_stamp_record() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    NEW.at := clock_timestamp();
    NEW.db_role := session_user;
    NEW.salt := CASE WHEN NEW.words IS NOT NULL THEN uuid_send(gen_random_uuid()) END;
    NEW.words_digest := sha256(NEW.salt || convert_to(NEW.words::text, 'UTF8'));
    RETURN NEW;
END $$;

CREATE FUNCTION users_refuse_rewriting_record() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on % is refused: the record of what admins do is append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;

-- Words are erased, never written again, and only in a transaction that records whose erasure that is.
CREATE FUNCTION users_erase_words() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF NEW.words IS NULL AND NEW.salt IS NULL
        AND to_jsonb(NEW) - 'words' - 'salt' = to_jsonb(OLD) - 'words' - 'salt'
        AND EXISTS (SELECT FROM users_adminaction WHERE action = 'user.erased' AND at >= now())
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'UPDATE on users_adminaction is refused: the record of what admins do is append-only'
        USING ERRCODE = 'insufficient_privilege';
END $$;
REVOKE EXECUTE ON FUNCTION users_open_record(), users_stamp_record(), users_refuse_rewriting_record(), users_erase_words()
    FROM PUBLIC;

CREATE TRIGGER record_is_opened BEFORE INSERT ON users_adminaction FOR EACH STATEMENT EXECUTE FUNCTION users_open_record();
CREATE TRIGGER record_is_stamped BEFORE INSERT ON users_adminaction FOR EACH ROW EXECUTE FUNCTION users_stamp_record();
CREATE TRIGGER record_is_append_only BEFORE DELETE OR TRUNCATE ON users_adminaction
    FOR EACH STATEMENT EXECUTE FUNCTION users_refuse_rewriting_record();
CREATE TRIGGER record_words_are_erased BEFORE UPDATE ON users_adminaction FOR EACH ROW EXECUTE FUNCTION users_erase_words();
ALTER TABLE users_adminaction ENABLE ALWAYS TRIGGER record_is_opened;
ALTER TABLE users_adminaction ENABLE ALWAYS TRIGGER record_is_stamped;
ALTER TABLE users_adminaction ENABLE ALWAYS TRIGGER record_is_append_only;
ALTER TABLE users_adminaction ENABLE ALWAYS TRIGGER record_words_are_erased;

DO $$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN
        SELECT DISTINCT quote_ident(pg_get_userbyid(acl.grantee)) FROM pg_class c, aclexplode(c.relacl) acl
        WHERE c.oid = 'users_adminaction'::regclass AND acl.grantee NOT IN (0, c.relowner)
    LOOP
        EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER ON users_adminaction FROM %s', grantee);
        EXECUTE format('GRANT UPDATE (words, salt) ON users_adminaction TO %s', grantee);
    END LOOP;
END $$;
"""
NOT_APPEND_ONLY = """
DROP TRIGGER record_words_are_erased ON users_adminaction;
DROP TRIGGER record_is_append_only ON users_adminaction;
DROP TRIGGER record_is_stamped ON users_adminaction;
DROP TRIGGER record_is_opened ON users_adminaction;
DROP FUNCTION users_erase_words();
DROP FUNCTION users_refuse_rewriting_record();
DROP FUNCTION users_stamp_record();
DROP FUNCTION users_open_record();
"""


class Migration(migrations.Migration):
    dependencies = [("users", "0003_orders")]

    operations = [
        migrations.CreateModel(
            name="AdminAction",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.Now(), default=django.utils.timezone.now, verbose_name="when"
                    ),
                ),
                ("action", models.CharField(max_length=48, verbose_name="action")),
                ("subject_id", models.BigIntegerField(null=True)),
                ("db_role", models.TextField(db_default="", verbose_name="database role")),
                ("before", models.JSONField(null=True, verbose_name="before")),
                ("after", models.JSONField(null=True, verbose_name="after")),
                ("words", models.JSONField(null=True, verbose_name="words")),
                ("salt", models.BinaryField(null=True)),
                ("words_digest", models.BinaryField(null=True)),
                (
                    "actor",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="by",
                    ),
                ),
            ],
            options={
                "verbose_name": "admin action",
                "verbose_name_plural": "admin actions",
                "indexes": [
                    models.Index(fields=["actor", "-id"], name="admin_actions_of_an_actor"),
                    models.Index(fields=["action", "-id"], name="admin_actions_of_a_kind"),
                    models.Index(fields=["subject_id", "-id"], name="admin_actions_on_a_subject"),
                ],
            },
        ),
        migrations.RunSQL(APPEND_ONLY, NOT_APPEND_ONLY),
    ]
