"""The entitlement history: written by the database for every path, and never rewritten (rules H1, H2, H3)."""

from datetime import timedelta

import psycopg
import pytest
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, ProgrammingError, connection, transaction
from django.utils import timezone

from products import history, queries
from products.models import AccessChange, Entitlement, ProductAccess, Seat, Source
from tests.factories import change, give, held_by, ids, make_user, product
from users.models import Role, User

pytestmark = pytest.mark.django_db


def run(sql: str, *params: object) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, params)


def told(user_id: int) -> list[tuple[list[int], list[int]]]:
    """Return what the history tells of a user: (before, after), oldest first."""
    return list(AccessChange.objects.filter(user_id=user_id).order_by("id").values_list("before", "after"))


def test_a_new_user_has_an_access_row_and_no_history():
    grace = make_user("Grace Hopper")

    assert grace.product_access.products == []
    assert grace.product_access.suspended
    assert told(grace.pk) == []


def test_save_is_recorded():
    grace = make_user()
    access = grace.product_access
    access.products = access.ever = ids("meeting", "rescue")
    access.save()

    assert told(grace.pk) == [([], ids("meeting", "rescue"))]


def test_bulk_update_is_recorded():
    accesses = [make_user().product_access for _ in range(3)]
    for access in accesses:
        access.products = access.ever = ids("central")
    ProductAccess.objects.bulk_update(accesses, ["products", "ever"])

    assert [told(access.user_id) for access in accesses] == [[([], ids("central"))]] * 3


def test_raw_update_is_recorded_with_the_database_role_as_actor():
    grace = make_user()
    run("UPDATE products_productaccess SET products = %s, ever = %s WHERE user_id = %s", ids("rescue"), ids("rescue"), grace.pk)

    row = AccessChange.objects.get(user=grace)
    assert (row.actor, row.change, row.source, row.db_role) == (None, None, Source.OUTSIDE, "console")
    assert abs(row.at - timezone.now()) < timedelta(minutes=1)


def test_raw_insert_is_recorded():
    grace = make_user()
    run("DELETE FROM products_productaccess WHERE user_id = %s", grace.pk)
    run(
        "INSERT INTO products_productaccess (user_id, products, ever) VALUES (%s, %s, %s)", grace.pk, ids("rescue"), ids("rescue")
    )

    assert told(grace.pk) == [([], ids("rescue"))]


def test_insert_on_conflict_is_recorded():
    grace = make_user()
    run(
        "INSERT INTO products_productaccess (user_id, products, ever) VALUES (%s, %s, %s) "
        "ON CONFLICT (user_id) DO UPDATE SET products = excluded.products, ever = excluded.ever",
        grace.pk, ids("rescue"), ids("rescue"),
    )  # fmt: skip

    assert told(grace.pk) == [([], ids("rescue"))]


def test_copy_is_recorded():
    grace = make_user()
    run("DELETE FROM products_productaccess WHERE user_id = %s", grace.pk)
    array = f"{{{ids('rescue')[0]}}}"
    with connection.cursor() as cursor, cursor.copy("COPY products_productaccess (user_id, products, ever) FROM STDIN") as copy:
        copy.write_row((grace.pk, array, array))

    assert told(grace.pk) == [([], ids("rescue"))]


def test_delete_is_recorded():
    grace = give(make_user(), "rescue")
    run("DELETE FROM products_productaccess WHERE user_id = %s", grace.pk)

    assert told(grace.pk)[-1] == (ids("rescue"), [])


@pytest.mark.parametrize("how", ["raw SQL", "Django"])
def test_deleting_a_user_is_recorded(how):
    grace = give(make_user(), "rescue")
    if how == "Django":
        User.objects.filter(pk=grace.pk).delete()
    else:
        run("DELETE FROM users_user WHERE id = %s", grace.pk)
        run("SET CONSTRAINTS ALL IMMEDIATE")

    assert told(grace.pk)[-1] == (ids("rescue"), [])
    assert Seat.objects.get(product__code="rescue").used == 0


def test_the_django_shell_is_recorded():
    grace = make_user()
    call_command(
        "shell",
        "--no-imports",
        command=f"from products.models import ProductAccess; ProductAccess.objects.filter(user={grace.pk})"
        f".update(products={ids('rescue')}, ever={ids('rescue')})",
    )

    row = AccessChange.objects.get(user=grace)
    assert (row.after, row.source, row.db_role) == (ids("rescue"), Source.OUTSIDE, "console")


