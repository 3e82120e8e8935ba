"""The one command: it starts everything, heals what is killed, refuses a second copy, and leaves nothing behind.

As root and as a plain user; the state is in a folder with spaces in its path.
"""

import contextlib
import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured

from admin_console.embedded import StartError, private_folder, sockets_folder, spawn
from admin_console.launcher import Launcher, check_port_is_free
from tests.console.test_production import PRODUCTION
from tests.database import Database
from tests.processes import ROOT, Console, console_home, free_port, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.faults]


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    folder = console_home("started")
    yield folder
    shutil.rmtree(folder)
    shutil.rmtree(sockets_folder(folder), ignore_errors=True)


@pytest.fixture(scope="module")
def started_once(home: Path) -> Iterator[Console]:
    """Return a console that the first test to take `console` starts."""
    console = Console(home, LC_TIME="C.UTF-8")
    yield console
    if console.process and console.process.poll() is None:
        console.end(signal.SIGKILL)
    wait_until(lambda: console.processes() == {}, 20, "the end of everything")


@pytest.fixture
def console(started_once: Console) -> Console:
    """Return a console that runs: the one that the test before left running, or started now."""
    if started_once.process is None or started_once.process.poll() is not None:
        started_once.start()
    return started_once


def test_it_starts_and_says_how_to_sign_in(console: Console) -> None:
    for part in ("PostgreSQL", "Valkey", "Tables", "Demo organisation", "Mail sink", "Worker", "Web server"):
        assert f"\n{part}" in f"\n{console.told}"
    assert f"The console runs at http://127.0.0.1:{console.port}" in console.told
    password = (console.home / "first-admin-password").read_text()
    assert f"Sign in as admin@example.com with the password {password}" in console.told
    assert (console.home / "first-admin-password").stat().st_mode & 0o777 == 0o600


def test_a_second_copy_is_refused(console: Console) -> None:
    assert console.process
    second = console.run(subprocess.PIPE, PORT=free_port())

    assert second.communicate(timeout=30)[0].decode() == (
        f"Cannot start: the console of {console.home} already runs (process {console.process.pid}).\n"
    )
    assert second.returncode == 1


def test_nobody_else_reads_its_secrets(console: Console) -> None:
    for name in ("bin/postgres", "valkey-server"):
        known = Path(f"/proc/{console.number_of(name)}/environ").read_bytes()
        assert b"LC_TIME=" in known or name == "valkey-server"  # It writes its title over what it knows.
        assert b"ADMIN_" not in known
    for folder in (console.home / "log", console.home / "run"):
        assert folder.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    with psycopg.connect(host=str(sockets_folder(console.home)), user="postgres", dbname="console", autocommit=True) as database:
        database.execute("CREATE TEMPORARY TABLE someone (email text UNIQUE)")
        for _ in range(2):
            with contextlib.suppress(psycopg.errors.UniqueViolation):
                database.execute("INSERT INTO someone VALUES ('ada@lovelace.example')")
    log = (console.home / "log" / "postgres.log").read_text()
    assert "someone_email_key" in log
    assert "lovelace" not in log


def test_a_statement_that_outlives_its_server_holds_up_no_start(console: Console) -> None:
    assert console.process
    with contextlib.closing(
        psycopg.connect(host=str(sockets_folder(console.home)), user="postgres", dbname="console")
    ) as database:
        database.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 10000000000)")
        console.process.send_signal(signal.SIGSTOP)  # it starts no other server before it is killed too
        os.kill(console.number_of("bin/postgres"), signal.SIGKILL)
        console.end(signal.SIGKILL)
        assert "SELECT" in Path(f"/proc/{database.info.backend_pid}/cmdline").read_text()

        console.start()
    assert console.serves()


def test_a_killed_launcher_leaves_nothing_and_the_next_start_recovers(console: Console) -> None:
    console.end(signal.SIGKILL)
    wait_until(lambda: console.processes() == {}, 20, "the end of everything")
    log = console.home / "log" / "worker.log.1"
    log.touch(0o644)
    log.parent.chmod(0o755)  # as an earlier version left them
    console.start()
    assert console.serves()
    assert "with the password in" in console.told
    assert (log.parent.stat().st_mode & 0o777, log.stat().st_mode & 0o777) == (0o700, 0o600)


def test_it_heals_and_stops(console: Console) -> None:
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


def test_in_production_standard_output_is_one_json_object_a_line() -> None:
    home = console_home("of production")
    console = Console(home, **PRODUCTION)
    out, command = home / "stdout", [sys.executable, str(ROOT / "manage.py"), "run_console"]
    with out.open("wb") as output, (home / "stderr").open("wb") as errors:
        console.process = spawn(command, output=output, errors=errors, environment=console.environment, folder=home)
    try:
        wait_until(lambda: "Ctrl-C stops it" in out.read_text(), 120, "the start of the console")
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", int(console.port))) as web:
            web.request("GET", "/nothing-here/", headers={"Host": "console.example.com", "X-Forwarded-Proto": "https"})
            assert web.getresponse().status == 404
        os.kill(console.number_of("-m celery"), signal.SIGKILL)
        wait_until(lambda: "is started again" in out.read_text(), 20, "the healing of the worker")
        wait_until(lambda: console.number_of("-m celery"), 20, "the healing of the worker")
    finally:
        console.end(signal.SIGTERM)
    told = [json.loads(line) for line in out.read_text().splitlines()]
    shutil.rmtree(home)

    assert {"admin_console.launcher", "admin_console.logs"} <= {line["logger"] for line in told}
    levels = {line["event"]: line["level"] for line in told}
    assert levels["worker ended (killed by SIGKILL) and is started again."] == "warning"
    assert levels["Stopping."] == "info"


def test_in_production_the_first_password_is_in_its_file_only(
    committed_db: Database, settings: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings.PRODUCTION = True
    launcher = Launcher(io.StringIO())
    launcher.home = tmp_path

    launcher._people()
    launcher._welcome()

    kept = tmp_path / "first-admin-password"
    assert len(kept.read_text()) >= 12
    assert kept.read_text() not in caplog.text
    assert f"Sign in as admin@example.com with the password in {kept}." in caplog.messages


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
            told = Console(second).run(subprocess.PIPE, PORT=str(port)).communicate(timeout=30)[0].decode()
        assert told.startswith(f"Cannot start: PORT={port} is not free")
        assert found.exists()
    finally:
        shutil.rmtree(found.parent)
