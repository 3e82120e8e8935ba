"""What is in each sealed block of the entitlement history, in a few words: where to look for rows of a kind that is rare.

No index on the history itself: each would cost every bulk change. A block has all rows of its ids, so no row is ever missed.
"""

from django.db import migrations

SUMMARIES = """
CREATE TABLE products_historysummary (
    first_id bigint PRIMARY KEY,
    last_id bigint NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    granted integer[] NOT NULL,
    revoked integer[] NOT NULL,
    actors integer[] NOT NULL,
    sources varchar(16)[] NOT NULL
);
DO $$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN
        SELECT DISTINCT quote_ident(pg_get_userbyid(acl.grantee)) FROM pg_class c, aclexplode(c.relacl) acl
        WHERE c.oid = 'products_historysummary'::regclass AND acl.grantee NOT IN (0, c.relowner)
    LOOP
        EXECUTE format('REVOKE ALL ON products_historysummary FROM %s', grantee);
        EXECUTE format('GRANT SELECT ON products_historysummary TO %s', grantee);
    END LOOP;
END $$;
"""

# Summarises the next sealed blocks, in their order, and returns how many.
SUMMARISE = """
CREATE FUNCTION products_summarise(most integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    block record;
    summarised integer := 0;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('products_summarise')) THEN
        RETURN 0;
    END IF;
    FOR block IN
        SELECT first_id, last_id, first_at, last_at FROM products_historyblock
        WHERE chain = 'HISTORY' AND last_id > (SELECT coalesce(max(last_id), 0) FROM products_historysummary)
        ORDER BY last_id LIMIT most
    LOOP
        INSERT INTO products_historysummary
        WITH moves AS MATERIALIZED (
            SELECT DISTINCT before, after, actor_id, source FROM products_accesschange
            WHERE id BETWEEN block.first_id AND block.last_id AND at BETWEEN block.first_at AND block.last_at
        )
        SELECT block.first_id, block.last_id, block.first_at, block.last_at,
            ARRAY(SELECT DISTINCT unnest(after - before) FROM moves),
            ARRAY(SELECT DISTINCT unnest(before - after) FROM moves),
            ARRAY(SELECT DISTINCT actor_id FROM moves WHERE actor_id IS NOT NULL),
            ARRAY(SELECT DISTINCT source FROM moves);
        summarised := summarised + 1;
    END LOOP;
    RETURN summarised;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("products", "0008_sealing")]

    operations = [
        migrations.RunSQL(SUMMARIES, "DROP TABLE products_historysummary"),
        migrations.RunSQL(SUMMARISE, "DROP FUNCTION products_summarise(integer)"),
    ]
