"""The rules that the database keeps by itself: what a set is, who moves the counters, and the entitlement history.

The history is written by statement-level triggers on the sets, whatever path changed them; nobody can write it by hand,
and no row of it can be changed. docs/architecture.md, "The heart", explains the choices.
"""

from django.db import migrations

# A set is sorted and holds nothing twice. Rows are narrow and half of each page is left free, so a change stays on its page.
SETS = """
ALTER TABLE products_productaccess
    ADD CONSTRAINT products_are_a_sorted_set CHECK (products = uniq(sort(products))),
    ADD CONSTRAINT ever_is_a_sorted_set CHECK (ever = uniq(sort(ever)));
ALTER TABLE products_productaccess SET (fillfactor = 45);
"""
NO_SETS = """
ALTER TABLE products_productaccess DROP CONSTRAINT products_are_a_sorted_set, DROP CONSTRAINT ever_is_a_sorted_set;
ALTER TABLE products_productaccess RESET (fillfactor);
"""

# Every user has one access row, every product one seat row, from the start.
ROWS_OF_THEIR_OWN = """
CREATE FUNCTION products_give_access_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO products_productaccess (user_id) SELECT id FROM new_rows ORDER BY id ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER products_give_access_row AFTER INSERT ON users_user
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION products_give_access_row();
ALTER TABLE users_user ENABLE ALWAYS TRIGGER products_give_access_row;

CREATE FUNCTION products_give_seat_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO products_seat (product_id) SELECT id FROM new_rows ORDER BY id ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER products_give_seat_row AFTER INSERT ON products_product
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION products_give_seat_row();
ALTER TABLE products_product ENABLE ALWAYS TRIGGER products_give_seat_row;
"""
NO_ROWS_OF_THEIR_OWN = """
DROP TRIGGER products_give_access_row ON users_user;
DROP FUNCTION products_give_access_row();
DROP TRIGGER products_give_seat_row ON products_product;
DROP FUNCTION products_give_seat_row();
"""

# Partitioned by month. Its triggers refuse what would rewrite it; each partition needs its own, for they are not inherited.
HISTORY = """
CREATE SEQUENCE products_accesschange_id_seq;
CREATE TABLE products_accesschange (
    id bigint NOT NULL DEFAULT nextval('products_accesschange_id_seq'),
    at timestamptz NOT NULL,
    user_id integer NOT NULL,
    change_id bigint,
    actor_id integer,
    source varchar(16) NOT NULL,
    db_role text NOT NULL,
    before integer[] NOT NULL,
    after integer[] NOT NULL,
    first integer[] NOT NULL,
    PRIMARY KEY (id, at),
    CONSTRAINT history_tells_of_a_difference CHECK (before <> after)
) PARTITION BY RANGE (at);
ALTER SEQUENCE products_accesschange_id_seq OWNED BY products_accesschange.id;
CREATE INDEX history_of_a_user ON products_accesschange (user_id, id);
CREATE INDEX history_of_a_change ON products_accesschange (change_id, user_id) WHERE change_id IS NOT NULL;

CREATE FUNCTION products_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' AND pg_trigger_depth() > 1 THEN
        RETURN NULL;  -- by the trigger on the sets
    END IF;
    RAISE EXCEPTION '% on % is refused: %', TG_OP, TG_TABLE_NAME, TG_ARGV[0] USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE FUNCTION products_protect_history(relation regclass) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    grantee oid;
BEGIN
    EXECUTE format(
        'CREATE TRIGGER history_is_append_only BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s FOR EACH STATEMENT '
        'EXECUTE FUNCTION products_refuse(''the entitlement history is append-only, written by the database itself'')', relation);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER history_is_append_only', relation);
    FOR grantee IN
        SELECT DISTINCT acl.grantee FROM pg_class c, aclexplode(c.relacl) acl WHERE c.oid = relation AND acl.grantee <> c.relowner
    LOOP
        EXECUTE format('REVOKE INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER ON %s FROM %s', relation,
            CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END);
    END LOOP;
END $$;

-- Makes the partitions of this month and of so many months ahead; returns how many were missing.
CREATE FUNCTION products_make_history_partitions(months integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    start date := date_trunc('month', now() AT TIME ZONE 'UTC')::date;
    name text;
    made integer := 0;
BEGIN
    IF months NOT BETWEEN 0 AND 36 THEN
        RAISE EXCEPTION 'months is %, expected 0 to 36', months;
    END IF;
    FOR ahead IN 0..months LOOP
        name := 'products_accesschange_' || to_char(start + make_interval(months => ahead), 'YYYY_MM');
        IF to_regclass(name) IS NULL THEN
            PERFORM pg_advisory_xact_lock(hashtext('products_make_history_partitions'));
            CONTINUE WHEN to_regclass(name) IS NOT NULL;
            EXECUTE format('CREATE TABLE %I PARTITION OF products_accesschange FOR VALUES FROM (%L) TO (%L)', name,
                (start + make_interval(months => ahead))::timestamp AT TIME ZONE 'UTC',
                (start + make_interval(months => ahead + 1))::timestamp AT TIME ZONE 'UTC');
            PERFORM products_protect_history(name::regclass);
            made := made + 1;
        END IF;
    END LOOP;
    RETURN made;
END $$;

SELECT products_protect_history('products_accesschange');
CREATE TABLE products_accesschange_other PARTITION OF products_accesschange DEFAULT;
SELECT products_protect_history('products_accesschange_other');
SELECT products_make_history_partitions(12);
"""
NO_HISTORY = """
DROP FUNCTION products_make_history_partitions(integer);
DROP FUNCTION products_protect_history(regclass);
DROP TABLE products_accesschange;
DROP FUNCTION products_refuse();
"""

