"""The invariants hold after changes as they are, and each of them notices what it is there for."""

import psycopg
import pytest

from tests.database import Database
from tests.factories import change, give, make_user, make_users
from tests.faults.invariants import ANCHORED, RULES, Witness, breaches, breaches_seen_by
from users.models import Role

pytestmark = pytest.mark.faults
# What somebody with every right breaks, and the rule that notices it. Changes 1 and 2 are for the users 2 to 4.
BROKEN = {
    "a row of the history starts where the user's row before ended": "UPDATE products_accesschange SET before = '{9}'",
    "the history replayed is what is held": "UPDATE products_productaccess SET products = '{}' WHERE user_id = 2",
    "what was ever held is what the history tells": "UPDATE products_productaccess SET ever = ever | 9 WHERE user_id = 2",
    "the first time is told once, at the first time": "UPDATE products_accesschange SET first = '{}' WHERE user_id = 2",
    "every user has a set": "DELETE FROM products_productaccess WHERE user_id = 2",
    "a change has one row of the history per user": """
        INSERT INTO products_accesschange (at, user_id, change_id, source, db_role, before, after, first)
        SELECT at, user_id, change_id, source, db_role, after, before, '{}' FROM products_accesschange WHERE change_id = 1
    """,
    "a change touches only users who are its targets, in a finished batch, and not skipped": """
        INSERT INTO products_accesschange (at, user_id, change_id, source, db_role, before, after, first)
        SELECT at, 1, change_id, source, db_role, before, after, first FROM products_accesschange WHERE change_id = 1
    """,
    "a user is a target of a change once": """
        INSERT INTO products_bulkchangebatch (change_id, n, user_ids, first_user, last_user)
        SELECT change_id, 9, user_ids, first_user, last_user FROM products_bulkchangebatch
    """,
    "what a change wrote is what was wanted, in its admin's name": "UPDATE products_accesschange SET actor_id = NULL",
    "a target that a change left as it was held what was wanted": "UPDATE products_bulkchange SET products = '{9}' WHERE id = 2",
    "who is skipped is a target": """
        INSERT INTO products_bulkchangeskip (change_id, user_id, reason) VALUES (1, 1, 'GONE')
    """,
    "the counters of a change are true": "UPDATE products_bulkchange SET restored = restored + 1",
    "what a change moved per product is told truly": "UPDATE products_bulkchangemove SET onboarding = onboarding + 1",
    "a change that is over has reached everybody or says whom not": "UPDATE products_bulkchange SET targets = targets + 1",
    "seats used are holders, and never too many": "UPDATE products_seat SET used = used + 1",
    "seats are reserved for changes that are not over, and for nothing else": "UPDATE products_seat SET reserved = 1",
    "every email owed is owed once, and no other": "DELETE FROM notifications_notification WHERE user_id = 2",
    "from what was held, the history leads to what is held": "UPDATE faults.witness SET products = '{9}' WHERE user_id = 1",
}


def test_every_invariant_holds_and_notices_what_breaks_it(committed_db: Database) -> None:
    admin, people = make_user(role=Role.ADMIN), make_users(3)
    Witness(committed_db.owner)
    assert [admin.pk, *(user.pk for user in people)] == [1, 2, 3, 4]
    give(people[2], "meeting")
    for made in (change(admin, people, "meeting"), change(admin, people, "meeting")):
        assert made.is_over

    assert breaches(committed_db.owner) == []
    assert BROKEN.keys() == RULES.keys() | ANCHORED.keys()
    with psycopg.connect(committed_db.superuser, autocommit=True) as anybody:
        for rule, statement in BROKEN.items():
            with anybody.transaction(force_rollback=True):
                for table in ("productaccess", "accesschange"):
                    anybody.execute(f"ALTER TABLE products_{table} DISABLE TRIGGER ALL")
                anybody.execute(statement)
                noticed = {breach.partition(": ")[0] for breach in breaches_seen_by(anybody)}
            assert rule in noticed, f"{statement} was noticed by {noticed}"
