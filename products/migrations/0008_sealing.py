"""The seal on the entitlement history and on the record of admins: chained blocks of digests, and signed checkpoints of them.

`products_seal` says which rows are complete, digests them and writes the next blocks: only it does, and nobody rewrites them.
docs/decisions/0009-a-chain-of-blocks.md tells why it is done so; docs/audit.md tells the bytes that are digested.
"""

import django.utils.timezone
from django.db import migrations, models

# A row as its bytes: record_send writes every value behind its length, so no two different rows have the same. Texts as UTF-8,
# or the connection's encoding would be in it.
LEAVES = """
CREATE VIEW products_history_leaf AS
SELECT id, at, sha256(record_send(ROW(
    id, at, user_id, change_id, actor_id, convert_to(source, 'UTF8'), convert_to(db_role, 'UTF8'), before, after, first
))) AS leaf FROM products_accesschange;
CREATE VIEW products_record_leaf AS
SELECT id, at, sha256(record_send(ROW(
    id, at, convert_to(action, 'UTF8'), actor_id, subject_id, convert_to(db_role, 'UTF8'),
    convert_to(before::text, 'UTF8'), convert_to(after::text, 'UTF8'), words_digest
))) AS leaf FROM users_adminaction;
"""
NO_LEAVES = "DROP VIEW products_record_leaf; DROP VIEW products_history_leaf;"

BLOCKS = """
CREATE TABLE products_historyblock (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chain varchar(8) NOT NULL CHECK (chain IN ('HISTORY', 'ACTIONS')),
    n integer NOT NULL CHECK (n > 0),
    first_id bigint NOT NULL,
    last_id bigint NOT NULL CHECK (last_id >= first_id),
    ids int8multirange NOT NULL,
    rows integer NOT NULL CHECK (rows > 0),
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    sealed_at timestamptz NOT NULL,
    leaves bytea NOT NULL CHECK (length(leaves) = 32 * rows),
    previous bytea NOT NULL CHECK (length(previous) = 32),
    digest bytea NOT NULL CHECK (length(digest) = 32),
    CONSTRAINT one_block_after_another UNIQUE (chain, n)
);
ALTER TABLE products_historyblock ALTER COLUMN leaves SET STORAGE EXTERNAL;  -- digests cannot be compressed
CREATE INDEX blocks_by_row ON products_historyblock (chain, last_id);
CREATE TRIGGER blocks_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON products_historyblock
    FOR EACH STATEMENT EXECUTE FUNCTION products_refuse('sealed blocks are append-only');
ALTER TABLE products_historyblock ENABLE ALWAYS TRIGGER blocks_are_append_only;

CREATE TRIGGER checkpoints_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON products_checkpoint
    FOR EACH STATEMENT EXECUTE FUNCTION products_refuse('checkpoints are append-only');
ALTER TABLE products_checkpoint ENABLE ALWAYS TRIGGER checkpoints_are_append_only;

-- Up to which row something was written, and a number that is greater than that of every transaction that wrote it.
CREATE TABLE products_sealingmark (
    chain varchar(8) PRIMARY KEY,
    last_id bigint NOT NULL,
    xid xid8 NOT NULL
);

DO $$
DECLARE
    relation text;
    grantee text;
BEGIN
    FOR relation, grantee IN
        SELECT DISTINCT c.relname, quote_ident(pg_get_userbyid(acl.grantee)) FROM pg_class c, aclexplode(c.relacl) acl
        WHERE acl.grantee NOT IN (0, c.relowner) AND c.oid IN (
            'products_historyblock'::regclass, 'products_checkpoint'::regclass, 'products_sealingmark'::regclass,
            'products_history_leaf'::regclass, 'products_record_leaf'::regclass)
    LOOP
        EXECUTE format('REVOKE ALL ON %I FROM %s', relation, grantee);
        EXECUTE format('GRANT SELECT%s ON %I TO %s',
            CASE relation WHEN 'products_checkpoint' THEN ', INSERT' ELSE '' END, relation, grantee);
    END LOOP;
END $$;
"""
NO_BLOCKS = """
DROP TABLE products_sealingmark;
DROP TABLE products_historyblock;
DROP TRIGGER checkpoints_are_append_only ON products_checkpoint;
"""

