"""Restoring a dump by the commands of docs/operations.md, while the console works: all of it, or nothing happens."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.contrib.sessions.models import Session
from django.db import connections
from django.test import Client
from django.utils import timezone
from psycopg.conninfo import conninfo_to_dict

from admin_console.embedded import postgres_binaries
from products import actions, checkpoints
from products.erasure import erase_user
from products.models import BulkChange
from products.sealing import seal
from products.verification import Kind, verify
from tests.database import Cluster, Database
from tests.factories import change, held_by, make_user, make_users, run
from tests.products.conftest import breaches
from users.actions import change_role, edit_user
from users.models import Action, Role, User
from users.record import record

STANDING_FOR = {"console": "", "console_before": "_before", "restored": "_restored"}
KNOWN_AS = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}


class Restoring:
    """A dump of when two of four users had been reached by a change; since then all were, and one was changed again."""

    def __init__(self, database: Database, folder: Path, settings: Any) -> None:
        settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE = 0, 2
        settings.HISTORY_CHECKPOINTS = folder / "checkpoints.jsonl"
        self.database, self.dump = database, folder / "console.dump"
        self.document = (settings.BASE_DIR / "docs" / "operations.md").read_text()
        self.admin, self.users = make_user("Ada Admin", role=Role.ADMIN), make_users(4)
        self.ada = make_user("Ada Owner", email="ada@example.com", role=Role.SUPER_ADMIN)
        self.eve = make_user("Eve Admin", email="eve@example.com", role=Role.SUPER_ADMIN)
        self.max = make_user("Max Member", email="max@example.com")
        (session := Client()).force_login(self.ada)
        self.session = session
        self.change = change(self.admin, self.users, "meeting")
        actions.advance_bulk_change(change_id=self.change.pk, now=timezone.now())
        self.sign()
        assert self.does("pg_dump -Fc", stdout=self.dump.open("wb")) == ""
        run(self.change)
        run(change(self.admin, self.users[:1], "rescue"))
        self.sign()

    def does(self, start: str, **files: Any) -> str:
        """Do the command of the document that begins so, to this database instead of the console's; return its complaints."""
        (command,) = re.findall(rf"manage\.py pg ({start}[^`\n]*)", self.document)
        program, *words = map(self.here, shlex.split(re.sub(r" [<>]+\S+$", "", command)))
        at = {KNOWN_AS[name]: str(value) for name, value in conninfo_to_dict(self.database.superuser).items() if name in KNOWN_AS}
        files = {"stdout": subprocess.DEVNULL, **files}
        done = subprocess.run(
            [postgres_binaries() / program, *words], env={**os.environ, **at}, stderr=subprocess.PIPE, text=True, **files
        )
        assert bool(done.returncode) == bool(done.stderr)
        return str(done.stderr)

    def here(self, text: str) -> str:
        """Return a text of the document with the names of the databases of this test."""
        return re.sub(r"\b(console|console_before|restored)\b", lambda found: self.database.name + STANDING_FOR[found[1]], text)

    def lists(self) -> str:
        """Do what the document says lists what was done since the dump, and return what that tells."""
        (asked,) = re.findall(r"<<'SQL'\n(.*?\n)SQL\n", self.document, re.DOTALL)
        (file := self.dump.with_name("asked.sql")).write_text(self.here(asked))
        (answer := self.dump.with_name("told.txt")).touch()
        assert self.does("psql -d restored -v", stdin=file.open(), stdout=answer.open("w")) == ""
        return answer.read_text()

    def restores(self) -> str:
        """Restore the dump beside the database in use and return what that complains of."""
        assert self.does("createdb") == ""
        return self.does("pg_restore --exit", stdin=self.dump.open("rb"))

    def puts_it_in_place(self) -> None:
        assert self.does("psql -d postgres -c") == ""
        assert self.does("psql -d postgres -1") == ""
        connections["default"].close()

    def sign(self) -> None:
        """Seal what there is and sign a checkpoint."""
        seal()
        made = checkpoints.make(now=timezone.now())
        assert made
        checkpoints.publish(made)

    def held(self) -> list[set[str]]:
        return [held_by(user) for user in self.users]


@pytest.fixture
def restoring(committed_db: Database, cluster: Cluster, tmp_path: Path, settings: Any) -> Iterator[Restoring]:
    yield Restoring(committed_db, tmp_path, settings)
    for name in ("_restored", "_before"):
        cluster.drop(committed_db.name + name)


def test_a_dump_takes_the_place_of_a_database_in_use_and_the_console_goes_on_from_there(restoring: Restoring) -> None:
    assert restoring.restores() == ""
    assert restoring.does("psql -d restored -c ANALYZE") == ""
    with psycopg.connect(restoring.database.console) as working:
        working.execute("UPDATE products_productaccess SET products = '{}'")
        restoring.puts_it_in_place()
        with pytest.raises(psycopg.OperationalError):
            working.commit()

    assert restoring.held() == [{"meeting"}, {"meeting"}, set(), set()]
    run(restoring.change)
    change(restoring.admin, restoring.users[:1])
    assert restoring.held() == [{"meeting"}] * 4
    assert breaches() == []
    with psycopg.connect(restoring.database.console) as console, pytest.raises(psycopg.Error, match="permission denied"):
        console.execute("UPDATE products_accesschange SET actor_id = 1")


