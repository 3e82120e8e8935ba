"""The seal on the history: which rows a block holds, whatever commits late, and that nobody writes or rewrites blocks by hand."""

import hashlib
import struct
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from django.db import ProgrammingError, connection, transaction

from products import stretches, tasks
from products.models import AccessChange, Chain, HistoryBlock
from products.sealing import is_due, seal, unsealed
from tests.factories import change, give, make_user, make_users, run
from users.models import Action, AdminAction
from users.record import record

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
SEAL = "SELECT products_seal('HISTORY', 1000000)"
# Of different products, for two transactions that move the seats of the same one wait for each other.
GIVE = "UPDATE products_productaccess SET products = '{7}', ever = '{7}' WHERE user_id = %s"
GIVE_ANOTHER = "UPDATE products_productaccess SET products = '{6}', ever = '{6}' WHERE user_id = %s"


def sent(*values: tuple[int, bytes | None]) -> bytes:
    """Return what PostgreSQL's record_send makes of values, each with the number of its type."""
    fields = [
        struct.pack(">II", oid, len(value)) + value if value is not None else struct.pack(">Ii", oid, -1) for oid, value in values
    ]
    return struct.pack(">I", len(values)) + b"".join(fields)


def bigint(value: int | None) -> tuple[int, bytes | None]:
    return 20, None if value is None else struct.pack(">q", value)


def integer(value: int | None) -> tuple[int, bytes | None]:
    return 23, None if value is None else struct.pack(">i", value)


