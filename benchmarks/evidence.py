"""What it costs to make the history evidence: a change of everyone beside the sealer, how soon it is sealed, and verifying it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from threading import Event, Thread
from typing import Any

from django.conf import settings
from django.db import connections

from benchmarks.bench import Bench, settle, timed
from benchmarks.changing import ids_of, replace
from benchmarks.everyone import EVERYONE, SILENT, TABLES
from benchmarks.report import Figure, at_most, seconds
from products.checkpoints import public_key
from products.models import Chain, HistoryBlock
from products.sealing import seal, unsealed
from products.tasks import seal as sealer
from products.verification import verify

MILLION = 1_000_000
PATIENCE = 300  # seconds until everything is sealed


def measure(bench: Bench) -> Iterator[Figure]:
    """Yield the figures of the seal."""
    alone: list[float] = []
    beside: list[float] = []
    until_sealed: list[float] = []
    verified: list[float] = []
    for _repetition in range(bench.repeat):
        with bench.fresh() as database:
            _seal_all()
            settle(database, *TABLES)
            with bench.worker():
                alone.append(replace(EVERYONE, ids_of(*SILENT), notify=False).seconds)
        with bench.fresh() as database:
            _seal_all()
            settle(database, *TABLES)
            with bench.worker(), _ringing():
                beside.append(replace(EVERYONE, ids_of(*SILENT), notify=False).seconds)
                until_sealed.append(timed(_wait_until_sealed))
            verified.append(_verify() * MILLION / max(1, _sealed()))
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


def _verify() -> float:
    def check() -> None:
        if damage := verify(keys=[public_key()]).damage:
            raise AssertionError(f"Verified as damaged: {damage}")

    return timed(check)


def _sealed() -> int:
    return sum(HistoryBlock.objects.values_list("rows", flat=True))
