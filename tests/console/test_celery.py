"""Publishing is quick and quiet whatever the broker does; a worker runs what was published."""

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from celery import shared_task
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.utils import timezone

from admin_console import celery
from admin_console.embedded import spawn
from admin_console.tasks import forget_sessions
from tests.database import Database
from tests.processes import Broker, Worker, wait_until


@shared_task
def nothing() -> None:
    """Do nothing."""


def seconds(act: Callable[[], object]) -> float:
    start = time.monotonic()
    act()
    return time.monotonic() - start


def test_sessions_that_expired_are_forgotten(db: None) -> None:
    for key, minutes in (("over", -1), ("open", 1)):
        Session.objects.create(session_key=key, session_data="", expire_date=timezone.now() + timedelta(minutes=minutes))

    forget_sessions()

    assert [session.session_key for session in Session.objects.all()] == ["open"]


def test_a_published_message_waits_for_a_worker(broker: Broker) -> None:
    assert nothing.delay() is not None
    assert broker.waiting() == 1


@pytest.mark.faults
@pytest.mark.parametrize("fault", ["hang", "kill"])
@pytest.mark.parametrize("connected", [True, False])
def test_a_broker_that_does_not_answer_costs_a_moment_once(
    broker: Broker, caplog: pytest.LogCaptureFixture, fault: str, connected: bool
) -> None:
    if connected:
        nothing.delay()
    getattr(broker, fault)()
    assert seconds(nothing.delay) < 1  # 0.2 on a quiet machine
    assert seconds(lambda: [nothing.delay() for _ in range(100)]) < 0.1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "next sweep" in caplog.text


@pytest.mark.faults
def test_publishing_goes_on_when_the_broker_is_back(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(celery, "PAUSE", 0.1)
    broker.kill()
    assert nothing.delay() is None
    broker.start()
    time.sleep(0.1)
    assert nothing.delay() is not None
    assert broker.waiting() == 1


def test_nothing_is_published_before_the_commit(broker: Broker, committed_db: Database) -> None:
    with transaction.atomic():
        nothing.delay_on_commit()
        assert broker.waiting() == 0
    assert broker.waiting() == 1


def test_a_commit_survives_a_broker_that_is_down(broker: Broker, committed_db: Database) -> None:
    broker.kill()
    with transaction.atomic():
        nothing.delay_on_commit()
        get_user_model().objects.create(email="somebody@organisation.example")
    assert get_user_model().objects.filter(email="somebody@organisation.example").exists()


@pytest.mark.worker
@pytest.mark.slow
def test_a_worker_takes_messages_and_works_on_the_same_database(worker: Worker, broker: Broker, committed_db: Database) -> None:
    celery.app.send_task("products.tasks.sweep")
    wait_until(lambda: broker.waiting() == 0, what="taking the message")
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        assert cursor.fetchone()[0] >= 1


def test_every_periodic_message_expires_before_the_next() -> None:
    for entry in celery.app.conf.beat_schedule.values():
        assert entry["options"]["expires"] <= entry["schedule"]


def test_the_ticker_rings_what_is_due(monkeypatch: pytest.MonkeyPatch, broker: Broker) -> None:
    entry = {"task": nothing.name, "schedule": 10, "options": {"expires": 10}}
    monkeypatch.setitem(celery.app.conf, "beat_schedule", {"nothing": entry})
    ticker = celery.Ticker()
    for moment, messages in ((100, 1), (109, 1), (110, 2), (119, 2)):
        ticker.ring(moment)
        assert broker.waiting() == messages


@pytest.mark.faults
def test_the_ticker_does_not_wait_a_turn_when_the_broker_is_back(monkeypatch: pytest.MonkeyPatch, broker: Broker) -> None:
    entry = {"task": nothing.name, "schedule": 10, "options": {"expires": 10}}
    monkeypatch.setitem(celery.app.conf, "beat_schedule", {"nothing": entry})
    ticker = celery.Ticker()
    broker.kill()
    ticker.ring(100)
    broker.start()
    celery.publisher.resume()
    ticker.ring(101)
    assert broker.waiting() == 1


def test_a_worker_that_hangs_ends_soon_after_its_launcher_all_the_same(tmp_path: Path) -> None:
    hanging = "signal.signal(signal.SIGTERM, signal.SIG_IGN); celery.end_with(os.getppid(), patience=0.1)"
    worker = f"import os, signal; from admin_console import celery; print(os.getpid(), flush=True); {hanging}"
    started = [sys.executable, "-c", worker]
    start = f"import time; from admin_console.embedded import spawn; spawn({started}, output=1); time.sleep(60)"
    with (tmp_path / "out").open("wb") as out:
        launcher = spawn([sys.executable, "-c", start], output=out, folder=settings.BASE_DIR)
    wait_until(lambda: (tmp_path / "out").read_text().endswith("\n"), 20, "the number of the worker")
    worker_process = Path("/proc") / (tmp_path / "out").read_text().strip()
    assert worker_process.exists()

    launcher.kill()
    launcher.wait()

    wait_until(lambda: not worker_process.exists(), 10, "the end of the worker")
