"""A whole console that tests break on purpose: its organisation, its processes, its broker, and browsers that post to it."""

import contextlib
import http.client
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.parse
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import redis
from django.db import connections
from django.utils import timezone
from psycopg import sql
from psycopg.conninfo import make_conninfo

from admin_console.embedded import server_account, sockets_folder
from products import actions, tasks
from products.models import BulkChange, Mode
from products.selection import Selection
from tests import factories
from tests.database import Database
from tests.faults.invariants import Witness, assert_invariants
from tests.processes import Console, console_home, free_port, wait_until
from users.models import User

LONG = os.environ.get("FAULTS") == "long"
APPLY = "/users/products/apply/"
PASSWORD = "correct horse battery staple"
# How many seconds a console may take to go on; a change never shows as running for longer while nobody is at it.
RESUMED = 15
# What is killed, and how to tell it: a part of the command, and whether the launcher itself started it.
KINDS: Mapping[str, tuple[str, bool]] = {
    "worker": ("-m celery", True),
    "pool child": ("-m celery", False),
    "web": ("-m admin_console.web", True),
    "web child": ("-m admin_console.web", False),
    "postmaster": ("bin/postgres", True),
    "broker": ("valkey-server", True),
}


class House:
    """A console started by its one command, with an organisation of the test's making. A context manager."""

    def __init__(self) -> None:
        home = console_home("faults")
        sockets = sockets_folder(home)
        # Nobody listens at that port, so emails stay owed: they are not what is looked at here, and sending them takes its time.
        mail = {"EMAIL_HOST": "127.0.0.1", "EMAIL_PORT": free_port()}
        self.small_disk = home / "small disk"
        self.has_small_disk = _can_mount()
        before = _with_small_disk(self.small_disk) if self.has_small_disk else []
        sizes = {"BULK_AT_ONCE": "10", "BULK_BATCH_SIZE": "10", "DEMO_USERS": "0"}
        self.console = Console(home, before=before, ADMIN_PASSWORD=PASSWORD, **sizes, **mail)
        self.database = Database("console", make_conninfo(host=str(sockets), dbname="console", user="postgres"))
        self._valkey = sockets / "valkey.sock"
        self.broker_url = f"redis+socket://{self._valkey}"
        self.resumed_after: defaultdict[str, list[float]] = defaultdict(list)

    def __enter__(self) -> "House":
        try:
            self.console.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.process and self.console.process.poll() is None:
            self.console.end(signal.SIGKILL)
        while ours := self.console.processes():
            for number in ours:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            time.sleep(0.1)
        shutil.rmtree(self.console.home, ignore_errors=True)

    # Its organisation

    def rows(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        """Run a statement as the owner of the tables, in a connection of its own, and return its rows."""
        with psycopg.connect(self.database.owner, connect_timeout=5) as connection:
            found = connection.execute(sql, params)
            return found.fetchall() if found.description else []

    def people(self, number: int, *codes: str) -> list[int]:
        """Return the ids of so many new users who hold these products."""
        made = self.rows(
            "INSERT INTO users_user (email, password) SELECT gen_random_uuid() || '@tests.example', '' "
            "FROM generate_series(1, %s) RETURNING id",
            number,
        )
        ids = sorted(row[0] for row in made)
        if codes:
            held = factories.ids(*codes)
            self.rows("UPDATE products_productaccess SET products = %s, ever = %s WHERE user_id = ANY(%s)", held, held, ids)
        return ids

    def ask(self, actor: User, user_ids: Collection[int], *codes: str, **asked: Any) -> BulkChange:
        """Ask for a change as a page does, and ring for it."""
        made = factories.change(actor, [], *codes, selection=Selection.of(user_ids), now=timezone.now(), **asked)
        tasks.ring_for(made)
        return made

    def undo(self, actor: User, change: BulkChange) -> BulkChange:
        """Ask for the undoing of a change as its page does, and ring for it."""
        asked = {"notify": True, "key": uuid.uuid4(), "reason": "", "now": timezone.now()}
        made = actions.request_undo(actor=actor, change=change, **asked)
        tasks.ring_for(made)
        return made

    # How far it is

    def done(self, *changes: BulkChange) -> int:
        """Return how many batches of these changes wait no more."""
        wait_no_more = "SELECT count(*) FROM products_bulkchangebatch WHERE state <> 'WAITING' AND change_id = ANY(%s)"
        return int(self.rows(wait_no_more, [made.pk for made in changes])[0][0])

    def over(self, *changes: BulkChange) -> bool:
        """Return whether all these changes are over."""
        wanted = [made.pk for made in changes]
        return not self.rows(
            "SELECT id FROM products_bulkchange WHERE state NOT IN ('FINISHED', 'FAILED', 'CANCELLED') AND id = ANY(%s)", wanted
        )

    def settled(self, *changes: BulkChange, seconds: float = 60, state: str = "FINISHED") -> None:
        """Wait until these changes are over, and assert that they ended in this state and that every invariant holds."""
        wait_until(lambda: self.over(*changes), seconds, "the end of the changes")
        for made in changes:
            made.refresh_from_db()
        assert [(made.state, made.state_reason) for made in changes] == [(state, "")] * len(changes)
        self.assert_well()

    def assert_well(self, context: str = "") -> None:
        """Assert every invariant of the database, as it is now."""
        assert_invariants(self.database.owner, context)

    def witness(self) -> Witness:
        """Remember what everybody holds now."""
        return Witness(self.database.owner)

    def waiting_for_locks(self) -> int:
        """Return how many connections of the console wait for a lock that another transaction holds."""
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'console' AND wait_event_type = 'Lock'"
        with psycopg.connect(self.database.superuser) as connection:  # The owner does not see what others wait for.
            (number,) = connection.execute(waiting).fetchone() or (0,)
            return int(number)

    def wait_for_database(self) -> None:
        """Wait until PostgreSQL answers."""

        def answers() -> bool:
            try:
                return self.rows("SELECT 1") == [(1,)]
            except psycopg.OperationalError:
                return False

        wait_until(answers, 15, "an answer of PostgreSQL")

    def resumes(self, *changes: BulkChange, after: str, done: int, since: float) -> None:
        """Wait until one of these changes goes on from so many done batches, at most so long after the death of a process."""

        def goes_on() -> bool:
            try:
                return self.done(*changes) > done or self.over(*changes)
            except psycopg.OperationalError:  # PostgreSQL was killed.
                return False

        wait_until(goes_on, RESUMED - (time.monotonic() - since), f"going on after the death of {after}")
        self.resumed_after["several at once" if "," in after else after].append(time.monotonic() - since)

    # Its disk

    @contextlib.contextmanager
    def history_on_small_disk(self) -> Iterator["SmallDisk"]:
        """Keep the history of this month on the small disk inside the block."""
        partition = f"products_accesschange_{timezone.now():%Y_%m}"
        with psycopg.connect(self.database.superuser, autocommit=True) as server:
            server.execute(f"CREATE TABLESPACE small LOCATION '{self.small_disk}'")
            server.execute(f"ALTER TABLE {partition} SET TABLESPACE small")
            disk = SmallDisk(server, self.small_disk / "ballast")
            try:
                yield disk
            finally:
                disk.empty()
                server.execute(f"ALTER TABLE {partition} SET TABLESPACE pg_default")
                server.execute("DROP TABLESPACE small")

    # Its processes

    def processes(self, kind: str) -> list[int]:
        """Return the numbers of the processes of a kind (see KINDS)."""
        part, by_launcher = KINDS[kind]
        launcher = self.console.process
        assert launcher
        return [
            number
            for number, command in self.console.processes().items()
            if part in command and (_parent(number) == launcher.pid) == by_launcher
        ]

    def kill(self, kind: str, chance: random.Random) -> float:
        """Kill one process of a kind, as kill -9 does, and return from when on it is to be healed.

        With the launcher everything ends, and it is started again, as an operator would.
        """
        if kind == "launcher":
            self.console.end(signal.SIGKILL)
            with contextlib.suppress(AssertionError):
                wait_until(lambda: self.console.processes() == {}, 30)
            assert self.console.processes() == {}  # says which are left
            connections.close_all()
            self.console.start()
            return time.monotonic()
        found = wait_until(lambda: self.processes(kind), 15, f"a {kind} to kill")
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(found), signal.SIGKILL)
        if kind == "postmaster":
            connections.close_all()
        return time.monotonic()

    # Its broker

    def broker(self) -> redis.Redis:
        """Return a client of its broker."""
        return redis.Redis(unix_socket_path=str(self._valkey), socket_timeout=2)

    @contextlib.contextmanager
    def hung_broker(self) -> Iterator[None]:
        """Let the broker neither answer nor end inside the block."""
        (number,) = self.processes("broker")
        os.kill(number, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(number, signal.SIGCONT)

    @contextlib.contextmanager
    def full_broker(self) -> Iterator[None]:
        """Let the broker refuse to take anything inside the block, for want of memory."""
        with self.broker() as client:
            client.config_set("maxmemory", 1)
            try:
                yield
            finally:
                client.config_set("maxmemory", 0)


LOCK_ONE = "SELECT 1 FROM products_productaccess WHERE user_id = %s FOR UPDATE"


@contextlib.contextmanager
def held(house: House, statement: str, *params: object) -> Iterator[None]:
    """Hold the locks of a statement in an idle transaction inside the block."""
    with psycopg.connect(house.database.owner) as other:
        other.execute(statement, params)
        yield
        other.rollback()


@contextlib.contextmanager
def refusing(house: House, user_id: int, code: str) -> Iterator[None]:
    """Let the database refuse a product for one user inside the block: its owner added a rule."""
    rule = f"CHECK (user_id <> {user_id} OR NOT products @> ARRAY{factories.ids(code)})"
    house.rows(f"ALTER TABLE products_productaccess ADD CONSTRAINT poison {rule} NOT VALID")
    try:
        yield
    finally:
        house.rows("ALTER TABLE products_productaccess DROP CONSTRAINT poison")


# PostgreSQL can be given a disk that is soon full where we may mount one, in a namespace that ends with the console. What is not
# root there becomes itself again, for PostgreSQL runs as anybody but root.
MOUNT = 'mkdir -p "$1" && mount -t tmpfs -o size=32m,mode=700,uid="$2",gid="$3" tmpfs "$1" && shift 3 && exec "$@"'


def _with_small_disk(folder: Path) -> list[str]:
    """Return how to start a command so that `folder` is a disk of its own, small and seen by that command alone."""
    if os.geteuid() == 0:
        account = server_account()
        assert account
        return ["unshare", "--mount", "sh", "-c", MOUNT, "sh", str(folder), str(account.uid), str(account.gid)]
    as_before = ["unshare", "--user", f"--map-user={os.geteuid()}", f"--map-group={os.getegid()}"]
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", MOUNT, "sh", str(folder), "0", "0", *as_before]


def _can_mount() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        try:
            return subprocess.run([*_with_small_disk(Path(folder)), "true"], capture_output=True).returncode == 0
        except OSError:
            return False


def _parent(number: int) -> int:
    try:
        return int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


class SmallDisk:
    """The disk on which PostgreSQL has the history; PostgreSQL itself fills it, for nobody else sees it."""

    def __init__(self, server: psycopg.Connection, ballast: Path) -> None:
        self._server, self._ballast = server, ballast

    def fill(self) -> None:
        """Leave no room on it."""
        self._do(f"cat /dev/zero > '{self._ballast}' 2> /dev/null || true")

    def empty(self) -> None:
        """Make room again."""
        self._do(f"rm -f '{self._ballast}'")

    def _do(self, command: str) -> None:
        self._server.execute(sql.SQL("COPY (SELECT 1) TO PROGRAM {}").format(f"cat > /dev/null; {command}"))


class Answer(NamedTuple):
    """What a page answered."""

    status: int
    location: str  # to which it leads, if to another page
    text: str

    def said(self) -> str:
        """Return its status and the words that it shows."""
        return f"{self.status}: {' '.join(re.sub('<[^>]+>', ' ', self.text).split())}"

    def change(self) -> BulkChange:
        """Return the change to whose page it leads."""
        assert self.status == 303, self.said()
        return BulkChange.objects.get(pk=int(self.location.strip("/").rpartition("/")[2]))


class Visitor:
    """An admin who signed in to a console and posts its forms over HTTP, again when no answer came, as people do."""

    def __init__(self, house: House, email: str) -> None:
        self._at = ("127.0.0.1", int(house.console.port))
        self._cookies: dict[str, str] = {}
        self._token = ""
        self.insists("/accounts/login/")
        answer = self.insists("/accounts/login/", login=email, password=PASSWORD)
        assert answer.status == 302, answer.said()
        self.insists("/users/")

    def fetch(self, path: str, **fields: Any) -> Answer:
        """Get a page, or post a form when there are fields."""
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        body = None
        if fields:
            headers |= {"Content-Type": "application/x-www-form-urlencoded", "Referer": f"http://127.0.0.1:{self._at[1]}{path}"}
            body = urllib.parse.urlencode({"csrfmiddlewaretoken": self._token, **fields}, doseq=True)
        connection = http.client.HTTPConnection(*self._at, timeout=20)
        try:
            connection.request("POST" if fields else "GET", path, body, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        for cookie in answer.headers.get_all("Set-Cookie", []):
            name, _, value = cookie.partition(";")[0].partition("=")
            self._cookies[name] = value
        if found := re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', text):
            self._token = found[1]
        return Answer(answer.status, answer.headers.get("Location", ""), text)

    def insists(self, path: str, **fields: Any) -> Answer:
        """Fetch until an answer comes that is none of a server in trouble."""
        until = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if (answer := self.fetch(path, **fields)).status < 500:
                    return answer
            assert time.monotonic() < until, f"no answer to {path} for 30 s"
            time.sleep(0.05)


def form(owner: User, people: Collection[int], *codes: str) -> dict[str, Any]:
    """Return what the dialog posts for these users, ticked anew."""
    actions.clear_selection(owner=owner, now=timezone.now())
    draft = actions.tick_users(owner=owner, user_ids=people, ticked=True, now=timezone.now())
    asked = {"mode": Mode.REPLACE, "shown": Mode.REPLACE, "product": factories.ids(*codes), "expected": len(people)}
    return {**asked, "key": uuid.uuid4(), "draft": draft.pk}
