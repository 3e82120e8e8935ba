"""The trigger behind every change of product access, quicker: what it refuses is told row by row, the rest in one pass.

As before it writes the history and then moves the seats in product order; nothing that it says or refuses is new.
"""

from django.db import migrations

# Row by row these cost nothing but the comparison; by a join of what was with what is, each costs as much as the update itself.
# pg_catalog's operators, for those of intarray sort both sides first.
REFUSALS = """
CREATE FUNCTION products_refuse_access() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'check_violation';
END $$;
REVOKE EXECUTE ON FUNCTION products_refuse_access() FROM PUBLIC;
CREATE TRIGGER products_keep_user BEFORE UPDATE ON products_productaccess FOR EACH ROW
    WHEN (OLD.user_id <> NEW.user_id)
    EXECUTE FUNCTION products_refuse_access('the access of a user cannot be handed to another');
CREATE TRIGGER products_keep_ever BEFORE UPDATE ON products_productaccess FOR EACH ROW
    WHEN (NOT OLD.ever OPERATOR(pg_catalog.<@) NEW.ever)
    EXECUTE FUNCTION products_refuse_access('what was ever held stays known: ever cannot shrink');
ALTER TABLE products_productaccess ENABLE ALWAYS TRIGGER products_keep_user;
ALTER TABLE products_productaccess ENABLE ALWAYS TRIGGER products_keep_ever;
ALTER TABLE products_productaccess
    DROP CONSTRAINT what_is_held_was_ever_held,
    ADD CONSTRAINT what_is_held_was_ever_held CHECK (products OPERATOR(pg_catalog.<@) ever);
"""
NO_REFUSALS = """
ALTER TABLE products_productaccess
    DROP CONSTRAINT what_is_held_was_ever_held,
    ADD CONSTRAINT what_is_held_was_ever_held CHECK (products <@ ever);
DROP TRIGGER products_keep_ever ON products_productaccess;
DROP TRIGGER products_keep_user ON products_productaccess;
DROP FUNCTION products_refuse_access();
"""

HEAD = """
CREATE OR REPLACE FUNCTION products_record_access() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET enable_nestloop = off AS $$
DECLARE
    acting_actor integer := NULLIF(current_setting('console.actor', true), '')::integer;
    acting_change bigint := NULLIF(current_setting('console.change', true), '')::bigint;
    acting_source text := COALESCE(NULLIF(current_setting('console.source', true), ''), 'OUTSIDE');
    written_at timestamptz := clock_timestamp();
    moved record;
BEGIN
    IF TG_RELID <> 'products_productaccess'::regclass THEN
        RAISE EXCEPTION 'only the product access of users has an entitlement history' USING ERRCODE = 'insufficient_privilege';
    END IF;
"""
TAIL = """
    ELSIF TG_OP = 'INSERT' THEN
        INSERT INTO products_accesschange (at, user_id, change_id, actor_id, source, db_role, before, after, first)
        SELECT written_at, user_id, acting_change, acting_actor, acting_source, session_user, '{}', products, products
        FROM new_rows WHERE products <> '{}' ORDER BY user_id;
        FOR moved IN
            SELECT product, count(*)::integer AS delta FROM new_rows, unnest(products) AS product
            GROUP BY product ORDER BY product
        LOOP
            PERFORM products_move_seats(moved.product, moved.delta);
        END LOOP;
    ELSE
        INSERT INTO products_accesschange (at, user_id, change_id, actor_id, source, db_role, before, after, first)
        SELECT written_at, user_id, acting_change, acting_actor, acting_source, session_user, products, '{}', '{}'
        FROM old_rows WHERE products <> '{}' ORDER BY user_id;
        FOR moved IN
            SELECT product, -count(*)::integer AS delta FROM old_rows, unnest(products) AS product
            GROUP BY product ORDER BY product
        LOOP
            PERFORM products_move_seats(moved.product, moved.delta);
        END LOOP;
    END IF;
    RETURN NULL;
END $$;
"""
# What a product gained and lost is told by what was and what is; where nothing changed, the two cancel out.
TOLD_ONCE = """
    IF TG_OP = 'UPDATE' THEN
        INSERT INTO products_accesschange (at, user_id, change_id, actor_id, source, db_role, before, after, first)
        SELECT written_at, n.user_id, acting_change, acting_actor, acting_source, session_user,
            o.products, n.products, n.products - o.ever
        FROM new_rows n JOIN old_rows o USING (user_id) WHERE o.products <> n.products ORDER BY n.user_id;
        FOR moved IN
            SELECT product, sum(delta)::integer AS delta FROM (
                SELECT unnest(products) AS product, 1 AS delta FROM new_rows
                UNION ALL SELECT unnest(products), -1 FROM old_rows
            ) moves GROUP BY product HAVING sum(delta) <> 0 ORDER BY product
        LOOP
            PERFORM products_move_seats(moved.product, moved.delta);
        END LOOP;
"""
TOLD_OFTEN = """
    IF TG_OP = 'UPDATE' THEN
        IF EXISTS (SELECT FROM new_rows n LEFT JOIN old_rows o USING (user_id) WHERE o.user_id IS NULL) THEN
            RAISE EXCEPTION 'the access of a user cannot be handed to another' USING ERRCODE = 'check_violation';
        END IF;
        IF EXISTS (SELECT FROM new_rows n JOIN old_rows o USING (user_id) WHERE NOT o.ever <@ n.ever) THEN
            RAISE EXCEPTION 'what was ever held stays known: ever cannot shrink' USING ERRCODE = 'check_violation';
        END IF;
        INSERT INTO products_accesschange (at, user_id, change_id, actor_id, source, db_role, before, after, first)
        SELECT written_at, n.user_id, acting_change, acting_actor, acting_source, session_user,
            o.products, n.products, n.products - o.ever
        FROM new_rows n JOIN old_rows o USING (user_id) WHERE o.products <> n.products ORDER BY n.user_id;
        FOR moved IN
            SELECT product, sum(delta)::integer AS delta FROM (
                SELECT unnest(n.products - o.products) AS product, 1 AS delta
                FROM new_rows n JOIN old_rows o USING (user_id) WHERE o.products <> n.products
                UNION ALL
                SELECT unnest(o.products - n.products), -1
                FROM new_rows n JOIN old_rows o USING (user_id) WHERE o.products <> n.products
            ) moves GROUP BY product ORDER BY product
        LOOP
            PERFORM products_move_seats(moved.product, moved.delta);
        END LOOP;
"""

# Rows are made empty and grow with what they hold, so a page that is 45 % full of empty ones has no room for a second version
# of each. What is there keeps its pages.
ROOM = "ALTER TABLE products_productaccess SET (fillfactor = {})"


class Migration(migrations.Migration):
    dependencies = [("products", "0005_previewed")]

    operations = [
        migrations.RunSQL(REFUSALS, NO_REFUSALS),
        migrations.RunSQL(HEAD + TOLD_ONCE + TAIL, HEAD + TOLD_OFTEN + TAIL),
        migrations.RunSQL(ROOM.format(32), ROOM.format(45)),
    ]
