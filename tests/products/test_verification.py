"""Whoever rewrites the history, the owner of the database included, is found: what, where, and which rows."""

import json
from datetime import timedelta

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from psycopg.types.json import Jsonb

from products import checkpoints, verification
from products.models import AccessChange, Checkpoint
from products.sealing import seal
from products.verification import verify
from tests.database import Database
from tests.factories import NOW, make_users
from users.models import Action
from users.record import record

GIVE = "UPDATE products_productaccess SET products = %s, ever = ever | %s"
FORGED = (
    "INSERT INTO products_accesschange (id, at, user_id, source, db_role, before, after, first) "
    "VALUES (%s, now(), 1, 'CONSOLE', 'console', '{}', '{7}', '{7}')"
)


class Tampering:
    """A history of four blocks of three rows, and a superuser who switches its protection off."""

    def __init__(self, database: Database, folder, settings) -> None:
        self.database = database
        settings.HISTORY_CHECKPOINTS = folder / "checkpoints.jsonl"
        make_users(3)
        with psycopg.connect(database.console, autocommit=True) as console:
            for products in ([7], [6], [7], []):
                console.execute(GIVE, [products, products])
                seal()
        record(Action.USER_SIGNED_IN, actor=None, words={"email": "grace@tests.example"})
        seal()
        self.file = settings.HISTORY_CHECKPOINTS
        self.signed = self.sign()

    def sign(self, later: timedelta = timedelta(0)) -> str:
        """Sign and publish a checkpoint, and return when, as the command tells it."""
        made = checkpoints.make(now=timezone.now() + later)
        assert made
        checkpoints.publish(made)
        return f"{made.at:%Y-%m-%d %H:%M:%S} UTC"

    def give(self, *codes: int) -> None:
        """Write and seal another block of the history."""
        with psycopg.connect(self.database.console, autocommit=True) as console:
            console.execute(GIVE, [list(codes), list(codes)])
        seal()

    def sql(self, *statements: str, **params: object) -> None:
        """Do what only a superuser who switches triggers off can do, to the history or the record of admins."""
        with psycopg.connect(self.database.superuser) as superuser:
            tables = [row[0] for row in superuser.execute(
                "SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger WHERE tgname IN ('history_is_append_only', "
                "'record_is_append_only', 'blocks_are_append_only', 'checkpoints_are_append_only')")]  # fmt: skip
            for table in tables:
                superuser.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            for statement in statements:
                superuser.execute(statement)

    def verified(self, capsys, *arguments: str) -> list[str]:
        """Return the damage that the command tells of, having seen that its exit code says the same."""
        capsys.readouterr()
        code: int | str | None = 0
        try:
            call_command("verify_history", *arguments, no_color=True)
        except SystemExit as ended:
            code = ended.code
        told = [line.removeprefix("DAMAGE: ") for line in capsys.readouterr().out.splitlines() if line.startswith("DAMAGE")]
        assert code == (1 if told else 0)
        return told


@pytest.fixture
def tampering(committed_db, tmp_path, settings) -> Tampering:
    return Tampering(committed_db, tmp_path, settings)


def test_what_nobody_touched_is_verified(tampering, capsys):
    assert tampering.verified(capsys) == []
    assert tampering.verified(capsys, "--checkpoint", str(tampering.file)) == []


def test_a_changed_a_missing_and_an_added_row_are_told_apart(tampering, capsys):
    tampering.sql(
        "UPDATE products_accesschange SET actor_id = 1 WHERE id IN (4, 5)",
        "DELETE FROM products_accesschange WHERE id = 8",
        FORGED.replace("%s", "0"),
    )

    assert tampering.verified(capsys) == [
        "Entitlement history, block 2, rows 4–5: changed",
        "Entitlement history, block 3, rows 8: missing",
        "Entitlement history, before the first block, rows 0: added",
    ]