def moment(value: datetime) -> tuple[int, bytes]:
    return 1184, struct.pack(">q", (value - EPOCH) // timedelta(microseconds=1))


def integers(values: list[int]) -> tuple[int, bytes]:
    head = struct.pack(">iiI", bool(values), 0, 23) + (struct.pack(">ii", len(values), 1) if values else b"")
    return 1007, head + b"".join(struct.pack(">ii", 4, value) for value in values)


def leaf_of(row: AccessChange) -> bytes:
    """Return the digest of a row of the history, computed without the database, as docs/audit.md tells it."""
    return hashlib.sha256(
        sent(
            bigint(row.pk),
            moment(row.at),
            integer(row.user_id),
            bigint(row.change_id),
            integer(row.actor_id),
            (17, row.source.encode()),
            (17, row.db_role.encode()),
            integers(row.before),
            integers(row.after),
            integers(row.first),
        )
    ).digest()


def numbers(block: HistoryBlock) -> list[int]:
    """Return the ids of the rows that a block holds."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT generate_series(lower(r), upper(r) - 1) FROM products_historyblock, unnest(ids) AS r WHERE id = %s",
            [block.pk],
        )
        return [row[0] for row in cursor]


@pytest.mark.django_db
def test_nothing_is_sealed_where_nothing_was_written():
    assert seal() == 0
    assert HistoryBlock.objects.count() == 0
    assert [(window.rows, window.since) for window in unsealed().values()] == [(0, None), (0, None)]


@pytest.mark.django_db
def test_the_digest_of_a_row_is_of_bytes_that_anybody_can_make():
    give(make_user(), "rescue", "meeting")
    give(make_user(), "central")
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('console.change', '41', true), set_config('console.actor', '7', true)")
        cursor.execute("UPDATE products_productaccess SET products = '{}'")
    seal()

    rows = list(AccessChange.objects.order_by("id"))
    assert len(rows) == 4
    assert bytes(HistoryBlock.objects.get(chain=Chain.HISTORY).leaves) == b"".join(map(leaf_of, rows))


@pytest.mark.django_db
def test_blocks_follow_one_another_without_a_gap():
    for _block in range(3):
        give(make_user(), "rescue")
        seal()

    blocks = list(HistoryBlock.objects.filter(chain=Chain.HISTORY).order_by("n"))
    assert [block.n for block in blocks] == [1, 2, 3]
    assert [bytes(block.previous) for block in blocks] == [bytes(32), *(bytes(block.digest) for block in blocks[:2])]
    assert [block.first_id for block in blocks] == [1, *(block.last_id + 1 for block in blocks[:2])]


@pytest.mark.django_db
def test_many_rows_are_sealed_in_blocks_of_a_size_and_at_most_so_many_at_a_time():
    users = make_users(10_100)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE products_productaccess SET products = '{7}', ever = '{7}'")

    assert seal(most=5_000) == 5_000
    assert unsealed()[Chain.HISTORY].rows == 5_100
    assert seal() == 5_100
    assert list(HistoryBlock.objects.order_by("n").values_list("rows", flat=True)) == [5_000, 5_000, 100]
    assert sum(len(numbers(block)) for block in HistoryBlock.objects.all()) == len(users)


@pytest.mark.django_db
def test_the_record_of_admins_is_sealed_in_a_chain_of_its_own():
    record(Action.USER_SIGNED_IN, actor=None, words={"email": "zoë@tests.example"}, after={"x": None})
    give(make_user(), "rescue")

    assert seal() == 2
    assert {block.chain: block.n for block in HistoryBlock.objects.all()} == {Chain.HISTORY: 1, Chain.ACTIONS: 1}
    row, block = AdminAction.objects.get(), HistoryBlock.objects.get(chain=Chain.ACTIONS)
    of = bigint(row.pk), moment(row.at), (17, b"user.signed_in"), integer(None), bigint(None), (17, b"console"), (17, None)
    expected = sent(*of, (17, b'{"x": null}'), (17, bytes(row.words_digest)))
    assert bytes(block.leaves) == hashlib.sha256(expected).digest()


@pytest.mark.django_db
def test_what_is_not_sealed_yet_is_told():
    give(make_user(), "rescue")
    window = unsealed()[Chain.HISTORY]
    assert (window.rows, window.since) == (1, AccessChange.objects.get().at)
    seal()
    assert unsealed()[Chain.HISTORY].rows == 0


@pytest.mark.django_db
def test_a_bulk_change_goes_first_until_a_row_has_waited_for_a_minute(settings):
    settings.BULK_AT_ONCE = 0
    give(make_user(), "rescue")
    written = AccessChange.objects.get().at
    running = change(make_user(role="ADMIN"), make_users(2), "meeting")

    assert not is_due(now=written + timedelta(seconds=59))
    assert is_due(now=written + timedelta(seconds=60))
    run(running)
    assert is_due(now=written)


def test_the_sealer_rings_for_the_rest_after_a_moment(committed_db, broker, monkeypatch):
    monkeypatch.setattr(stretches, "BLOCKS", 1)
    give(make_user(), "rescue")

    rung = []
    for _ring in range(2):
        tasks.seal()
        rung.append(broker.waiting())
    assert rung == [1, 1], "it rings once, and not when nothing was left"


def test_a_row_that_commits_late_is_never_passed_over(committed_db):
    late, early = make_user(), make_user()
    with psycopg.connect(committed_db.console) as slow, psycopg.connect(committed_db.console, autocommit=True) as other:
        slow.execute(GIVE_ANOTHER, [late.pk])
        other.execute(GIVE, [early.pk])
        # The row that is there has the greater id: sealed now, the other would come too late.
        assert other.execute(SEAL).fetchone() == (0,)
        assert AccessChange.objects.values_list("user_id", flat=True).get() == early.pk
        slow.commit()
        assert other.execute(SEAL).fetchone() == (2,)

    assert numbers(HistoryBlock.objects.get()) == [1, 2]


def test_what_was_complete_is_sealed_beside_a_change_that_goes_on(committed_db):
    users = make_users(4)
    with psycopg.connect(committed_db.console) as slow, psycopg.connect(committed_db.console, autocommit=True) as other:
        other.execute(GIVE, [users[0].pk])
        slow.execute(GIVE_ANOTHER, [users[1].pk])
        assert other.execute(SEAL).fetchone() == (0,)  # from here on whoever began before is waited for
        slow.commit()
        slow.execute(GIVE_ANOTHER, [users[2].pk])
        other.execute(GIVE, [users[3].pk])

        assert other.execute(SEAL).fetchone() == (2,)
        assert numbers(HistoryBlock.objects.get()) == [1, 2]
        slow.rollback()
        assert other.execute(SEAL).fetchone() == (1,)

    # The id of the row that was rolled back is in the range of a block, and no row.
    last = HistoryBlock.objects.get(n=2)
    assert (last.first_id, last.last_id, numbers(last)) == (3, 4, [4])


def test_one_seals_at_a_time(committed_db):
    give(make_user(), "rescue")
    with psycopg.connect(committed_db.console) as one, psycopg.connect(committed_db.console) as another:
        assert one.execute(SEAL).fetchone() == (1,)
        assert another.execute(SEAL).fetchone() == (0,)
        one.commit()

    assert HistoryBlock.objects.count() == 1


def test_a_database_that_was_restored_on_another_server_goes_on_being_sealed(committed_db, owner_connection):
    owner_connection.execute("INSERT INTO products_sealingmark VALUES ('HISTORY', 0, '4000000000')")
    owner_connection.commit()
    users = make_users(2)
    with psycopg.connect(committed_db.console) as slow, psycopg.connect(committed_db.console, autocommit=True) as other:
        slow.execute(GIVE_ANOTHER, [users[0].pk])
        assert other.execute(SEAL).fetchone() == (0,)
        slow.commit()
        slow.execute(GIVE_ANOTHER, [users[1].pk])

        assert other.execute(SEAL).fetchone() == (1,)


def test_sealing_sees_what_others_commit(committed_db, owner_connection):
    owner_connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with pytest.raises(psycopg.errors.RaiseException, match="read committed"):
        owner_connection.execute(SEAL)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE products_historyblock SET leaves = leaves",
        "DELETE FROM products_historyblock",
        "TRUNCATE products_historyblock",
        "UPDATE products_checkpoint SET payload = ''",
        "DELETE FROM products_checkpoint",
        "TRUNCATE products_checkpoint CASCADE",
    ],
)
@pytest.mark.parametrize("role", ["console", "owner", "superuser as replica"])
def test_nobody_rewrites_the_seal(sql, role, owner_connection, superuser_connection):
    if role == "console":
        with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(sql)
        return
    attacker = owner_connection if role == "owner" else superuser_connection
    if role != "owner":
        attacker.execute("SET session_replication_role = replica")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="is refused"):
        attacker.execute(sql)


@pytest.mark.django_db
@pytest.mark.parametrize("table", ["products_historyblock", "products_sealingmark"])
def test_the_console_writes_no_blocks_but_by_sealing(table):
    with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} (chain) VALUES ('HISTORY')")
