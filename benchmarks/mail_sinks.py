"""Mail servers that throw everything away, to send to as quickly as possible: Debian's smtp-sink, else one of our own."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGKILL

from admin_console.embedded import spawn, stop
from tests.processes import ROOT, environment, free_port, wait_until


@contextmanager
def discarding_sink(home: Path, *, own: bool = False) -> Iterator[tuple[int, str]]:
    """Yield the port of a running server, and what it is: smtp-sink, if this machine has it or its package can be fetched.

    With `own` it is one of our own, without looking for another.
    """
    port = int(free_port())
    found = None if own else _smtp_sink(home)
    if found:
        program, libraries = found
        command = [str(program), *(["-u", "nobody"] if os.geteuid() == 0 else []), f"127.0.0.1:{port}", "100"]
        name, more = "smtp-sink", {"LD_LIBRARY_PATH": str(libraries)}
    else:
        command, name, more = [sys.executable, "-m", "benchmarks.mail_sinks", str(port)], "a sink of our own", {}
    with (home / "discarding.log").open("wb") as log:
        process = spawn(command, output=log, environment=environment(**more), folder=ROOT, death_signal=SIGKILL)
    try:
        wait_until(lambda: _answers(port), 10, f"the start of {name}")
        yield port, name
    finally:
        stop(process, SIGKILL)


def _smtp_sink(home: Path) -> tuple[Path, Path] | None:
    """Return the program and the folder of its libraries. The package is only unpacked: nothing is installed or started."""
    if installed := shutil.which("smtp-sink", path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
        return Path(installed), Path("/usr/lib/postfix")
    folder = home / "postfix"
    folder.mkdir(exist_ok=True)
    try:
        subprocess.run(["apt-get", "download", "postfix"], cwd=folder, check=True, capture_output=True, timeout=60)
        [package] = folder.glob("postfix_*.deb")
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return folder / "usr/sbin/smtp-sink", folder / "usr/lib/postfix"


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as asked:
            return asked.recv(3) == b"220"
    except OSError:
        return False


class _Discarding(asyncio.Protocol):
    """As little of SMTP as a client that pipelines needs."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._waiting, self._in_content = transport, b"", False
        transport.write(b"220 sink\r\n")

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        replies = []
        while True:
            end = b"\r\n.\r\n" if self._in_content else b"\r\n"
            line, found, rest = self._waiting.partition(end)
            if not found:
                break
            self._waiting = rest
            if self._in_content:
                self._in_content = False
                replies.append(b"250 thrown away\r\n")
                continue
            verb = line[:4].upper()
            self._in_content = verb == b"DATA"
            replies.append(
                {b"EHLO": b"250-sink\r\n250 PIPELINING\r\n", b"DATA": b"354 go on\r\n", b"QUIT": b"221 bye\r\n"}.get(
                    verb, b"250 ok\r\n"
                )
            )
        self._transport.write(b"".join(replies))


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Discarding, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
