"""The whole console by one command: its servers, its worker, its web server, in order, looked after until Ctrl-C."""

import contextlib
import fcntl
import hashlib
import http.client
import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO

import psycopg
import redis
from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import OperationalError, connections
from django.db.migrations.executor import MigrationExecutor

from admin_console import env
from admin_console.celery import Ticker
from admin_console.embedded import (
    SUPERUSER,
    Account,
    Postgres,
    StartError,
    can_reach,
    kept_secret,
    postgres_options,
    private_folder,
    server_account,
    server_environment,
    short_name,
    valkey_command,
)
from admin_console.provision import provide_database
from admin_console.supervisor import Part, Supervisor

logger = logging.getLogger(__name__)

# How long a start waits for a server of the operator's own.
PATIENCE = 30
LEAST_PASSWORD = 12
# What the console's processes need not know.
OWNERS_ONLY = ("DATABASE_OWNER_URL", "ADMIN_PASSWORD", "ADMIN_EMAIL", "DEMO_USERS")


def _admin_email() -> str:
    """Return the email of the first Super admin: one that a user may have, not a sender with a name as other addresses are."""
    from users.actions import InvalidUser, normal_email

    found = env.text("ADMIN_EMAIL", "admin@example.com")
    try:
        return normal_email(found)
    except InvalidUser:
        raise ImproperlyConfigured(
            f"ADMIN_EMAIL={found!r} is not valid; expected an email address like admin@example.com."
        ) from None


class Interrupted(BaseException):
    """Somebody asked the launcher to stop."""