def test_the_consoles_role_owns_nothing_and_may_not_become_who_does():
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE relowner = (SELECT oid FROM pg_roles WHERE rolname = current_user)")
        owned = cursor.fetchall()
        cursor.execute("SELECT rolsuper, rolcreaterole, rolbypassrls, rolreplication FROM pg_roles WHERE rolname = current_user")
        powers = cursor.fetchone()
        cursor.execute("SELECT count(*) FROM pg_roles WHERE rolname <> current_user AND pg_has_role(oid, 'MEMBER')")
        others = cursor.fetchone()[0]

    assert (owned, powers, others) == ([], (False, False, False, False), 0)


def test_replica_mode_is_recorded_too(superuser_connection: psycopg.Connection):
    with superuser_connection.cursor() as cursor:
        cursor.execute("INSERT INTO users_user (email, password) VALUES ('grace@tests.example', '') RETURNING id")
        user_id = cursor.fetchone()[0]
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("UPDATE products_productaccess SET products = '{7}', ever = '{7}' WHERE user_id = %s", [user_id])
        cursor.execute("SELECT after, db_role FROM products_accesschange WHERE user_id = %s", [user_id])
        assert cursor.fetchall() == [([7], superuser_connection.info.user)]


def test_a_change_names_its_actor_and_the_act():
    admin, grace = make_user(role=Role.ADMIN), make_user()
    made = change(admin, [grace], "meeting", reason="Joins the sales team")

    row = AccessChange.objects.get(user=grace)
    assert (row.actor, row.change, row.source) == (admin, made, Source.CONSOLE)
    assert row.change.reason == "Joins the sales team"
    assert (row.granted, row.revoked, row.first) == (ids("meeting"), [], ids("meeting"))


def test_what_was_granted_before_is_not_granted_for_the_first_time():
    admin, grace = make_user(role=Role.ADMIN), make_user()
    change(admin, [grace], "meeting")
    change(admin, [grace])
    change(admin, [grace], "meeting", "webinar")

    assert [row.first for row in queries.timeline(grace)] == [ids("webinar"), [], ids("meeting")]


def test_acting_restores_the_earlier_actor():
    admin, grace, alan = make_user(), make_user(), make_user()
    with transaction.atomic(), history.acting(actor_id=admin.pk, source=Source.CONSOLE):
        with history.acting(actor_id=None, source=Source.IMPORT):
            ProductAccess.objects.filter(user=grace).update(products=ids("rescue"), ever=ids("rescue"))
        ProductAccess.objects.filter(user=alan).update(products=ids("rescue"), ever=ids("rescue"))

    assert [AccessChange.objects.get(user=user).actor for user in (grace, alan)] == [None, admin]


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE products_accesschange SET actor_id = 1",
        "DELETE FROM products_accesschange",
        "TRUNCATE products_accesschange",
        "INSERT INTO products_accesschange (at, user_id, source, db_role, before, after, first) "
        "VALUES (now(), 1, 'OUTSIDE', 'me', '{}', '{1}', '{1}')",
        "UPDATE products_accesschange_other SET actor_id = 1",
        "DELETE FROM products_accesschange_other",
        "TRUNCATE products_accesschange_other",
        "TRUNCATE products_productaccess",
    ],
)
@pytest.mark.parametrize("role", ["console", "owner", "superuser", "superuser as replica"])
def test_nobody_rewrites_the_history(sql, role, owner_connection, superuser_connection):
    if role == "console":
        with pytest.raises(ProgrammingError, match=r"permission denied|is refused"):
            run(sql)
        return
    attacker = owner_connection if role == "owner" else superuser_connection
    if role == "superuser as replica":
        attacker.execute("SET session_replication_role = replica")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="is refused"):
        attacker.execute(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE products_accesschange DISABLE TRIGGER ALL",
        "ALTER TABLE products_productaccess DISABLE TRIGGER ALL",
        "DROP TABLE products_accesschange",
        "SET session_replication_role = replica",
        "UPDATE products_seat SET used = 0",
        "CREATE OR REPLACE FUNCTION products_record_access() RETURNS trigger LANGUAGE sql AS 'SELECT NULL'",
        "SELECT products_move_seats(1, 5)",
    ],
)
def test_the_console_cannot_switch_its_recording_off(sql):
    with pytest.raises(ProgrammingError, match=r"permission denied|must be owner|syntax|SQL functions"):
        run(sql)


