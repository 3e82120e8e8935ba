"""What it costs to make the history evidence: a change of everyone beside the sealer, how soon it is sealed, and verifying it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from statistics import median
from threading import Event, Thread
from typing import Any

from django.conf import settings
from django.db import connections
from django.utils import timezone

from benchmarks.bench import Bench, settle, timed
from benchmarks.changing import ids_of, replace
from benchmarks.everyone import EVERYONE, SILENT, TABLES
from benchmarks.report import Figure, at_most, seconds
from products.checkpoints import public_key
from products.models import Chain
from products.sealing import seal, unsealed
from products.tasks import seal as sealer
from products.verification import verify

OTHERS = ("central", "mypc", "assist")  # of which none sends an email either
MILLION = 1_000_000
PATIENCE = 300  # seconds until everything is sealed


def measure(bench: Bench) -> Iterator[Figure]:
    """Yield the figures of the seal: of changes to and fro between two sets, each way once alone and once beside the sealer."""
    alone: list[float] = []
    beside: list[float] = []
    until_sealed: list[float] = []
    verified: list[float] = []
    with bench.fresh() as database, bench.worker():
        one, other = ids_of(*SILENT), ids_of(*OTHERS)
        replace(EVERYONE, one, notify=False)
        for _repetition in range(bench.repeat):
            _seal_all()
            since = timezone.now()
            for products, sealed_meanwhile in ((other, False), (one, True), (other, True), (one, False)):
                settle(database, *TABLES)
                if sealed_meanwhile:
                    with _ringing():
                        beside.append(replace(EVERYONE, products, notify=False).seconds)
                        until_sealed.append(timed(_wait_until_sealed))
                else:
                    alone.append(replace(EVERYONE, products, notify=False).seconds)
                    _seal_all()
            verified.append(_verified(since))
            bench.tell(f"alone {seconds(alone)}, beside the sealer {seconds(beside)}, verified in {seconds(verified)} a million")
    yield Figure(
        work="Replace for everyone beside the sealer",
        ours=seconds(beside),
        yardstick=f"{seconds(alone)} without",
        **at_most(median(beside) / median(alone), 1.15, " ×"),
        details={"alone": alone, "beside": beside},
    )
    yield Figure(work="Until its last row is sealed", ours=seconds(until_sealed), **at_most(median(until_sealed), 60, " s"))
    yield Figure(
        work="Verifying 1,000,000 rows of the history",
        ours=seconds(verified),
        **at_most(median(verified), 10, " s"),
        details={"times": verified},
    )


def _seal_all() -> None:
    while seal():
        pass


@contextmanager
def _ringing() -> Iterator[None]:
    """Ring for the sealer as the launcher does, meanwhile."""
    schedule: dict[str, Any] = settings.CELERY_BEAT_SCHEDULE["seal"]
    over = Event()

    def ring() -> None:
        while not over.wait(schedule["schedule"]):
            sealer.apply_async(**schedule["options"])

    thread = Thread(target=ring)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        connections.close_all()


def _wait_until_sealed() -> None:
    until = time.monotonic() + PATIENCE
    while unsealed()[Chain.HISTORY].rows:
        if time.monotonic() > until:
            raise AssertionError(f"The history is not sealed after {PATIENCE} s")
        time.sleep(0.1)


def _verified(since: datetime) -> float:
    """Return how many seconds it takes to verify a million rows, taken from those written since."""
    started = time.perf_counter()
    finding = verify(keys=[public_key()], since=since)
    if finding.damage:
        raise AssertionError(f"Verified as damaged: {finding.damage}")
    return (time.perf_counter() - started) * MILLION / finding.rows