def test_it_tells_in_one_language_whatever_the_organisations(tampering, settings, capsys):
    settings.LANGUAGE_CODE = "fr"
    tampering.sql("DELETE FROM products_accesschange WHERE id = 8")
    assert tampering.verified(capsys) == ["Entitlement history, block 3, rows 8: missing"]


def test_a_row_added_where_an_id_was_never_used_is_found(committed_db, tmp_path, settings, capsys):
    tampering = Tampering(committed_db, tmp_path, settings)
    with psycopg.connect(committed_db.console) as console:
        console.execute(GIVE, [[7], [7]])
        console.rollback()
    with psycopg.connect(committed_db.console, autocommit=True) as console:
        console.execute(GIVE, [[7], [7]])
    seal()
    tampering.sql(FORGED.replace("%s", "14"))

    assert tampering.verified(capsys) == ["Entitlement history, block 5, rows 14: added"]


@pytest.mark.parametrize(
    "column",
    ["at = at + '1 second'", "user_id = 9", "change_id = 1", "source = 'DEMO'", "db_role = 'me'", "before = '{1}'",
     "after = '{1}'", "first = '{1}'"],
)  # fmt: skip
def test_no_column_can_be_changed_unnoticed(tampering, capsys, column):
    tampering.sql(f"UPDATE products_accesschange SET {column} WHERE id = 6")

    assert tampering.verified(capsys) == ["Entitlement history, block 2, rows 6: changed"]


def test_what_admins_did_cannot_be_changed_unnoticed_nor_its_words(tampering, capsys):
    tampering.sql("""UPDATE users_adminaction SET words = '{"email": "alan@tests.example"}'""")
    assert tampering.verified(capsys) == ["Admin actions, block 1, rows 1: changed"]

    tampering.sql("UPDATE users_adminaction SET words = NULL, salt = NULL")
    assert tampering.verified(capsys) == ["Admin actions, block 1, rows 1: changed"]


def test_words_that_no_erasure_names_cannot_be_taken_unnoticed(tampering, capsys):
    named = record(Action.USER_SIGNED_IN, actor=None, words={"from": "192.0.2.1"})
    record(Action.USER_ERASED, actor=None, subject=1, after={"words": [named.pk]})
    seal()
    assert tampering.verified(capsys) == []

    tampering.sql("UPDATE users_adminaction SET words = NULL, salt = NULL WHERE id = 1")
    assert tampering.verified(capsys) == ["Admin actions, block 1, rows 1: changed"]


def test_a_block_that_fits_the_forged_row_breaks_the_chain(tampering, capsys):
    tampering.sql(
        "UPDATE products_accesschange SET actor_id = 1 WHERE id = 6",
        "UPDATE products_historyblock b SET leaves = (SELECT string_agg(leaf, '' ORDER BY id) FROM products_history_leaf "
        "WHERE id BETWEEN b.first_id AND b.last_id) WHERE chain = 'HISTORY' AND n = 2",
    )
    assert tampering.verified(capsys) == ["Entitlement history, block 2: the block itself was changed"]

    tampering.sql(
        "UPDATE products_historyblock b SET digest = products_block_digest(b) WHERE n = 2 AND chain = 'HISTORY'",
    )
    assert tampering.verified(capsys) == ["Entitlement history, block 3: a block before it is missing or was changed"]


def test_a_block_taken_out_breaks_the_chain(tampering, capsys):
    tampering.sql("DELETE FROM products_historyblock WHERE chain = 'HISTORY' AND n = 2")

    assert tampering.verified(capsys) == ["Entitlement history, block 3: a block before it is missing or was changed"]


CUT_OFF = [
    "DELETE FROM products_accesschange WHERE id > 6",
    "DELETE FROM products_historyblock WHERE chain = 'HISTORY' AND n > 2",
    "DELETE FROM products_checkpoint",
]


def test_a_tail_cut_off_is_found_by_the_checkpoint_outside_of_the_database(tampering, capsys):
    tampering.sql(*CUT_OFF)

    told = f"Entitlement history, block 4: a signed checkpoint tells of it, and it is not there (signed {tampering.signed})"
    assert tampering.verified(capsys, "--checkpoint", str(tampering.file)) == [told]
    assert tampering.verified(capsys) == [told]
    tampering.file.unlink()
    assert tampering.verified(capsys) == []  # nothing else could know