# Compares the old sets with the new ones after every statement: writes the history, then moves the seats in product order.
# Without enable_nestloop = off the plan of the EXISTS below compares every row with every other: 11 s for 5,000 rows, not 0.2 s.
RECORD = """
CREATE FUNCTION products_record_access() RETURNS trigger
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

CREATE FUNCTION products_move_seats(moved_product integer, delta integer) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE products_seat SET used = used + delta WHERE product_id = moved_product AND delta <> 0;
    IF NOT FOUND AND delta <> 0 THEN
        RAISE EXCEPTION 'there is no product %', moved_product USING ERRCODE = 'foreign_key_violation';
    END IF;
END $$;

-- Who may run these could put them on a table of their own, and so write history as the owner.
REVOKE EXECUTE ON FUNCTION products_move_seats(integer, integer), products_record_access(), products_give_access_row(),
    products_give_seat_row(), products_refuse(), products_protect_history(regclass) FROM PUBLIC;

CREATE TRIGGER products_record_insert AFTER INSERT ON products_productaccess
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION products_record_access();
CREATE TRIGGER products_record_update AFTER UPDATE ON products_productaccess
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION products_record_access();
CREATE TRIGGER products_record_delete AFTER DELETE ON products_productaccess
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION products_record_access();
CREATE TRIGGER products_refuse_truncate BEFORE TRUNCATE ON products_productaccess
    FOR EACH STATEMENT EXECUTE FUNCTION products_refuse('the history could not tell who lost what');
ALTER TABLE products_productaccess ENABLE ALWAYS TRIGGER products_record_insert;
ALTER TABLE products_productaccess ENABLE ALWAYS TRIGGER products_record_update;
ALTER TABLE products_productaccess ENABLE ALWAYS TRIGGER products_record_delete;
ALTER TABLE products_productaccess ENABLE ALWAYS TRIGGER products_refuse_truncate;
"""
NO_RECORD = """
DROP TRIGGER products_refuse_truncate ON products_productaccess;
DROP TRIGGER products_record_delete ON products_productaccess;
DROP TRIGGER products_record_update ON products_productaccess;
DROP TRIGGER products_record_insert ON products_productaccess;
DROP FUNCTION products_record_access();
DROP FUNCTION products_move_seats(integer, integer);
"""

# The console may set how many seats there are and reserve some; how many are used is counted by the trigger only.
SEATS = """
DO $$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN
        SELECT DISTINCT quote_ident(pg_get_userbyid(acl.grantee)) FROM pg_class c, aclexplode(c.relacl) acl
        WHERE c.oid = 'products_seat'::regclass AND acl.grantee NOT IN (0, c.relowner)
    LOOP
        EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON products_seat FROM %s', grantee);
        EXECUTE format('GRANT UPDATE (seats, reserved) ON products_seat TO %s', grantee);
    END LOOP;
END $$;
"""

ENTITLEMENT = """
CREATE VIEW products_entitlement AS
SELECT (access.user_id::bigint << 31) + product AS id, access.user_id, product AS product_id
FROM products_productaccess access CROSS JOIN LATERAL unnest(access.products) AS product
"""


class Migration(migrations.Migration):
    dependencies = [("products", "0001_initial"), ("users", "0001_initial")]

    operations = [
        migrations.RunSQL(SETS, NO_SETS),
        migrations.RunSQL(ROWS_OF_THEIR_OWN, NO_ROWS_OF_THEIR_OWN),
        migrations.RunSQL(HISTORY, NO_HISTORY),
        migrations.RunSQL(RECORD, NO_RECORD),
        migrations.RunSQL(SEATS, migrations.RunSQL.noop),
        migrations.RunSQL(ENTITLEMENT, "DROP VIEW products_entitlement"),
    ]
