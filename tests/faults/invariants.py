"""What must be true of the database at any moment, whatever died or hung: each rule is one question that finds its breaches.

All questions are asked of one snapshot, and each change, batch and counter is judged by the state that it is in. So they may be
asked while changes run, and right after a kill.
"""

import psycopg

# What `change` makes of the set `held`; an undo gives back what a user held before the change that it undoes.
TARGET = """
CREATE FUNCTION pg_temp.target(change products_bulkchange, held int[], of_user int) RETURNS int[] LANGUAGE sql STABLE AS $$
    SELECT CASE change.mode
        WHEN 'REPLACE' THEN change.products | (held & change.preserved)
        WHEN 'ADD' THEN held | change.products
        WHEN 'REMOVE' THEN held - change.products
        ELSE (SELECT h.before FROM products_accesschange h WHERE h.change_id = change.undoes_id AND h.user_id = of_user)
    END
$$;
CREATE FUNCTION pg_temp.is_over(change products_bulkchange) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT change.state IN ('FINISHED', 'FAILED', 'CANCELLED')
$$;
-- A batch that was split lives on in its parts. A table, or all batches of its change were unpacked for each row of the history.
CREATE TEMPORARY TABLE target AS
    SELECT b.change_id, b.id AS batch_id, b.state, b.done_at, u.user_id, s.reason AS skipped
    FROM products_bulkchangebatch b CROSS JOIN unnest(b.user_ids) AS u(user_id)
    LEFT JOIN products_bulkchangeskip s ON s.change_id = b.change_id AND s.user_id = u.user_id
    WHERE b.state <> 'SPLIT';
CREATE INDEX ON target (change_id, user_id);
ANALYZE target;
CREATE VIEW pg_temp.told AS
    SELECT h.*, lag(after) OVER w AS earlier, lead(id) OVER w IS NULL AS is_last, row_number() OVER w = 1 AS is_first
    FROM products_accesschange h WINDOW w AS (PARTITION BY user_id ORDER BY id);
"""

