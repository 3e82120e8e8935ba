"""Who turned in each summarised block, from holding a product to not holding it or back: read instead of the block's rows.

Rows of one user move a product to and fro, so over many blocks those turned who did in an odd number of them: `bit_xor`.
Blocks from before are noted by the sealer, like new ones; until then their rows are read.
"""

from django.db import migrations

TURNS = """
ALTER TABLE products_historysummary ADD COLUMN turns_known boolean NOT NULL DEFAULT false;
CREATE INDEX summaries_without_turns ON products_historysummary (first_id) WHERE NOT turns_known;
CREATE TABLE products_historyturn (
    product integer NOT NULL,
    part integer NOT NULL,  -- the users of this part have the ids from part * 65536 on, and each the bit at the rest of their id
    first_id bigint NOT NULL REFERENCES products_historysummary,
    turned bit(65536) NOT NULL,
    PRIMARY KEY (product, part, first_id)
);
DO $$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN
        SELECT DISTINCT quote_ident(pg_get_userbyid(acl.grantee)) FROM pg_class c, aclexplode(c.relacl) acl
        WHERE c.oid = 'products_historyturn'::regclass AND acl.grantee NOT IN (0, c.relowner)
    LOOP
        EXECUTE format('REVOKE ALL ON products_historyturn FROM %s', grantee);
        EXECUTE format('GRANT SELECT ON products_historyturn TO %s', grantee);
    END LOOP;
END $$;
"""
NO_TURNS = """
DROP TABLE products_historyturn;
DROP INDEX summaries_without_turns;
ALTER TABLE products_historysummary DROP COLUMN turns_known;
"""

# Notes who turned in summarised blocks where it is not known yet, the newest first, and returns in how many.
NOTE = """
CREATE FUNCTION products_note_turns(most integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    nobody CONSTANT bit varying := repeat('0', 65536)::bit varying;
    block record;
    moved record;
    turned bit varying;
    place integer;
    noted integer := 0;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('products_summarise')) THEN
        RETURN 0;
    END IF;
    FOR block IN
        SELECT first_id, last_id, first_at, last_at FROM products_historysummary
        WHERE NOT turns_known ORDER BY first_id DESC LIMIT most
    LOOP
        FOR moved IN
            SELECT product, user_id / 65536 AS part, array_agg(user_id % 65536) AS places
            FROM products_accesschange, unnest((before - after) | (after - before)) AS product
            WHERE id BETWEEN block.first_id AND block.last_id AND at BETWEEN block.first_at AND block.last_at
            GROUP BY 1, 2
        LOOP
            turned := nobody;
            FOREACH place IN ARRAY moved.places LOOP
                turned := set_bit(turned, place, 1 - get_bit(turned, place));
            END LOOP;
            INSERT INTO products_historyturn VALUES (moved.product, moved.part, block.first_id, turned);
        END LOOP;
        UPDATE products_historysummary SET turns_known = true WHERE first_id = block.first_id;
        noted := noted + 1;
    END LOOP;
    RETURN noted;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("products", "0015_pauses")]

    operations = [
        migrations.RunSQL(TURNS, NO_TURNS),
        migrations.RunSQL(NOTE, "DROP FUNCTION products_note_turns(integer)"),
    ]