def test_a_chain_forged_anew_is_found_by_the_checkpoint(tampering, capsys):
    tampering.sql(*CUT_OFF, "UPDATE products_sealingmark SET xid = '3'")
    with psycopg.connect(tampering.database.console, autocommit=True) as console:
        for products in ([7], []):
            console.execute(GIVE, [products, products])
            seal()

    told = "Entitlement history, block 4: a signed checkpoint tells of another block in its place"
    assert tampering.verified(capsys) == [f"{told} (signed {tampering.signed})"]


def a_restore(tampering: Tampering) -> tuple[str, str]:
    """Write and sign blocks 5 to 7, bring back what was there before them, write and sign blocks 5 to 8 anew.

    Return what verifying then tells of that, and when the last two were signed.
    """
    tampering.give(7)
    first = tampering.sign(timedelta(minutes=1))
    tampering.give(6)
    tampering.give(7)
    last = tampering.sign(timedelta(minutes=2))
    tampering.sql(
        "DELETE FROM products_accesschange WHERE id > 12",
        "DELETE FROM products_historyblock WHERE chain = 'HISTORY' AND n > 4",
        "DELETE FROM products_checkpoint WHERE id > 1",
        "SELECT setval('products_accesschange_id_seq', 12)",
        "UPDATE products_sealingmark SET xid = '3'",
        "UPDATE products_productaccess SET products = '{}'",
    )
    tampering.give(6)
    tampering.sign(timedelta(minutes=5))
    tampering.give(7)
    tampering.give(6)
    signed = tampering.sign(timedelta(minutes=7))
    tampering.give()
    signed += f" – {tampering.sign(timedelta(minutes=8))}"
    told = f"Entitlement history, blocks 5–7: a signed checkpoint tells of another block in its place (signed {first} – {last})"
    return told, signed


# The last two blocks, made to fit each other and nothing before them.
FORGED_BLOCKS = [
    "UPDATE products_historyblock SET previous = sha256(digest) WHERE chain = 'HISTORY' AND n = 7",
    "UPDATE products_historyblock b SET digest = products_block_digest(b) WHERE chain = 'HISTORY' AND n = 7",
    "UPDATE products_historyblock SET previous = (SELECT digest FROM products_historyblock WHERE chain = 'HISTORY' AND n = 7) "
    "WHERE chain = 'HISTORY' AND n = 8",
    "UPDATE products_historyblock b SET digest = products_block_digest(b) WHERE chain = 'HISTORY' AND n = 8",
]


def test_what_is_forged_after_a_restore_is_told_beside_what_the_restore_took_back(tampering, capsys):
    of_the_restore, signed = a_restore(tampering)
    assert tampering.verified(capsys) == [of_the_restore]

    tampering.sql(*FORGED_BLOCKS)
    assert tampering.verified(capsys) == [
        "Entitlement history, block 7: a block before it is missing or was changed",
        of_the_restore,
        f"Entitlement history, blocks 7–8: a signed checkpoint tells of another block in its place (signed {signed})",
    ]


def test_after_a_restore_the_file_is_put_aside_and_a_new_one_finds_what_is_forged_from_then_on(tampering, capsys):
    of_the_restore, _signed = a_restore(tampering)
    aside = tampering.file.rename(tampering.file.with_name("checkpoints-until-2026-11-22.jsonl"))
    assert tampering.verified(capsys) == []
    tampering.give(7)
    signed = tampering.sign(timedelta(minutes=9))

    assert tampering.verified(capsys) == []
    assert tampering.verified(capsys, "--checkpoint", str(aside)) == [of_the_restore]
    tampering.sql(
        "DELETE FROM products_accesschange WHERE id > 27",
        "DELETE FROM products_historyblock WHERE chain = 'HISTORY' AND n = 9",
        "DELETE FROM products_checkpoint",
    )
    assert tampering.verified(capsys) == [
        f"Entitlement history, block 9: a signed checkpoint tells of it, and it is not there (signed {signed})"
    ]