# Each finds breaches, as text.
RULES = {
    # The history
    "a row of the history starts where the user's row before ended": """
        SELECT format('user %s, row %s: %s after %s', user_id, id, before, coalesce(earlier, '{}'))
        FROM told WHERE before <> coalesce(earlier, '{}')
    """,
    "the history replayed is what is held": """
        SELECT format('user %s holds %s, told %s', user_id, a.products, t.after)
        FROM (SELECT * FROM told WHERE is_last) t FULL JOIN products_productaccess a USING (user_id)
        WHERE coalesce(t.after, '{}') <> coalesce(a.products, '{}')
    """,
    "what was ever held is what the history tells": """
        SELECT format('user %s: %s, told %s', user_id, a.ever, t.ever) FROM products_productaccess a LEFT JOIN (
            SELECT h.user_id, uniq(sort(array_agg(product))) AS ever
            FROM products_accesschange h, unnest(h.before | h.after) AS product GROUP BY h.user_id
        ) t USING (user_id) WHERE a.ever <> coalesce(t.ever, '{}')
    """,
    "the first time is told once, at the first time": """
        SELECT format('user %s, product %s', user_id, product) FROM (
            SELECT user_id, product, count(*) FILTER (WHERE product = ANY(first)) AS told,
                min(id) FILTER (WHERE product = ANY(first)) = min(id) AS at_first
            FROM products_accesschange h, unnest(h.after) AS product GROUP BY user_id, product
        ) times WHERE told <> 1 OR NOT at_first
    """,
    "every user has a set": """
        SELECT format('user %s', id) FROM users_user u
        WHERE NOT EXISTS (SELECT FROM products_productaccess a WHERE a.user_id = u.id)
    """,
    # Changes
    "a change has one row of the history per user": """
        SELECT format('change %s, user %s: %s rows', change_id, user_id, count(*)) FROM products_accesschange
        WHERE change_id IS NOT NULL GROUP BY change_id, user_id HAVING count(*) > 1
    """,
    "a change touches only users who are its targets, in a finished batch, and not skipped": """
        SELECT format('change %s, user %s: %s, %s', h.change_id, h.user_id, coalesce(t.state, 'no target'), t.skipped)
        FROM products_accesschange h LEFT JOIN target t USING (change_id, user_id)
        WHERE h.change_id IS NOT NULL AND (t.state IS DISTINCT FROM 'DONE' OR t.skipped IS NOT NULL)
    """,
    "a user is a target of a change once": """
        SELECT format('change %s, user %s', change_id, user_id) FROM target GROUP BY change_id, user_id HAVING count(*) > 1
    """,
    "what a change wrote is what was wanted, in its admin's name": """
        SELECT format('change %s, user %s: %s from %s', c.id, h.user_id, h.after, h.before)
        FROM products_accesschange h LEFT JOIN products_bulkchange c ON c.id = h.change_id
        WHERE h.change_id IS NOT NULL AND (
            h.after IS DISTINCT FROM pg_temp.target(c, h.before, h.user_id)
            OR (h.actor_id, h.source) IS DISTINCT FROM (c.actor_id, c.source)
        )
    """,
    "a target that a change left as it was held what was wanted": """
        SELECT format('change %s, user %s', c.id, t.user_id) FROM target t JOIN products_bulkchange c ON c.id = t.change_id
        WHERE t.state = 'DONE' AND t.skipped IS NULL
        AND NOT EXISTS (SELECT FROM products_productaccess a WHERE a.user_id = t.user_id AND a.erased)
        AND NOT EXISTS (SELECT FROM products_accesschange h WHERE h.change_id = c.id AND h.user_id = t.user_id)
        AND NOT EXISTS (
            SELECT FROM (
                SELECT coalesce((SELECT a.products FROM products_productaccess a WHERE a.user_id = t.user_id), '{}') AS products
                UNION ALL
                SELECT h.before FROM products_accesschange h
                WHERE h.user_id = t.user_id AND h.at >= least(c.requested_at, t.done_at)
            ) held WHERE held.products = pg_temp.target(c, held.products, t.user_id)
        )
    """,
    "who is skipped is a target": """
        SELECT format('change %s, user %s', s.change_id, s.user_id) FROM products_bulkchangeskip s
        WHERE NOT EXISTS (SELECT FROM target t WHERE t.change_id = s.change_id AND t.user_id = s.user_id)
    """,
    "the counters of a change are true": """
        SELECT format('change %s says %s, found %s', c.id, said, found) FROM products_bulkchange c
        LEFT JOIN (
            SELECT change_id, count(*) AS targets, count(*) FILTER (WHERE state = 'DONE') AS done,
                count(*) FILTER (WHERE skipped IS NOT NULL AND state IN ('DONE', 'FAILED')) AS skipped,
                count(*) FILTER (WHERE skipped IS NOT NULL AND state = 'DONE') AS skipped_in_done
            FROM target GROUP BY change_id
        ) t ON t.change_id = c.id
        LEFT JOIN (
            SELECT change_id, count(*) AS changed, count(*) FILTER (WHERE after = '{}') AS suspended,
                count(*) FILTER (WHERE before = '{}') AS restored
            FROM products_accesschange GROUP BY change_id
        ) h ON h.change_id = c.id,
        LATERAL (SELECT jsonb_build_object('targets', c.targets, 'changed', c.changed, 'unchanged', c.unchanged,
            'skipped', c.skipped, 'suspended', c.suspended, 'restored', c.restored) AS said) said,
        LATERAL (SELECT jsonb_build_object('targets', coalesce(t.targets, 0), 'changed', coalesce(h.changed, 0),
            'unchanged', coalesce(t.done - t.skipped_in_done, 0) - coalesce(h.changed, 0),
            'skipped', coalesce(t.skipped, 0), 'suspended', coalesce(h.suspended, 0),
            'restored', coalesce(h.restored, 0)) AS found) found
        WHERE said <> found
    """,
    "what a change moved per product is told truly": """
        SELECT format('change %s, product %s says %s, found %s', change_id, product, said, found) FROM (
            SELECT change_id, product_id AS product, ARRAY[gained, lost, onboarding]::bigint[] AS said
            FROM products_bulkchangemove
        ) m FULL JOIN (
            SELECT change_id, product, ARRAY[sum(gained), sum(lost), sum(onboarding)]::bigint[] AS found FROM (
                SELECT change_id, unnest(after - before) AS product, 1 AS gained, 0 AS lost, 0 AS onboarding
                FROM products_accesschange
                UNION ALL SELECT change_id, unnest(before - after), 0, 1, 0 FROM products_accesschange
                UNION ALL SELECT h.change_id, p.id, 0, 0, 1 FROM products_accesschange h
                    JOIN products_product p ON p.onboarding AND p.id = ANY(h.first)
            ) moves WHERE change_id IS NOT NULL GROUP BY change_id, product
        ) f USING (change_id, product) WHERE coalesce(said, '{0,0,0}') <> coalesce(found, '{0,0,0}')
    """,
    "a change that is over has reached everybody or says whom not": """
        SELECT format('change %s is %s: %s of %s reached', c.id, c.state, c.changed + c.unchanged + c.skipped, c.targets)
        FROM products_bulkchange c WHERE pg_temp.is_over(c) AND (
            c.finished_at IS NULL
            OR EXISTS (SELECT FROM products_bulkchangebatch b WHERE b.change_id = c.id AND b.state = 'WAITING')
            OR (c.state <> 'CANCELLED' AND c.changed + c.unchanged + c.skipped <> c.targets)
            OR c.changed + c.unchanged + c.skipped + (
                SELECT count(*) FROM target t WHERE t.change_id = c.id AND t.state = 'CANCELLED'
            ) <> c.targets
        )
    """,
    # Seats
    "seats used are holders, and never too many": """
        SELECT format('product %s: %s used and %s reserved of %s, %s hold it', s.product_id, s.used, s.reserved, s.seats, held.by)
        FROM products_seat s, LATERAL (
            SELECT count(*) AS by FROM products_productaccess a WHERE a.products @> ARRAY[s.product_id]
        ) held WHERE s.used <> held.by OR s.used + s.reserved > s.seats
    """,
    "seats are reserved for changes that are not over, and for nothing else": """
        SELECT format('product %s: %s reserved, %s by changes', s.product_id, s.reserved, coalesce(r.reserved, 0))
        FROM products_seat s LEFT JOIN (
            SELECT product_id, sum(r.reserved) AS reserved FROM products_seatreservation r
            JOIN products_bulkchange c ON c.id = r.change_id AND NOT pg_temp.is_over(c) GROUP BY product_id
        ) r USING (product_id) WHERE s.reserved <> coalesce(r.reserved, 0)
    """,
    # Emails
    "every email owed is owed once, and no other": """
        SELECT format('user %s, %s %s: owed %s times, should be %s', user_id, kind, about, coalesce(found, 0), coalesce(due, 0))
        FROM (
            SELECT user_id, kind, about, count(*) AS found FROM notifications_notification
            WHERE kind IN ('CHANGE', 'ONBOARDING') GROUP BY user_id, kind, about
        ) n FULL JOIN (
            SELECT h.user_id, 'CHANGE' AS kind, c.id AS about, 1 AS due
            FROM products_accesschange h JOIN products_bulkchange c ON c.id = h.change_id AND c.notify
            UNION ALL
            SELECT h.user_id, 'ONBOARDING', p.id, 1
            FROM products_accesschange h JOIN products_product p ON p.onboarding AND p.id = ANY(h.first)
            WHERE h.change_id IS NOT NULL
        ) d USING (user_id, kind, about) WHERE coalesce(found, 0) <> coalesce(due, 0)
    """,
}

