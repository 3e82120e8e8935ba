"""Real processes for tests: a Valkey, a Celery worker, a whole console."""

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import redis

from admin_console.embedded import spawn, stop, valkey_command

ROOT = Path(__file__).parent.parent


def environment(**more: str) -> dict[str, str]:
    """Return the environment for a process of the console: the real settings, on this test's database and broker."""
    # The browser journeys set it for this process; the console itself must do without.
    inherited = {name: value for name, value in os.environ.items() if name != "DJANGO_ALLOW_ASYNC_UNSAFE"}
    return {**inherited, "DJANGO_SETTINGS_MODULE": "admin_console.settings", **more}


def wait_until[T](happened: Callable[[], T], seconds: float = 20, what: str = "") -> T:
    """Return what `happened` returns as soon as that is true; fail after `seconds`."""
    until, pause = time.monotonic() + seconds, 0.01
    while not (found := happened()):
        if time.monotonic() > until:
            raise AssertionError(f"{what or happened} did not happen within {seconds:g} s")
        time.sleep(pause)
        pause = min(pause * 1.2, 0.15)  # Looking costs what it waits for, too.
    return found


class Process:
    """A process of the console that writes to a log and says when it is ready; a context manager."""

    def __init__(self, name: str, command: list[str | Path], folder: Path, more: Mapping[str, str] | None = None) -> None:
        self.name, self.command, self.log = name, command, folder / f"{name}.log"
        self._ready, self._more = folder / f"{name}.ready", more or {}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and return when it is ready."""
        self._ready.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self.process = spawn(
                self.command,
                output=log,
                environment=environment(CONSOLE_READY_FILE=str(self._ready), **self._more),
                folder=ROOT,
                death_signal=signal.SIGKILL,
            )
        started = self.process
        wait_until(lambda: self._ready.exists() or started.poll() is not None, 30, f"the start of {self.name}")
        if not self._ready.exists():
            raise AssertionError(f"{self.name} ended while starting:\n{self.log.read_text()}")

    def kill(self) -> None:
        """Kill it and everything that it started, as kill -9 does."""
        if self.process:
            stop(self.process, signal.SIGKILL)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()


class Worker(Process):
    """A Celery worker; its log is in `log`."""

    def __init__(self, folder: Path, concurrency: int = 1) -> None:
        options = ("--without-gossip", "--without-mingle", "--without-heartbeat", "-c", str(concurrency))
        super().__init__("worker", [sys.executable, "-m", "celery", "-A", "admin_console", "worker", *options], folder)


class Broker:
    """A Valkey on a socket."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._socket = folder, folder / "valkey.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self.redis_url, self.celery_url = f"unix://{self._socket}", f"redis+socket://{self._socket}"

    def start(self) -> None:
        """Start it unless it runs; return when it answers."""
        if self._process is None or self._process.poll() is not None:
            with (self._folder / "log").open("ab") as log:
                self._process = spawn(valkey_command(self._folder, self._socket), output=log, death_signal=signal.SIGKILL)
        self.resume()
        wait_until(self._answers, 10, "the start of Valkey")

    def empty(self) -> None:
        """Throw away every message."""
        with redis.Redis(unix_socket_path=str(self._socket)) as client:
            client.flushall()

    def waiting(self) -> int:
        """Return how many messages nobody has taken yet."""
        with redis.Redis(unix_socket_path=str(self._socket)) as client:
            return int(client.llen("celery"))

    def hang(self) -> None:
        """Stop answering, without ending."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Answer again."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it, as kill -9 does."""
        if self._process:
            stop(self._process, signal.SIGKILL)

    def _answers(self) -> bool:
        try:
            with redis.Redis(unix_socket_path=str(self._socket), socket_timeout=1) as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False


def console_home(of: str) -> Path:
    """Make the folder of a console's state, whose path has spaces in it; what a killed run leaves of it, the next run removes."""
    # Not pytest's folder: PostgreSQL's account may not enter it when we are root.
    home = Path(tempfile.mkdtemp(prefix=f"admin console {of} ", dir=os.environ["TEST_HOME"]))
    home.chmod(0o755)
    return home


# Below 32,768, from where on Linux gives them to connections, so that none takes one before its server does.
_ports = itertools.count(10_000 + os.getpid() % 2_000 * 10)


def free_port() -> str:
    """Return a port on which nobody listens, another one each time; each process of the tests looks for it elsewhere."""
    while True:
        port = next(_ports)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return str(port)


class Console:
    """A console started by its command, in a folder of its own."""

    def __init__(self, home: Path, *, before: Sequence[str] = (), **more: str) -> None:
        """`before` are the first words of its command; `more` is for its environment."""
        self.home, self.port, self._before = home, free_port(), before
        self.process: subprocess.Popen[bytes] | None = None
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.environment = inherited | {
            "ADMIN_CONSOLE_HOME": str(home),
            "PORT": self.port,
            "MAIL_SINK_PORT": free_port(),
            "DEMO_USERS": "20",
            **more,
        }
        self._out = home / "out"

    @property
    def told(self) -> str:
        """What it has written so far."""
        return self._out.read_text()

    def start(self) -> None:
        """Start it and return when it is ready."""
        with self._out.open("wb") as out:
            self.process = started = self.run(out)
        wait_until(lambda: "Ctrl-C stops it" in self.told or started.poll() is not None, 120, "the start of the console")
        assert "Ctrl-C stops it" in self.told, self.told

    def run(self, out: IO[bytes] | int, **more: str) -> subprocess.Popen[bytes]:
        """Start its command, without waiting for anything; it ends in good order when this process is killed."""
        command = [*self._before, sys.executable, str(ROOT / "manage.py"), "run_console"]
        return spawn(command, output=out, environment=self.environment | more, folder=self.home)

    def end(self, how: signal.Signals) -> int:
        """Send the launcher a signal and return its exit code."""
        assert self.process
        self.process.send_signal(how)
        return self.process.wait(30)

    def processes(self) -> dict[int, str]:
        """Return every process of ours but the launcher: its number and command."""
        found = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and self.process and int(folder.name) != self.process.pid:
                try:
                    # Valkey writes its title over its environment, and a process that ends has none any more.
                    ours = (folder / "cwd").readlink().is_relative_to(self.home)
                    if ours or f"ADMIN_CONSOLE_HOME={self.home}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                        found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                except OSError:
                    continue
        return found

    def number_of(self, name: str) -> int:
        """Return the process that was started first of those whose command holds `name`; 0: none."""
        return min((number for number, command in self.processes().items() if name in command), default=0)

    def serves(self) -> bool:
        """Tell whether its web server and all that this needs answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
