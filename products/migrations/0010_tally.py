"""The trigger behind every change of product access tells whoever changed it how many gained and lost what.

It knows from the history that it just wrote, whose rows are of far fewer kinds than there are users. The seats are moved
by the same numbers.
"""

from importlib import import_module

from django.db import migrations

earlier = import_module("products.migrations.0006_quicker")

# As JSON in console.tally, for the rest of the transaction: users changed, suspended and restored; by product (as text) how many
# gained and lost it, and how many for the first time ever. A statement that changed nobody's products leaves zeros.
TALLIED = """
    IF TG_OP = 'UPDATE' THEN
        tally := '{}';
        FOR moved IN
            WITH written AS (
                INSERT INTO products_accesschange (at, user_id, change_id, actor_id, source, db_role, before, after, first)
                SELECT written_at, n.user_id, acting_change, acting_actor, acting_source, session_user,
                    o.products, n.products, n.products - o.ever
                FROM new_rows n JOIN old_rows o USING (user_id) WHERE o.products <> n.products ORDER BY n.user_id
                RETURNING before, after, first
            ), alike AS MATERIALIZED (
                SELECT before, after, first, count(*)::integer AS users FROM written GROUP BY before, after, first
            )
            SELECT product, sum(gained)::integer AS gained, sum(lost)::integer AS lost, sum(met)::integer AS met
            FROM alike CROSS JOIN LATERAL (
                SELECT unnest(after - before), users, 0, 0
                UNION ALL SELECT unnest(before - after), 0, users, 0
                UNION ALL SELECT unnest(first), 0, 0, users
            ) moves (product, gained, lost, met) GROUP BY product
            UNION ALL
            SELECT NULL, coalesce(sum(users), 0)::integer, coalesce(sum(users) FILTER (WHERE after = '{}'), 0)::integer,
                coalesce(sum(users) FILTER (WHERE before = '{}'), 0)::integer FROM alike
            ORDER BY product
        LOOP
            IF moved.product IS NULL THEN
                tally := tally || jsonb_build_object('changed', moved.gained, 'suspended', moved.lost, 'restored', moved.met);
            ELSE
                PERFORM products_move_seats(moved.product, moved.gained - moved.lost);
                tally := tally || jsonb_build_object(moved.product, jsonb_build_array(moved.gained, moved.lost, moved.met));
            END IF;
        END LOOP;
        PERFORM set_config('console.tally', tally::text, true);
"""
HEAD = earlier.HEAD.replace("    moved record;\n", "    moved record;\n    tally jsonb;\n")


class Migration(migrations.Migration):
    dependencies = [("products", "0009_summaries")]

    operations = [
        migrations.RunSQL(HEAD + TALLIED + earlier.TAIL, earlier.HEAD + earlier.TOLD_ONCE + earlier.TAIL),
    ]