# Only asked when there is a Witness.
ANCHORED = {
    "from what was held, the history leads to what is held": """
        SELECT format('user %s held %s, then %s, holds %s', user_id, w.products, told.before, a.products)
        FROM faults.witness w FULL JOIN products_productaccess a USING (user_id) LEFT JOIN LATERAL (
            SELECT before FROM products_accesschange h WHERE h.user_id = coalesce(w.user_id, a.user_id)
            AND h.id > (SELECT coalesce(max(last_row), 0) FROM faults.witness) ORDER BY id LIMIT 1
        ) told ON true WHERE coalesce(told.before, a.products, '{}') <> coalesce(w.products, '{}')
    """,
}


class Witness:
    """Remembers what everybody holds now, in a table beside the console's own, so that what nobody should touch is known."""

    def __init__(self, owner: str) -> None:
        with psycopg.connect(owner) as connection:
            connection.execute("CREATE SCHEMA IF NOT EXISTS faults")
            connection.execute("DROP TABLE IF EXISTS faults.witness")
            connection.execute(
                "CREATE TABLE faults.witness AS SELECT user_id, products, "
                "(SELECT coalesce(max(id), 0) FROM products_accesschange) AS last_row FROM products_productaccess"
            )


def breaches(owner: str) -> list[str]:
    """Return what is not as it must be, a few examples of each rule, in one snapshot of the database; `owner` is a conninfo."""
    with psycopg.connect(owner) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        return breaches_seen_by(connection)


def breaches_seen_by(connection: psycopg.Connection) -> list[str]:
    """Return the same as this connection sees it, its own transaction included."""
    found = []
    with connection.transaction(force_rollback=True):
        connection.execute(TARGET)
        connection.execute("SET LOCAL search_path = pg_temp, public")
        rules = dict(RULES)
        if connection.execute("SELECT to_regclass('faults.witness')").fetchone() != (None,):
            rules |= ANCHORED
        for rule, question in rules.items():
            for (example,) in connection.execute(f"SELECT * FROM ({question}) breach LIMIT 3"):
                found.append(f"{rule}: {example}")
    return found


def assert_invariants(owner: str, context: str = "") -> None:
    """Fail with every rule that is broken; `context` tells how it came to this."""
    found = breaches(owner)
    assert found == [], "\n".join([f"{len(found)} breaches {context}", *found])
