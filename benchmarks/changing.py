"""Bulk changes as admins make them: asked for by the page's own call, run by a Celery worker, timed from the one to the end."""

import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from django.utils import timezone

from products.actions import request_bulk_change, request_undo
from products.models import BulkChange, Mode, Product
from products.selection import Selection
from products.tasks import ring_for
from tests.processes import Worker
from users.models import Role, User

PATIENCE = 1800


@dataclass(frozen=True)
class Run:
    """How long a change took, with everything that belongs to it, and what became of it."""

    seconds: float
    change: BulkChange


def admin() -> User:
    """Return the Super admin who makes the changes; nobody of this organisation has a password."""
    return User.objects.filter(role=Role.SUPER_ADMIN, is_active=True).earliest("id")


def ids_of(*codes: str) -> list[int]:
    """Return the ids of products by their codes, sorted."""
    return sorted(Product.objects.filter(code__in=codes).values_list("id", flat=True))


def replace(selection: Selection, products: Iterable[int], *, notify: bool) -> Run:
    """Let the selected users hold exactly these products and wait until a worker has done so."""
    actor = admin()
    confirmed = selection.users(actor, now=timezone.now()).count()
    return run(
        lambda: request_bulk_change(
            actor=actor,
            selection=selection,
            products=products,
            mode=Mode.REPLACE,
            notify=notify,
            key=uuid.uuid4(),
            reason="",
            now=timezone.now(),
            confirmed=confirmed,
        )
    )


def undo(change: BulkChange) -> Run:
    """Undo a change by one of its own, silently, and wait until a worker has done so."""
    found = run(
        lambda: request_undo(
            actor=admin(), change=change, notify=False, key=uuid.uuid4(), reason="", now=timezone.now(), confirmed=change.changed
        )
    )
    if found.change.changed != change.changed:
        raise AssertionError(f"The undo changed {found.change.changed} of {change.changed} users")
    return found


def run(request: Callable[[], BulkChange]) -> Run:
    """Ask for a change, ring for it as the page does, and wait until it is over."""
    started = time.perf_counter()
    change = request()
    ring_for(change)
    while not change.is_over:
        change.refresh_from_db(fields=["state"])
        if (since := time.perf_counter() - started) > PATIENCE:
            raise AssertionError(f"Change {change} is still {change.state} after {PATIENCE} s")
        time.sleep(max(since / 200, 0.005))  # always every 5 ms, looking would take a tenth of the machine
    took = time.perf_counter() - started
    change.refresh_from_db()
    if change.state != BulkChange.State.FINISHED or change.reached != change.targets:
        raise AssertionError(f"Change {change} is {change.state}; it reached {change.reached} of {change.targets} users")
    return Run(took, change)


def peak_memory(worker: Worker) -> int:
    """Return the most bytes that one of the worker's processes ever had in memory."""
    assert worker.process
    family = {worker.process.pid}
    sizes = []
    for status in sorted(Path("/proc").glob("[0-9]*/status"), key=lambda path: int(path.parts[2])):
        try:
            told = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:  # it has ended
            continue
        if int(told["PPid"]) in family:
            sizes.append(int(told["VmHWM"].split()[0]) * 1024)
    return max(sizes)