def test_of_ever_so_many_stretches_of_checkpoints_that_tell_of_other_blocks_the_last_are_told_as_one(tampering, monkeypatch):
    monkeypatch.setattr(verification, "STRETCHES", 2)
    now, (own,) = timezone.now(), checkpoints.read(tampering.file)
    head = {"digest": json.loads(own.payload)["chains"]["HISTORY"]["digest"]}

    def signed(minute: int, block: int) -> checkpoints.Signed:
        told = {"at": (now + timedelta(minutes=minute)).isoformat(), "chains": {"HISTORY": {"block": block, **head}}}
        text = json.dumps(told)
        return checkpoints.Signed(text, checkpoints.sign(text), checkpoints.public_key())

    found = verify(keys=[checkpoints.public_key()], checkpoints=[signed(n, 50 + n if n % 2 else 4) for n in range(9)]).damage
    assert [(each.block, each.last) for each in found] == [(51, 51), (53, 53), (55, 57)]


def test_a_checkpoint_of_another_key_counts_for_nothing(tampering, settings, capsys):
    line = json.loads(tampering.file.read_text())
    own = checkpoints.public_key()
    settings.HISTORY_KEY = "that of somebody else, who would like to be us"
    line |= {"signature": checkpoints.sign(line["payload"]), "key": checkpoints.public_key()}
    tampering.file.write_text(f"{json.dumps(line)}\nnot a checkpoint\n")

    told = "a checkpoint is not signed by the key"
    assert tampering.verified(capsys, "--key", own) == [told, told]


def test_after_a_new_key_each_verifies_what_it_signed(tampering, settings, capsys):
    old, kept = checkpoints.public_key(), tampering.file.rename(tampering.file.with_name("kept.jsonl"))
    settings.HISTORY_KEY = "the next one, for who left knew the one before"
    call_command("seal_history")

    assert checkpoints.public_key() in capsys.readouterr().out
    assert tampering.file.exists()
    assert tampering.verified(capsys) == []
    assert tampering.verified(capsys, "--checkpoint", str(kept), "--key", old) == []
    assert tampering.verified(capsys, "--checkpoint", str(kept)) == ["a checkpoint is not signed by the key"]
    tampering.file.write_text(kept.read_text() + tampering.file.read_text())
    assert tampering.verified(capsys, "--key", old, "--key", checkpoints.public_key()) == []


def test_only_the_rows_since_a_date_are_compared_if_wanted(tampering, capsys):
    tampering.sql("UPDATE products_accesschange SET actor_id = 1 WHERE id = 6")

    assert tampering.verified(capsys, "--since", (timezone.now() + timedelta(hours=1)).isoformat()) == []
    assert tampering.verified(capsys, "--since", "2000-01-01") == ["Entitlement history, block 2, rows 6: changed"]
    with pytest.raises(CommandError, match="no date"):
        call_command("verify_history", "--since", "yesterday")


def test_a_checkpoint_is_made_once_for_what_it_tells(tampering):
    assert checkpoints.make(now=timezone.now()) is None
    assert Checkpoint.objects.count() == 1
    heads = Checkpoint.objects.get().heads
    assert (heads["HISTORY"]["block"], heads["HISTORY"]["rows"], heads["ACTIONS"]["rows"]) == (4, 12, 1)
    with psycopg.connect(tampering.database.console, autocommit=True) as console:
        console.execute(GIVE, [[7], [7]])
    seal()
    assert checkpoints.make(now=timezone.now(), every=timedelta(minutes=1)) is None
    made = checkpoints.make(now=timezone.now())
    assert made
    assert (made.heads["HISTORY"]["block"], made.heads["HISTORY"]["rows"]) == (5, 15)