class Launcher:
    """One running console."""

    def __init__(self, out: IO[str]) -> None:
        self.home: Path = settings.HOME
        self.admin_email = _admin_email()
        self.admin_password = env.text("ADMIN_PASSWORD")
        if 0 < len(self.admin_password) < LEAST_PASSWORD:
            raise ImproperlyConfigured(
                f"ADMIN_PASSWORD has {len(self.admin_password)} characters; expected at least {LEAST_PASSWORD}."
            )
        self.demo_users = env.number("DEMO_USERS", 2_000, most=1_000_000)
        self.own_database = bool(env.text("DATABASE_URL"))
        self.own_redis = bool(env.text("REDIS_URL"))
        self._out = out
        self._since = time.monotonic()
        self._supervisor = Supervisor(partial(self._tell, level=logging.WARNING))
        self._signals = 0
        self._has_sockets = False

    def run(self) -> int:
        """Start everything, look after it until a signal says stop; return the exit code."""
        code = 0
        if settings.PRODUCTION:
            _log_to(self._out)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        with _own_group(), contextlib.ExitStack() as held:
            try:
                self._prepare_home()
                held.enter_context(self._only_copy())
                self._start()
                self._supervisor.watch(Ticker().ring)
            except Interrupted:
                self._tell("Stopping.")
            except StartError as error:
                self._tell(f"Cannot start: {error}", level=logging.ERROR)
                code = 1
            finally:
                self._signals += 1  # From here on a signal only hurries.
                before = self._signals
                self._supervisor.stop(hurry=lambda: self._signals > before)
        return code

    def _start(self) -> None:
        check_port_is_free("PORT", settings.WEB_HOST, settings.WEB_PORT)
        if settings.MAIL_SINK:
            self._choose_port_of_sink()
        begun = [start() for start in (self._postgres, self._valkey)]
        for ready in begun:
            ready()
        self._tables()
        self._static_files()
        self._people()
        begun = [start() for start in (self._mail_sink, self._worker, self._web)]
        for ready in begun:
            ready()
        self._welcome()

    # Each of these starts a part and returns what waits for it to be ready.

    def _postgres(self) -> Callable[[], None]:
        if self.own_database:
            return self._wait_for_own_database
        account = server_account()
        postgres = Postgres.at(self._place_for(account), settings.SOCKETS)
        self._make_sockets(account)
        postgres.initialise()
        part = self._supervisor.add(
            Part(
                name="PostgreSQL",
                command=postgres.command(postgres_options()),
                is_ready=lambda: _answers(postgres.conninfo(SUPERUSER)),
                log=self.home / "log" / "postgres.log",
                environment=server_environment(),
                account=account,
                folder=Path("/"),
                stop_signal=signal.SIGINT,
                before=postgres.forget_earlier,
                foundation=True,
            )
        )

        def ready() -> None:
            self._supervisor.wait_until_ready(part, 120)
            provide_database(postgres.conninfo(SUPERUSER), "console")
            self._ready(f"PostgreSQL {postgres.version}", str(postgres.data))

        return ready

    def _wait_for_own_database(self) -> None:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                connections["default"].ensure_connection()
                break
            except OperationalError as error:
                if time.monotonic() > until:
                    reason = str(error).strip().splitlines()[0]
                    raise StartError(f"DATABASE_URL: the database does not answer ({reason}).") from None
                time.sleep(0.5)
        version = connections["default"].connection.info.server_version
        if version < 150_000:
            raise StartError(f"DATABASE_URL: PostgreSQL {version // 10_000} found; expected 15 or newer.")
        self._ready(f"PostgreSQL {version // 10_000}", "given by DATABASE_URL")

    def _valkey(self) -> Callable[[], None]:
        if self.own_redis:
            return self._look_for_own_redis
        self._make_sockets(server_account())
        data, path = private_folder(self.home / "valkey", None), settings.SOCKETS / "valkey.sock"
        path.unlink(missing_ok=True)
        part = self._supervisor.add(
            Part(
                name="Valkey",
                command=valkey_command(data, path),
                is_ready=lambda: _redis_answers(f"unix://{path}"),
                log=self.home / "log" / "valkey.log",
                environment=server_environment(),
                folder=data,
                foundation=True,
            )
        )

        def ready() -> None:
            self._supervisor.wait_until_ready(part)
            self._ready("Valkey")

        return ready

    def _look_for_own_redis(self) -> None:
        if _redis_answers(env.text("REDIS_URL")):
            self._ready("Redis", "given by REDIS_URL")
        else:
            self._tell(
                "Redis, given by REDIS_URL, does not answer: the console starts without it and finds it when it is back.",
                level=logging.WARNING,
            )

    def _mail_sink(self) -> Callable[[], None]:
        if not settings.MAIL_SINK:
            return lambda: None
        host, port = settings.MAIL_SINK_ADDRESS
        part = self._console_part("mail sink", [*_manage(), "mail_sink", "--skip-checks"], is_ready=lambda: _listens(host, port))
        return self._when_ready(part, f"no EMAIL_HOST given, so emails end on the page Test inbox (port {port})")

    def _worker(self) -> Callable[[], None]:
        options = ("--without-gossip", "--without-mingle", "--without-heartbeat")
        return self._when_ready(
            self._console_part("worker", [*_python("celery"), "-q", "--skip-checks", "-A", "admin_console", "worker", *options])
        )

    def _web(self) -> Callable[[], None]:
        return self._when_ready(self._console_part("web server", _python("admin_console.web"), is_ready=_web_answers))

    # What is done once, between the servers and the console's own processes.

    def _tables(self) -> None:
        may_migrate = not self.own_database or bool(env.text("DATABASE_OWNER_URL"))
        alias = "owner" if may_migrate else "default"
        try:
            executor = MigrationExecutor(connections[alias])
        except OperationalError as error:
            raise StartError(f"DATABASE_OWNER_URL: the database does not answer ({str(error).splitlines()[0]}).") from None
        waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
        if waiting and not may_migrate:
            raise StartError(
                f"{len(waiting)} migrations are to be run by the owner of the database; give DATABASE_OWNER_URL, "
                "or run `manage.py migrate` with it first."
            )
        if waiting:
            call_command("migrate", verbosity=0, interactive=False)
        connections["owner"].close()
        self._ready("Tables", f"{len(waiting)} migrations run" if waiting else "")
        with connections["default"].cursor() as cursor:
            cursor.execute(
                "SELECT rolsuper OR EXISTS (SELECT FROM pg_tables WHERE schemaname = 'public' AND tableowner = rolname) "
                "FROM pg_roles WHERE rolname = current_user"
            )
            if cursor.fetchone()[0]:
                self._tell(
                    "The role of DATABASE_URL owns tables or is a superuser, so it could switch off the protection of the "
                    "entitlement history; docs/operations.md shows the two roles to use.",
                    level=logging.WARNING,
                )

    def _static_files(self) -> None:
        stamp, wanted = self.home / "static.stamp", _digest_of_static_files()
        if stamp.exists() and stamp.read_text() == wanted and settings.STATIC_ROOT.is_dir():
            return
        call_command("collectstatic", verbosity=0, interactive=False, clear=True)
        stamp.write_text(wanted)
        self._ready("Static files")

    def _people(self) -> None:
        from users.actions import ensure_first_super_admin
        from users.models import User

        password_file, demo_due = self.home / "first-admin-password", self.home / "demo-due"
        if not User.objects.exists() and self.demo_users and not self.own_database and not settings.PRODUCTION:
            demo_due.touch()  # Killed before it is done, the next start does it.
        kept_before = password_file.exists()
        password = self.admin_password or kept_secret(password_file, 12)
        if ensure_first_super_admin(email=self.admin_email, password=password, now=datetime.now(UTC)):
            # What is told in production goes to a log, which more people read.
            shown = f"in {password_file}" if settings.PRODUCTION else f"{password} (kept in {password_file})"
            self._sign_in = f"Sign in as {self.admin_email}" + ("." if self.admin_password else f" with the password {shown}.")
        elif not kept_before:
            password_file.unlink(missing_ok=True)
        if demo_due.exists() and self.demo_users and User.objects.count() == 1:
            call_command("demo", users=self.demo_users, verbosity=0)
            self._ready("Demo organisation", f"{self.demo_users:,} users; DEMO_USERS=0 starts with none")
        demo_due.unlink(missing_ok=True)
        connections.close_all()

    _sign_in = ""

    def _welcome(self) -> None:
        self._tell("")
        self._tell(f"The console runs at {settings.CONSOLE_URL}")
        if self._sign_in:
            self._tell(self._sign_in)
        elif (kept := self.home / "first-admin-password").exists():
            self._tell(f"The first sign-in was {self.admin_email} with the password in {kept}")
        self._tell("Ctrl-C stops it.")

    # Small things.

    def _prepare_home(self) -> None:
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            os.umask(0o077)  # What is written from here on, also by the console's processes, is nobody else's to read.
            for folder in (self.home / "log", self.home / "run"):
                folder.mkdir(exist_ok=True)
                folder.chmod(0o700)
            for log in (self.home / "log").glob("*.log*"):
                log.chmod(0o600)
            if own_log := self._log("launcher"):
                _log_to(own_log.open("a"))
        except OSError as error:
            raise StartError(f"{error.filename} cannot be used ({error.strerror}); set ADMIN_CONSOLE_HOME.") from None

    @contextlib.contextmanager
    def _only_copy(self) -> Iterator[None]:
        with (self.home / "run" / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                other = lock.read().strip() or "?"
                raise StartError(f"the console of {self.home} already runs (process {other}).") from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            try:
                yield
            finally:
                if self._has_sockets:
                    shutil.rmtree(settings.SOCKETS, ignore_errors=True)

    def _make_sockets(self, account: Account | None) -> None:
        private_folder(settings.SOCKETS, account)
        self._has_sockets = True

    def _place_for(self, account: Account | None) -> Path:
        """Return where PostgreSQL's data goes: with the rest, unless its account cannot get there."""
        if account is None:
            return self.home
        self.home.chmod(self.home.stat().st_mode | 0o011)
        if can_reach(self.home, account):
            return self.home
        if (self.home / "postgres").exists():
            raise StartError(f"PostgreSQL, which has to run as {account.name}, can no longer reach its data in {self.home}.")
        place = Path("/var/lib") / f"admin-console-{short_name(self.home)}"
        place.mkdir(exist_ok=True)
        place.chmod(0o711)
        self._tell(f"PostgreSQL has to run as {account.name}, who cannot enter {self.home}: its data is in {place}.")
        return place

    def _choose_port_of_sink(self) -> None:
        host, port = settings.MAIL_SINK_ADDRESS
        if env.text("MAIL_SINK_PORT"):
            check_port_is_free("MAIL_SINK_PORT", host, port)
            return
        with contextlib.suppress(StartError):
            check_port_is_free("MAIL_SINK_PORT", host, port)
            return
        with socket.create_server((host, 0)) as free:
            port = free.getsockname()[1]
        os.environ["MAIL_SINK_PORT"] = str(port)
        settings.MAIL_SINK_ADDRESS = (host, port)

    def _console_part(self, name: str, command: list[str], is_ready: Callable[[], bool] | None = None) -> Part:
        note = self.home / "run" / f"{name.replace(' ', '-')}.ready"
        note.unlink(missing_ok=True)
        environment = {key: value for key, value in os.environ.items() if key.removesuffix("_FILE") not in OWNERS_ONLY}
        environment |= {"CONSOLE_READY_FILE": str(note), "PYTHONUNBUFFERED": "1"}
        return self._supervisor.add(
            Part(name, command, is_ready or note.exists, self._log(name), environment=environment, folder=settings.BASE_DIR)
        )

    def _when_ready(self, part: Part, more: str = "") -> Callable[[], None]:
        def ready() -> None:
            self._supervisor.wait_until_ready(part)
            self._ready(part.name.capitalize(), more)

        return ready

    def _log(self, name: str) -> Path | None:
        """Return where a process of the console writes: in production our own output, for whoever collects it."""
        return None if settings.PRODUCTION else self.home / "log" / f"{name.replace(' ', '-')}.log"

    def _ready(self, what: str, more: str = "") -> None:
        now = time.monotonic()
        self._tell(f"{what:<18} ready in {now - self._since:4.1f} s{'   ' if more else ''}{more}")
        self._since = now

    def _tell(self, line: str, *, level: int = logging.INFO) -> None:
        """Say a line: to whoever started us, or in production as one of the log."""
        if settings.PRODUCTION:
            if line:
                logger.log(level, " ".join(line.split()))
            return
        with contextlib.suppress(OSError):  # The terminal may be gone.
            print(line, file=self._out, flush=True)

    def _on_signal(self, *_: object) -> None:
        self._signals += 1
        if self._signals == 1:
            raise Interrupted


def _log_to(stream: IO[str]) -> None:
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(stream)


@contextlib.contextmanager
def _own_group() -> Iterator[None]:
    """Take Ctrl-C from `make`: it would end with an error by it, however well the console stopped."""
    if "MAKELEVEL" not in os.environ or not sys.stdin.isatty():
        yield
        return
    terminal, group = sys.stdin.fileno(), os.getpgrp()
    if os.tcgetpgrp(terminal) != group:
        yield
        return
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    os.setpgid(0, 0)
    os.tcsetpgrp(terminal, os.getpgrp())
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.tcsetpgrp(terminal, group)


def _python(module: str) -> list[str]:
    return [sys.executable, "-m", module]


def _manage() -> list[str]:
    return [sys.executable, str(settings.BASE_DIR / "manage.py")]


def check_port_is_free(name: str, host: str, port: int) -> None:
    """Raise StartError unless we can listen there; `name` is the variable to change."""
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError:
        raise StartError(f"HOST={host!r} is not valid; expected an address of this machine.") from None
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
        except PermissionError:
            raise StartError(f"{name}={port} is not for this account; expected a port above 1023.") from None
        except OSError as error:
            raise StartError(f"{name}={port} is not free on {host} ({error.strerror}); expected a free port.") from None


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def _answers(conninfo: str) -> bool:
    try:
        psycopg.connect(conninfo).close()
    except psycopg.OperationalError:
        return False
    return True


def _redis_answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as client:
            return bool(client.ping())
    except (redis.RedisError, OSError):
        return False


def _web_answers() -> bool:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.WEB_HOST, settings.WEB_HOST)  # noqa: S104
    connection = http.client.HTTPConnection(host, settings.WEB_PORT, timeout=5)
    try:
        connection.request("GET", "/readyz", headers={"Host": settings.ALLOWED_HOSTS[0].lstrip("*.") or "localhost"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _digest_of_static_files() -> str:
    """Return a value that changes when any static file, or the folder that they are collected in, does."""
    digest = hashlib.sha256(f"{settings.STATIC_ROOT} {settings.STORAGES}".encode())
    for finder in get_finders():
        for path, storage in finder.list([]):
            found = os.stat(storage.path(path))
            digest.update(f"{path} {found.st_size} {found.st_mtime_ns}\n".encode())
    return digest.hexdigest()
