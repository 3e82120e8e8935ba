"""What happens when several act at once: each test commits in a database of its own."""

import random
import threading
import uuid
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection, transaction

from notifications.models import Notification
from products import actions, history, running, tasks
from products.batch import LostClaim
from products.catalogue import add_product
from products.models import AccessChange, BulkChange, Mode, Product, ProductAccess, Seat, Source
from tests.factories import NOW, change, give, held_by, ids, limit, make_user, make_users
from users.models import Role, User


def at_once(*work: Callable[[], Any]) -> list[Any]:
    """Run each piece of work in a thread with a connection of its own; return what each returned or raised, in order."""
    outcomes: list[Any] = [None] * len(work)
    start = threading.Barrier(len(work))

    def run(place: int) -> None:
        try:
            start.wait()
            outcomes[place] = work[place]()
        except Exception as error:
            outcomes[place] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return outcomes


def run_to_the_end(*changes: BulkChange) -> None:
    """Do what the workers do, until every change is over."""
    running = list(changes)
    while running:
        running = [made for made in running if actions.advance_bulk_change(change_id=made.pk, now=NOW) is not actions.Step.OVER]


def contradictions() -> list[tuple[int, list[int], list[int]]]:
    """Return (user, products by the history, products) where the history replayed is not the present state."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT a.user_id, told.after, a.products FROM products_productaccess a
            LEFT JOIN LATERAL (
                SELECT after FROM products_accesschange h WHERE h.user_id = a.user_id ORDER BY id DESC LIMIT 1
            ) told ON true
            WHERE coalesce(told.after, '{}') <> a.products
            UNION ALL
            SELECT h.user_id, h.before, earlier.after FROM products_accesschange h
            JOIN LATERAL (
                SELECT after FROM products_accesschange e WHERE e.user_id = h.user_id AND e.id < h.id ORDER BY id DESC LIMIT 1
            ) earlier ON true
            WHERE earlier.after <> h.before
            """
        )
        return cursor.fetchall()


def seats_are_true() -> bool:
    """Return whether the counted seats are the holders, and none is reserved any more."""
    counted = {seat.product_id: seat.used for seat in Seat.objects.filter(used__gt=0)}
    holders: dict[int, int] = {}
    for products in ProductAccess.objects.values_list("products", flat=True):
        for product_id in products:
            holders[product_id] = holders.get(product_id, 0) + 1
    return counted == holders and not Seat.objects.filter(reserved__gt=0).exists()


def test_acting_needs_a_transaction(committed_db):
    with pytest.raises(RuntimeError, match="transaction"), history.acting(actor_id=1, source=Source.CONSOLE):
        pass


def test_a_connection_lost_while_acting_is_told_as_it_is(committed_db, superuser_connection):
    lost = pytest.raises(OperationalError, match="terminating connection")
    with lost, transaction.atomic(), history.acting(actor_id=1, source=Source.CONSOLE):
        superuser_connection.execute("SELECT pg_terminate_backend(%s)", [connection.connection.info.backend_pid])
        User.objects.exists()


def test_one_form_posted_twenty_times_at_once_is_one_change(committed_db):
    admin, grace, key = make_user(role=Role.ADMIN), make_user(), uuid.uuid4()
    outcomes = at_once(*[lambda: change(admin, [grace], "meeting", key=key)] * 20)

    assert {outcome.pk for outcome in outcomes} == {BulkChange.objects.get().pk}
    assert AccessChange.objects.count() == 1
    assert Notification.objects.count() == 2


def test_opposite_small_changes_of_the_same_users_end_in_one_order(committed_db):
    admins = [make_user(role=Role.ADMIN) for _ in range(8)]
    users = make_users(40)
    shuffled = random.Random(7)
    wanted = [("rescue",), ("central", "meeting"), (), ("rescue", "webinar")] * 2

    def one(admin: User, codes: Iterable[str]) -> Callable[[], BulkChange]:
        some = shuffled.sample(users, 25)
        return lambda: change(admin, some, *codes)

    outcomes = at_once(*[one(admin, codes) for admin, codes in zip(admins, wanted, strict=True)])

    assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == []
    assert contradictions() == []
    assert seats_are_true()
    assert Notification.objects.filter(kind="CHANGE").count() == AccessChange.objects.count()


def test_opposite_large_changes_in_other_batch_sizes_end_in_one_order(committed_db, settings):
    settings.BULK_AT_ONCE = 0
    admin, users = make_user(role=Role.ADMIN), make_users(60)
    settings.BULK_BATCH_SIZE = 7
    first = change(admin, users, "rescue", "meeting")
    settings.BULK_BATCH_SIZE = 11
    second = change(admin, users[20:], "central")

    outcomes = at_once(*[lambda: run_to_the_end(first, second)] * 4)

    assert outcomes == [None] * 4
    assert contradictions() == []
    assert seats_are_true()
    assert all(held_by(user) == {"rescue", "meeting"} for user in users[:20])
    assert all(held_by(user) == {"central"} for user in users[20:])
    for made in (first, second):
        made.refresh_from_db()
        assert (made.state, made.reached) == (BulkChange.State.FINISHED, made.targets)


def test_the_last_seats_go_to_as_many_as_there_are(committed_db):
    limit("rescue", 10)
    admins = [make_user(role=Role.ADMIN) for _ in range(8)]
    sets = [make_users(3) for _ in admins]
    outcomes = at_once(
        *[lambda admin=admin, users=users: change(admin, users, "rescue") for admin, users in zip(admins, sets, strict=True)]
    )

    assert sum(isinstance(outcome, BulkChange) for outcome in outcomes) == 3
    assert sum(isinstance(outcome, actions.SeatsShort) for outcome in outcomes) == 5
    assert Seat.objects.get(product__code="rescue").used == 9
    assert seats_are_true()