def test_many_checkpoints_are_verified_in_as_many_queries_as_one(tampering, django_assert_num_queries):
    keys, (one,) = {checkpoints.public_key()}, checkpoints.read(tampering.file)
    with CaptureQueriesContext(connection) as needed:
        verify(keys=keys, checkpoints=[one])
    with django_assert_num_queries(len(needed)):
        assert verify(keys=keys, checkpoints=[one] * 100).checkpoints == 100


def test_checkpoints_that_others_put_into_the_database_stop_none_and_count_for_nothing(tampering, capsys):
    """The console's role may add some: not JSON, of another key or none, of the future, or an old one told to be of today."""
    now, own = timezone.now(), checkpoints.public_key()
    (genuine,) = checkpoints.stored([own])
    later = (now + timedelta(days=400)).isoformat()
    ahead, manifest = json.dumps({"at": later, "chains": {}}), json.dumps({"format": 1})
    for at, payload, signature, key in (
        (later, ahead, "cd" * 64, own),
        (now, "not JSON", "cd" * 64, own),
        (now, manifest, checkpoints.sign(manifest), own),
        (now, genuine.payload, genuine.signature, "ef" * 32),
        (later, genuine.payload, genuine.signature, own),
        (now, ahead, checkpoints.sign(ahead), own),  # when our own clock was wrong
    ):
        Checkpoint.objects.create(at=at, payload=payload, signature=signature, key=key)
    with psycopg.connect(tampering.database.console, autocommit=True) as console:
        console.execute(GIVE, [[7], [7]])
    seal()

    a_minute_later = now + timedelta(minutes=1, seconds=1)
    made = checkpoints.make(now=a_minute_later, every=timedelta(minutes=1))
    assert made
    assert (made.heads["HISTORY"]["block"], made.heads["HISTORY"]["rows"]) == (5, 15)
    assert checkpoints.latest(now=a_minute_later) == made
    assert checkpoints.make(now=a_minute_later) is None
    assert [json.loads(signed.payload)["chains"].keys() for signed in checkpoints.stored([own])][-1] == made.heads.keys()
    assert tampering.verified(capsys) == []


def test_the_file_and_the_key_are_nobody_elses_to_read(tampering, settings):
    assert tampering.file.stat().st_mode & 0o077 == 0
    assert (settings.HOME / "history_key").stat().st_mode & 0o077 == 0


def test_old_months_are_dropped_by_the_owner_and_the_rest_is_still_verified(tampering, capsys, settings):
    month = f"products_accesschange_{timezone.now():%Y_%m}"
    call_command("drop_history", "--before", "2100-01-01")
    assert month in capsys.readouterr().out
    assert AccessChange.objects.count() == 12

    call_command("drop_history", "--before", "2100-01-01", "--yes")
    assert AccessChange.objects.count() == 0
    capsys.readouterr()
    call_command("verify_history")
    assert "Dropped as too old: 12 rows from" in capsys.readouterr().out


def test_months_that_were_dropped_are_told_and_sealed_whatever_becomes_of_the_next(tampering, capsys):
    later = timezone.now() + timedelta(days=32)
    tampering.sql(FORGED.replace("%s", "99").replace("now()", f"'{later.isoformat()}'"))

    with pytest.raises(CommandError, match=f"{later:%Y_%m} has rows that are not sealed"):
        call_command("drop_history", "--before", "2100-01-01", "--yes")
    assert f"{timezone.now():%Y_%m}: 12 rows dropped." in capsys.readouterr().out
    assert Checkpoint.objects.latest("id").heads["ACTIONS"]["rows"] == 2


def test_what_is_to_be_kept_is_not_dropped(tampering, settings):
    settings.HISTORY_KEPT_MONTHS = 12
    with pytest.raises(CommandError, match="keep 12 months"):
        call_command("drop_history", "--before", "2100-01-01", "--yes")
    settings.HISTORY_KEPT_MONTHS = 0
    with pytest.raises(CommandError, match="Give --before"):
        call_command("drop_history")
    with psycopg.connect(tampering.database.console, autocommit=True) as console:
        console.execute(GIVE, [[7], [7]])
    with pytest.raises(CommandError, match="not sealed"):
        call_command("drop_history", "--before", "2100-01-01", "--yes")