# Ids are drawn in one order and committed in another. All up to an id are there once every transaction that began before we
# looked at the sequence has ended, for whoever draws an id has a transaction number by then.
SEAL = """
CREATE FUNCTION products_seal(sealed_chain text, most integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    size CONSTANT integer := 5000;
    source CONSTANT text := CASE sealed_chain WHEN 'HISTORY' THEN 'products_history_leaf' ELSE 'products_record_leaf' END;
    ids CONSTANT text := CASE sealed_chain WHEN 'HISTORY' THEN 'products_accesschange_id_seq' ELSE 'users_adminaction_id_seq' END;
    written bigint;
    own xid8;
    horizon xid8;
    mark products_sealingmark;
    complete bigint;
    head products_historyblock;
    block products_historyblock;
    sealed integer := 0;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'sealing has to see what others commit: it runs in read committed transactions';
    END IF;
    IF NOT pg_try_advisory_xact_lock(hashtext('products_seal'), hashtext(sealed_chain)) THEN
        RETURN 0;
    END IF;
    EXECUTE format('SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM %I', ids) INTO written;
    own := pg_current_xact_id();
    horizon := pg_snapshot_xmin(pg_current_snapshot());  -- whoever has a smaller number has ended

    SELECT * INTO mark FROM products_sealingmark m WHERE m.chain = sealed_chain;
    complete := CASE WHEN horizon >= own THEN written WHEN mark.xid <= horizon THEN mark.last_id ELSE 0 END;
    -- A mark beyond our own number is of another server: the database was restored on this one.
    IF mark.xid IS NULL OR mark.xid <= horizon OR mark.xid > own THEN
        INSERT INTO products_sealingmark VALUES (sealed_chain, written, own)
        ON CONFLICT (chain) DO UPDATE SET last_id = EXCLUDED.last_id, xid = EXCLUDED.xid;
    END IF;

    SELECT * INTO head FROM products_historyblock b WHERE b.chain = sealed_chain ORDER BY b.n DESC LIMIT 1;
    block.last_id := coalesce(head.last_id, 0);
    block.n := coalesce(head.n, 0);
    block.digest := coalesce(head.digest, decode(repeat('00', 32), 'hex'));
    WHILE block.last_id < complete AND sealed < most LOOP
        block.chain := sealed_chain;
        block.n := block.n + 1;
        block.first_id := block.last_id + 1;
        block.previous := block.digest;
        EXECUTE format(
            'SELECT count(*), min(at), max(at), max(id), string_agg(leaf, '''' ORDER BY id), '
            'range_agg(int8range(id, id + 1)) '
            'FROM (SELECT * FROM %I WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3) leaf', source)
            INTO block.rows, block.first_at, block.last_at, block.last_id, block.leaves, block.ids
            USING block.first_id - 1, complete, size;
        EXIT WHEN block.rows = 0;
        IF block.rows < size THEN
            block.last_id := complete;
        END IF;
        block.sealed_at := clock_timestamp();
        block.digest := products_block_digest(block);
        INSERT INTO products_historyblock
            (chain, n, first_id, last_id, ids, rows, first_at, last_at, sealed_at, leaves, previous, digest)
        VALUES (block.chain, block.n, block.first_id, block.last_id, block.ids, block.rows, block.first_at, block.last_at,
            block.sealed_at, block.leaves, block.previous, block.digest);
        sealed := sealed + block.rows;
    END LOOP;
    RETURN sealed;
END $$;
"""
DIGEST = """
CREATE FUNCTION products_block_digest(block products_historyblock) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT sha256(record_send(ROW(
        convert_to(block.chain, 'UTF8'), block.n, block.first_id, block.last_id, convert_to(block.ids::text, 'UTF8'), block.rows,
        block.first_at, block.last_at, block.sealed_at, sha256(block.leaves), block.previous
    )))
$$;
"""


class Migration(migrations.Migration):
    dependencies = [("products", "0007_seats_low"), ("users", "0004_record")]

    operations = [
        migrations.CreateModel(
            name="HistoryBlock",
            fields=[
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("chain", models.CharField(
                    choices=[("HISTORY", "Entitlement history"), ("ACTIONS", "Admin actions")],
                    max_length=8, verbose_name="record")),
                ("n", models.PositiveIntegerField(verbose_name="block")),
                ("first_id", models.BigIntegerField(verbose_name="first row")),
                ("last_id", models.BigIntegerField(verbose_name="last row")),
                ("rows", models.PositiveIntegerField(verbose_name="rows")),
                ("first_at", models.DateTimeField(verbose_name="from")),
                ("last_at", models.DateTimeField(verbose_name="until")),
                ("sealed_at", models.DateTimeField(verbose_name="sealed")),
                ("leaves", models.BinaryField()),
                ("previous", models.BinaryField()),
                ("digest", models.BinaryField(verbose_name="digest")),
            ],
            options={
                "verbose_name": "sealed block",
                "verbose_name_plural": "sealed blocks",
                "db_table": "products_historyblock",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="Checkpoint",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="when")),
                ("payload", models.TextField(verbose_name="signed text")),
                ("signature", models.CharField(max_length=128, verbose_name="signature")),
                ("key", models.CharField(max_length=64, verbose_name="public key")),
            ],
            options={"verbose_name": "checkpoint", "verbose_name_plural": "checkpoints"},
        ),
        migrations.RunSQL(LEAVES, NO_LEAVES),
        migrations.RunSQL(BLOCKS, NO_BLOCKS),
        migrations.RunSQL(DIGEST, "DROP FUNCTION products_block_digest(products_historyblock)"),
        migrations.RunSQL(SEAL, "DROP FUNCTION products_seal(text, integer)"),
    ]  # fmt: skip
