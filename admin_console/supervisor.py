"""Processes that belong together: each started when the one before is ready, started again when it dies, stopped in reverse."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from admin_console.embedded import Account, StartError, spawn

# How long a part may take to stop before it is killed.
PATIENCE = 15.0
LONGEST_PAUSE = 10.0
LARGEST_LOG = 20 * 1024 * 1024


@dataclass
class Part:
    """One process of the console."""

    name: str
    command: Sequence[str | Path]
    is_ready: Callable[[], bool]
    log: Path | None  # None: it logs where we do.
    environment: Mapping[str, str] | None = None
    account: Account | None = None
    folder: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    before: Callable[[], object] = lambda: None  # Called before each start.
    foundation: bool = False  # The others need it until they have ended.
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    started_at: float = field(default=0, init=False)
    due_at: float | None = field(default=None, init=False)  # When it is started again.
    pause: float = field(default=0, init=False)

    @property
    def hint(self) -> str:
        """Return where to read more, as the end of a sentence."""
        return f"; see {self.log}" if self.log else ""

    def start(self) -> None:
        """Start the process, without waiting for it to be ready."""
        self.before()
        with self._output() as (output, errors):
            self.process = spawn(
                self.command,
                output=output,
                errors=errors,
                account=self.account,
                environment=self.environment,
                folder=self.folder,
                death_signal=self.stop_signal,
            )
        self.started_at, self.due_at = time.monotonic(), None

    def heal(self) -> str:
        """Start the process again if it died, ever later when it keeps dying; return what there is to tell."""
        now = time.monotonic()
        if self.due_at is not None:
            if now >= self.due_at:
                self.start()
            return ""
        if self.process is None or (code := self.process.poll()) is None:
            return ""
        self.kill_session()
        self.pause = min(self.pause * 2, LONGEST_PAUSE) if now - self.started_at < 30 and self.pause else 0.1
        self.due_at = now + self.pause
        return f"{self.name} ended ({_how(code)}) and is started again."

    def signal(self, how: signal.Signals) -> None:
        """Send a signal to the process, if it lives."""
        self.due_at = None
        if self.process and self.runs:
            self.process.send_signal(how)

    @property
    def runs(self) -> bool:
        """Tell whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def kill_session(self) -> None:
        """Kill the process and everything that it started."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def trim_log(self) -> None:
        """Keep the log from growing for ever: the last part of it moves to a file of its own."""
        if self.log and self.log.exists() and self.log.stat().st_size > LARGEST_LOG:
            self.log.with_name(f"{self.log.name}.1").write_bytes(self.log.read_bytes())
            with self.log.open("r+b") as log:
                log.truncate()

    @contextlib.contextmanager
    def _output(self) -> Iterator[tuple[int, int]]:
        """Give where it prints to, and where it logs to: its standard error, which is our standard output."""
        if self.log is None:
            yield 2, 1
            return
        with self.log.open("ab") as log:
            yield log.fileno(), log.fileno()


class Supervisor:
    """Runs the parts in the order in which they were added."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.parts: list[Part] = []
        self._tell = tell

    def add(self, part: Part) -> Part:
        """Start a part; it is looked after from now on."""
        self.parts.append(part)
        part.start()
        return part

    def wait_until_ready(self, part: Part, seconds: float = 60) -> None:
        """Return as soon as a part is ready; raise StartError when any part ends before or this one needs longer."""
        while not part.is_ready():
            for other in self.parts:
                if other.process and (code := other.process.poll()) is not None:
                    raise StartError(f"{other.name} ended while starting ({_how(code)}){other.hint}.")
            if time.monotonic() > part.started_at + seconds:
                raise StartError(f"{part.name} was not ready within {seconds:g} s{part.hint}.")
            time.sleep(0.03)

    def watch(self, tick: Callable[[float], None]) -> None:
        """Start again whatever dies and call `tick`, ten times a second, until a signal handler raises."""
        trimmed = time.monotonic()
        while True:
            for part in self.parts:
                if told := part.heal():
                    self._tell(told)
            if time.monotonic() > trimmed + 60:
                trimmed = time.monotonic()
                for part in self.parts:
                    part.trim_log()
            tick(time.monotonic())
            time.sleep(0.1)

    def stop(self, hurry: Callable[[], bool]) -> None:
        """Stop the parts, the last started first, each foundation after all others; at once when `hurry` says so."""
        waves = [[part for part in self.parts if not part.foundation]]
        waves += [[part] for part in self.parts[::-1] if part.foundation]
        for wave in waves:
            for part in reversed(wave):
                part.signal(part.stop_signal)
            until = time.monotonic() + PATIENCE
            while any(part.runs for part in wave) and time.monotonic() < until and not hurry():
                time.sleep(0.02)
            for part in wave:
                part.kill_session()


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