def test_a_dump_that_cannot_be_read_to_its_end_changes_nothing(restoring: Restoring) -> None:
    whole = restoring.dump.read_bytes()
    restoring.dump.write_bytes(whole[: len(whole) // 2])

    assert "error" in restoring.restores()
    assert restoring.does("dropdb restored") == ""

    assert restoring.held() == [{"rescue"}, *[{"meeting"}] * 3]
    run(change(restoring.admin, restoring.users, "webinar"))
    assert breaches() == []


def test_a_change_that_ran_when_the_dump_was_made_can_be_paused_before_it_goes_on(restoring: Restoring) -> None:
    restoring.restores()
    assert restoring.does('psql -d restored -c "UPDATE products') == ""
    restoring.puts_it_in_place()

    assert run(restoring.change).state == BulkChange.State.PAUSED
    assert restoring.held() == [{"meeting"}, {"meeting"}, set(), set()]
    actions.cancel_change(actor=restoring.admin, change_id=restoring.change.pk, now=timezone.now())
    assert breaches() == []


def test_after_a_restore_the_checkpoints_since_the_dump_are_told_until_their_file_is_put_aside(restoring: Restoring) -> None:
    restoring.restores()
    restoring.puts_it_in_place()
    file = restoring.dump.with_name("checkpoints.jsonl")
    keys = [checkpoints.public_key()]
    assert {(each.kind, each.block) for each in verify(keys=keys, checkpoints=checkpoints.read(file)).damage} == {
        (Kind.CUT_OFF, 2)
    }

    file.rename(file.with_name("checkpoints-until-2026-11-22.jsonl"))
    run(restoring.change)
    restoring.sign()

    assert verify(keys=keys, checkpoints=[*checkpoints.stored(keys), *checkpoints.read(file)]).damage == []
    assert len(list(checkpoints.read(file))) == 1


def test_a_session_of_then_is_ended_before_the_dump_takes_its_place(restoring: Restoring) -> None:
    assert restoring.session.get("/users/").status_code == 200
    restoring.restores()
    assert restoring.does('psql -d restored -c "TRUNCATE') == ""
    restoring.puts_it_in_place()

    assert not Session.objects.exists()
    assert restoring.session.get("/users/").status_code == 302


def test_whose_power_password_or_email_is_another_since_the_dump_is_listed_and_locked_out(restoring: Restoring) -> None:
    ada, eve, maxim, gone = restoring.ada, restoring.eve, restoring.max, restoring.users[3]
    change_role(actor=ada, user=eve, role=Role.MEMBER)
    edit_user(actor=ada, user=maxim, first_name="Max", last_name="Member", email="max.right@example.com")
    record(Action.USER_PASSWORD_SET, actor=eve, subject=eve.pk)
    erase_user(actor=ada, user=gone, now=timezone.now())
    restoring.restores()

    told = restoring.lists()
    assert re.search(rf"user.role_changed +\| +{eve.pk} \| eve@example.com +\| +{ada.pk} \| {{\"role\": \"MEMBER\"}}", told)
    assert re.search(r"user.edited .*max.right@example.com", told)
    assert re.search(rf"user.password_set +\| +{eve.pk} ", told)
    assert re.search(rf"user.erased +\| +{gone.pk} ", told)
    assert re.search(rf"{gone.pk} \| {gone.pk}@erased.invalid\n\(1 row\)", told)
    assert len(re.findall("change.requested", told)) == 1  # not the one that the dump knows
    assert "signed_in" not in told

    assert restoring.does(r'psql -d restored -c "UPDATE users.*eve@') == ""
    restoring.puts_it_in_place()
    eve, maxim = User.objects.get(pk=eve.pk), User.objects.get(pk=maxim.pk)
    assert [(each.role, each.has_usable_password()) for each in (eve, maxim)] == [(Role.MEMBER, False)] * 2
    assert User.objects.get(pk=ada.pk).has_usable_password()
    assert change_role(actor=ada, user=eve, role=Role.ADMIN)


def test_where_nothing_tells_what_happened_since_the_dump_one_super_admin_is_let_in(restoring: Restoring) -> None:
    restoring.restores()
    assert restoring.does('psql -d restored -c "SELECT id') == ""
    assert restoring.does(r'psql -d restored -c "UPDATE users.*ada@') == ""
    restoring.puts_it_in_place()

    assert list(User.objects.exclude(role=Role.MEMBER)) == [restoring.ada]
    assert [user for user in User.objects.all() if user.password and user.has_usable_password()] == [restoring.ada]


def test_a_restore_that_would_let_in_no_super_admin_is_refused(restoring: Restoring) -> None:
    restoring.document = restoring.document.replace("<> 'ada@example.com'", "<> 'nobody@example.com'")
    restoring.restores()

    assert "the last Super admin who can sign in" in restoring.does(r'psql -d restored -c "UPDATE users.*nobody@')
