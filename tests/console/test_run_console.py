"""The one command: it starts everything, heals what is killed, refuses a second copy, and leaves nothing behind.

As root and as a plain user; the state is in a folder with spaces in its path.
"""

import contextlib
import io
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured

from admin_console.embedded import StartError, private_folder, sockets_folder
from admin_console.launcher import Launcher, check_port_is_free
from tests.processes import Console, free_port, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.faults]


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    # Not pytest's folder: PostgreSQL's account may not enter it when we are root.
    folder = Path(tempfile.mkdtemp(prefix="admin console "))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
    shutil.rmtree(sockets_folder(folder), ignore_errors=True)


@pytest.fixture
def console(home: Path) -> Iterator[Console]:
    running = Console(home)
    running.start()
    yield running
    if running.process and running.process.poll() is None:
        running.end(signal.SIGKILL)
    wait_until(lambda: running.processes() == {}, 20, "the end of everything")


def test_it_starts_heals_and_stops(console: Console) -> None:
    for part in ("PostgreSQL", "Valkey", "Tables", "Demo organisation", "Mail sink", "Worker", "Web server"):
        assert f"\n{part}" in f"\n{console.told}"
    assert f"The console runs at http://127.0.0.1:{console.port}" in console.told
    password = (console.home / "first-admin-password").read_text()
    assert f"Sign in as admin@example.com with the password {password}" in console.told
    assert (console.home / "first-admin-password").stat().st_mode & 0o777 == 0o600

    assert console.process
    second = console.run(subprocess.PIPE, PORT=free_port())
    assert second.communicate(timeout=30)[0] == (
        f"Cannot start: the console of {console.home} already runs (process {console.process.pid}).\n"
    )
    assert second.returncode == 1

    # A child of a child too: granian and Celery look after theirs.
    for name in ("bin/postgres", "valkey-server", "mail_sink", "-m celery", "-m admin_console.web"):
        before = console.number_of(name)
        assert before, f"{name} does not run"  # Number 0 would be ourselves.
        os.kill(before, signal.SIGKILL)
        wait_until(lambda before=before, name=name: console.number_of(name) not in (0, before), 20, f"the healing of {name}")  # type: ignore[misc]
    wait_until(console.serves, 20, "serving again")
    web = console.number_of("-m admin_console.web")
    assert web
    worker = min(number for number, command in console.processes().items() if "-m admin_console.web" in command and number != web)
    os.kill(worker, signal.SIGKILL)
    wait_until(console.serves, 20, "serving again")

    assert console.end(signal.SIGINT) == 0
    assert console.processes() == {}


def test_a_killed_launcher_leaves_nothing_and_the_next_start_recovers(console: Console) -> None:
    assert "password in" in console.told or "with the password" in console.told
    console.end(signal.SIGKILL)
    wait_until(lambda: console.processes() == {}, 20, "the end of everything")
    console.start()
    assert console.serves()
    assert console.end(signal.SIGTERM) == 0
    assert console.processes() == {}


def test_nobody_else_reads_its_secrets(home: Path) -> None:
    console = Console(home)
    (home / "log").mkdir(mode=0o755, exist_ok=True)
    (home / "log" / "worker.log.1").touch(0o644)
    console.environment |= {"ADMIN_PASSWORD": "s3cret-password", "LC_TIME": "C.UTF-8"}
    console.start()
    try:
        for name in ("bin/postgres", "valkey-server"):
            known = Path(f"/proc/{console.number_of(name)}/environ").read_bytes()
            assert b"LC_TIME=" in known or name == "valkey-server"  # It writes its title over what it knows.
            assert b"ADMIN_" not in known
        for folder in (home / "log", home / "run"):
            assert folder.stat().st_mode & 0o777 == 0o700
            assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
        with psycopg.connect(host=str(sockets_folder(home)), user="postgres", dbname="console", autocommit=True) as database:
            database.execute("CREATE TEMPORARY TABLE someone (email text UNIQUE)")
            for _ in range(2):
                with contextlib.suppress(psycopg.errors.UniqueViolation):
                    database.execute("INSERT INTO someone VALUES ('ada@lovelace.example')")
        log = (home / "log" / "postgres.log").read_text()
        assert "someone_email_key" in log
        assert "lovelace" not in log
    finally:
        console.end(signal.SIGINT)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"DEMO_USERS": "many"}, "DEMO_USERS='many' is not valid; expected a whole number"),
        ({"ADMIN_EMAIL": "Ada <ada@x.example>"}, "ADMIN_EMAIL='Ada <ada@x.example>' is not valid; expected an email address"),
        ({"ADMIN_PASSWORD": "short"}, "ADMIN_PASSWORD has 5 characters; expected at least 12."),
    ],
)
def test_a_wrong_value_stops_the_start(monkeypatch: pytest.MonkeyPatch, more: dict[str, str], expected: str) -> None:
    for name, value in more.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ImproperlyConfigured) as error:
        Launcher(io.StringIO())
    assert str(error.value).startswith(expected)


def test_a_taken_port_stops_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            StartError, match=rf"^PORT={port} is not free on 127\.0\.0\.1 \(Address already in use\); expected a free port\.$"
        ):
            check_port_is_free("PORT", "127.0.0.1", port)


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(StartError, match="belongs to somebody else"):
        private_folder(tmp_path, None)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "other").symlink_to(tmp_path)
    for name in ("file", "link", "other"):
        with pytest.raises(StartError, match=f"{name} is not a folder; expected a folder of our own"):
            private_folder(tmp_path / name, None)


def test_a_refused_start_removes_no_folder_that_it_found(home: Path) -> None:
    second = home / "second"
    second.mkdir()
    found = sockets_folder(second) / "of somebody"
    found.parent.mkdir()
    found.touch()
    try:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            told = Console(second).run(subprocess.PIPE, PORT=str(port)).communicate(timeout=30)[0]
        assert told.startswith(f"Cannot start: PORT={port} is not free")
        assert found.exists()
    finally:
        shutil.rmtree(found.parent)