def recorded_drop(tampering: Tampering, **told: object) -> None:
    """Let the owner record a drop, as `drop_history` does; nothing is dropped by that."""
    dropped = {"part": "x", "rows": 1, "from": str(NOW), "until": str(NOW), "ids": "{[5,6)}"} | told
    with psycopg.connect(tampering.database.owner) as owner:
        owner.execute(
            "INSERT INTO users_adminaction (action, after) VALUES ('history.dropped', %s)",
            [Jsonb({name: value for name, value in dropped.items() if value is not None})],
        )
    seal()


def test_a_dropped_month_does_not_excuse_the_others(tampering, capsys):
    recorded_drop(tampering)
    tampering.sql("DELETE FROM products_accesschange WHERE id IN (5, 6)")

    assert tampering.verified(capsys) == ["Entitlement history, block 2, rows 6: missing"]


def test_what_a_drop_left_has_to_be_what_was_sealed(tampering, capsys):
    """Rows that a record of a drop names, in blocks of which nothing else is left, are compared like any others."""
    recorded_drop(tampering, ids="{[1,10)}", rows=9)
    tampering.sql(
        "UPDATE products_accesschange SET actor_id = 1 WHERE id = 2",
        "DELETE FROM products_accesschange WHERE id BETWEEN 4 AND 9",
        FORGED.replace("%s", "5"),
    )

    assert tampering.verified(capsys) == [
        "Entitlement history, block 1, rows 2: changed",
        "Entitlement history, block 2, rows 5: changed",
    ]


def test_a_record_of_a_drop_that_cannot_be_true_excuses_nothing(tampering, capsys):
    for told in (
        {"ids": None}, {"ids": "{[5,6)"}, {"ids": "{[6,5)}"}, {"ids": "{[5,6),[5,6)}", "rows": 2}, {"ids": [5]},
        {"ids": f"{{[5,{10**18})}}"}, {"rows": 0}, {"rows": None}, {"from": None}, {"until": None},
    ):  # fmt: skip
        recorded_drop(tampering, **told)
    tampering.sql("DELETE FROM products_accesschange WHERE id = 5")

    *records, missing = tampering.verified(capsys)
    assert missing == "Entitlement history, block 2, rows 5: missing"
    assert records == [f"Admin actions, block {block}, rows {block}: no true record of dropped history" for block in range(2, 12)]


def test_a_record_of_a_drop_by_who_could_drop_nothing_excuses_nothing(tampering, capsys):
    """Of before the database refused it to them."""
    tampering.sql(
        "INSERT INTO users_adminaction (action, at, db_role, after) VALUES ('history.dropped', now(), 'console', "
        """'{"rows": 1, "from": "2001-01-01", "until": "2001-02-01", "ids": "{[5,6)}"}')""",
        "DELETE FROM products_accesschange WHERE id = 5",
    )
    seal()

    assert tampering.verified(capsys) == [
        "Admin actions, block 2, rows 2: no true record of dropped history",
        "Entitlement history, block 2, rows 5: missing",
    ]


UNNAMED = "INSERT INTO users_adminaction (action, at, db_role) VALUES ('user.erased', now(), 'console')"
TAKEN = "UPDATE users_adminaction SET words = NULL, salt = NULL WHERE id = 1"


def test_an_erasure_of_before_they_named_words_excuses_those_that_are_gone(tampering, capsys):
    tampering.sql(UNNAMED, TAKEN)
    record(Action.USER_ERASED, actor=None, subject=1, after={"words": []})
    seal()

    assert tampering.verified(capsys) == []


def test_since_erasures_name_words_one_that_names_none_excuses_nothing(tampering, capsys):
    record(Action.USER_ERASED, actor=None, subject=1, after={"words": []})
    tampering.sql(UNNAMED, TAKEN)
    seal()

    assert tampering.verified(capsys) == ["Admin actions, block 1, rows 1: changed"]