def test_reservations_at_once_never_oversell(committed_db, settings):
    settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE = 0, 2
    limit("rescue", 10)
    limit("webinar", 7)
    admins = [make_user(role=Role.ADMIN) for _ in range(6)]
    sets = [make_users(3) for _ in admins]
    outcomes = at_once(
        *[
            lambda admin=admin, users=users: change(admin, users, "rescue", "webinar")
            for admin, users in zip(admins, sets, strict=True)
        ]
    )
    granted = [outcome for outcome in outcomes if isinstance(outcome, BulkChange)]
    assert len(granted) == 2

    assert at_once(*[lambda: run_to_the_end(*granted)] * 3) == [None] * 3
    assert Seat.objects.get(product__code="webinar").used == 6
    assert seats_are_true()


def test_the_same_batch_by_several_workers_is_applied_once(committed_db, settings):
    settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE = 0, 5
    admin, users = make_user(role=Role.ADMIN), make_users(20)
    made = change(admin, users, "meeting")
    at_once(*[lambda: run_to_the_end(made)] * 5)

    made.refresh_from_db()
    assert (made.state, made.changed) == (BulkChange.State.FINISHED, 20)
    assert AccessChange.objects.count() == 20
    assert Notification.objects.exclude(kind="FINISHED").count() == 40
    assert Notification.objects.filter(kind="FINISHED").count() == 1  # the admin is told once


def test_a_worker_whose_lease_ran_out_does_not_apply_its_batch(committed_db, settings):
    settings.BULK_AT_ONCE = 0
    admin, grace = make_user(role=Role.ADMIN), make_user()
    made = change(admin, [grace], "rescue")
    slow = running._claim(made)
    made.batches.update(lease_until=NOW.replace(year=2020))
    run_to_the_end(made)

    assert slow is not None
    with pytest.raises(LostClaim):
        running._apply_claimed(made, slow)
    assert AccessChange.objects.count() == 1


def test_a_change_waits_for_rows_that_another_holds_and_then_sees_what_they_wrote(committed_db):
    """Rule 2 of the heart: what is computed after a lock wait is computed from what the other wrote."""
    admin, grace = make_user(role=Role.ADMIN), give(make_user(), "rescue")
    with psycopg.connect(committed_db.console) as other:
        other.execute("SELECT 1 FROM products_productaccess WHERE user_id = %s FOR NO KEY UPDATE", [grace.pk])
        outcome: list[Any] = []
        waiting = threading.Thread(
            target=lambda: outcome.append(at_once(lambda: change(admin, [grace], "central", mode=Mode.ADD))[0])
        )
        waiting.start()
        waiting.join(timeout=0.3)
        assert waiting.is_alive()
        both = ids("rescue", "webinar")
        other.execute("UPDATE products_productaccess SET products = %s, ever = %s WHERE user_id = %s", [both, both, grace.pk])
        other.commit()
        waiting.join(timeout=30)

    assert outcome[0].changed == 1
    assert held_by(grace) == {"rescue", "webinar", "central"}
    assert contradictions() == []


def test_the_first_statement_of_a_session_may_be_a_large_one(committed_db):
    """A plan that compares every row with every other takes 11 s for these, and is kept for the session."""
    with psycopg.connect(committed_db.console, autocommit=True) as session:
        session.execute(
            "INSERT INTO users_user (email, password) SELECT n || '@tests.example', '' FROM generate_series(1, 5000) n"
        )
        session.execute("SET statement_timeout = '5s'")
        session.execute("UPDATE products_productaccess SET products = %s, ever = %s", [ids("rescue"), ids("rescue")])

    assert AccessChange.objects.count() == 5_000


def test_of_two_who_add_one_product_at_once_one_is_told(committed_db):
    sue = make_user(role=Role.SUPER_ADMIN)

    outcomes = at_once(*[partial(add_product, actor=sue, name="Notes", code=code) for code in ("notes", "note")])

    assert sorted(type(each).__name__ for each in outcomes) == ["InvalidProduct", "Product"]
    assert Product.objects.filter(name="Notes").count() == 1


def test_who_reads_the_history_for_hours_holds_nobody_up_at_the_turn_of_a_month(committed_db):
    admin, grace, swept = make_user(role=Role.ADMIN), make_user(), threading.Event()
    with psycopg.connect(committed_db.owner) as owner, connection.cursor() as cursor:
        cursor.execute("SELECT 'products_accesschange_' || to_char(now() AT TIME ZONE 'UTC' + interval '1 year', 'YYYY_MM')")
        (newest,) = cursor.fetchone()
        owner.execute(f"DROP TABLE {newest}")
        cursor.execute("SET lock_timeout = '2s'")

    def sweep() -> None:
        tasks.sweep()
        swept.set()

    sweeping = threading.Thread(target=at_once, args=[sweep])
    with psycopg.connect(committed_db.console) as reader:
        reader.execute("SELECT 1 FROM products_accesschange")
        sweeping.start()
        assert swept.wait(2)
        change(admin, [grace], "rescue")
        assert reader.execute("SELECT to_regclass(%s)", [newest]).fetchone() == (None,)
    sweeping.join(10)

    assert held_by(grace) == {"rescue"}
    tasks.sweep()
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s)::text, current_setting('lock_timeout')", [newest])
        assert cursor.fetchone() == (newest, "2s")