@pytest.mark.parametrize("function", ["products_record_access", "products_give_access_row", "products_give_seat_row"])
def test_the_console_cannot_put_the_triggers_on_a_table_of_its_own(function):
    run("CREATE TEMP TABLE forged (user_id int, id int, products int[], ever int[]) ON COMMIT DROP")
    with pytest.raises(ProgrammingError, match="permission denied for function"):
        run(
            "CREATE TRIGGER forge AFTER INSERT ON forged REFERENCING NEW TABLE AS new_rows "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
        )


def test_the_recording_works_on_the_access_of_users_only(owner_connection):
    owner_connection.execute("CREATE TEMP TABLE forged (user_id int, products int[], ever int[])")
    owner_connection.execute(
        "CREATE TRIGGER forge AFTER INSERT ON forged REFERENCING NEW TABLE AS new_rows "
        "FOR EACH STATEMENT EXECUTE FUNCTION products_record_access()"
    )
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="only the product access"):
        owner_connection.execute("INSERT INTO forged VALUES (1, '{8}', '{8}')")


def test_every_partition_refuses_to_be_rewritten(superuser_connection):
    partitions = [
        row[0]
        for row in superuser_connection.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'products_accesschange'::regclass"
        )
    ]
    assert len(partitions) >= 13
    for partition in [*partitions, "products_accesschange"]:
        tgenabled, writers = superuser_connection.execute(
            "SELECT (SELECT tgenabled FROM pg_trigger WHERE tgrelid = c.oid AND tgname = 'history_is_append_only'), "
            "(SELECT count(*) FROM aclexplode(relacl) a WHERE a.grantee <> relowner AND privilege_type <> 'SELECT') "
            "FROM pg_class c WHERE c.oid = %s::regclass",
            [partition],
        ).fetchone()
        assert (tgenabled, writers) == ("A", 0), partition


def test_partitions_are_made_ahead_once():
    with connection.cursor() as cursor:
        cursor.execute("SELECT products_make_history_partitions(14), products_make_history_partitions(14)")
        assert cursor.fetchone() == (2, 0)


@pytest.mark.parametrize(
    ("products", "ever", "why"),
    [
        ([7, 2], [2, 7], "products_are_a_sorted_set"),
        ([2, 2], [2], "products_are_a_sorted_set"),
        ([2], [7, 2], "ever_is_a_sorted_set"),
        ([2], [], "what_is_held_was_ever_held"),
        ([2, 9_999], [2, 9_999], "there is no product 9999"),
    ],
)
def test_a_set_that_cannot_be_is_refused(products, ever, why):
    grace = make_user()
    with pytest.raises(IntegrityError, match=why):
        run("UPDATE products_productaccess SET products = %s, ever = %s WHERE user_id = %s", products, ever, grace.pk)


def test_what_was_ever_held_is_never_forgotten():
    grace = give(make_user(), "rescue")
    with pytest.raises(IntegrityError, match="ever cannot shrink"):
        run("UPDATE products_productaccess SET products = '{}', ever = '{}' WHERE user_id = %s", grace.pk)


def test_access_cannot_be_handed_to_another_user():
    grace, alan = give(make_user(), "rescue"), make_user()
    run("DELETE FROM products_productaccess WHERE user_id = %s", alan.pk)
    with pytest.raises(IntegrityError, match="handed to another"):
        run("UPDATE products_productaccess SET user_id = %s WHERE user_id = %s", alan.pk, grace.pk)


def test_a_change_is_refused_when_the_history_cannot_be_written():
    grace = make_user()
    with pytest.raises(DatabaseError, match="not a number"):
        run(
            "SELECT set_config('console.actor', 'not a number', true); "
            "UPDATE products_productaccess SET products = '{7}', ever = '{7}'"
        )

    assert held_by(grace) == set()


def test_a_statement_that_changes_nothing_leaves_no_trace():
    grace = give(make_user(), "rescue")
    run("UPDATE products_productaccess SET products = products WHERE user_id = %s", grace.pk)

    assert len(told(grace.pk)) == 1


def test_entitlements_are_read_from_the_sets():
    grace = give(make_user(), "rescue", "meeting")

    assert held_by(grace) == {"rescue", "meeting"}
    assert Entitlement.objects.filter(product=product("rescue")).count() == 1
    assert len(set(Entitlement.objects.values_list("id", flat=True))) == 2
