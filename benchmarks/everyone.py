"""A change of everyone, against what PostgreSQL needs for the same rows; the same again, its undo, and what its size costs."""

from collections import defaultdict
from collections.abc import Iterator
from statistics import median

from django.test.utils import override_settings

from benchmarks.bench import Bench, settle
from benchmarks.bound import Bound, bound_of
from benchmarks.changing import ids_of, peak_memory, replace, undo
from benchmarks.report import Figure, at_most, seconds
from products.selection import Selection
from users.models import User

EVERYONE = Selection(everyone=True)
WITH_EMAILS = ("connect", "meeting", "resolve")  # of which one sends an onboarding email
SILENT = ("connect", "resolve", "rescue")  # of which none does
TABLES = ("products_productaccess", "products_accesschange", "notifications_notification")


def measure(bench: Bench) -> Iterator[Figure]:
    """Yield the figures of changes of everyone."""
    took: defaultdict[str, list[float]] = defaultdict(list)
    bounds: defaultdict[str, list[Bound]] = defaultdict(list)
    peaks: defaultdict[str, list[float]] = defaultdict(list)
    for _repetition in range(bench.repeat):
        _with_emails(bench, took, bounds)
        _silently(bench, took, bounds, peaks)
        _some(bench, took, peaks)
        bench.tell(", ".join(f"{name} {seconds(times[-1])}" for name, times in took.items()))
    yield _against_the_bound("Replace for everyone, emails owed", took["with emails"], bounds["with emails"], 2.0)
    yield _against_the_bound("Replace for everyone, no emails", took["silent"], bounds["silent"], 1.5)
    yield _against_the_change("The same change again, nothing to do", took["again"], took["silent"], 0.1)
    yield _against_the_change("Undo of everyone", took["undo"], took["silent"], 2.0)
    yield _growth(bench, took)
    yield _memory(bench, peaks)


def _with_emails(bench: Bench, took: dict[str, list[float]], bounds: dict[str, list[Bound]]) -> None:
    with bench.fresh() as database:
        with bench.worker():
            run = replace(EVERYONE, ids_of(*WITH_EMAILS), notify=True)
        took["with emails"].append(run.seconds)
        bounds["with emails"].append(bound_of(run, database))


def _silently(bench: Bench, took: dict[str, list[float]], bounds: dict[str, list[Bound]], peaks: dict[str, list[float]]) -> None:
    with bench.fresh() as database, bench.worker() as worker:
        run = replace(EVERYONE, ids_of(*SILENT), notify=False)
        took["silent"].append(run.seconds)
        peaks["everyone"].append(peak_memory(worker))
        settle(database, *TABLES)
        took["again"].append(replace(EVERYONE, ids_of(*SILENT), notify=False).seconds)
        bounds["silent"].append(bound_of(run, database))
        settle(database, *TABLES)
        took["undo"].append(undo(run.change).seconds)


def _some(bench: Bench, took: dict[str, list[float]], peaks: dict[str, list[float]]) -> None:
    """Change one user, and as many as "some" are, by a worker too, though the console would do the one at once."""
    with bench.fresh(), override_settings(BULK_AT_ONCE=0), bench.worker() as worker:
        ids = list(User.objects.order_by("id").values_list("id", flat=True)[: bench.some + 4])
        for user in ids[bench.some :]:
            took["one"].append(replace(Selection.of([user]), ids_of(*SILENT), notify=False).seconds)
        took["some"].append(replace(Selection.of(ids[: bench.some]), ids_of(*SILENT), notify=False).seconds)
        peaks["some"].append(peak_memory(worker))


def _against_the_bound(work: str, ours: list[float], bounds: list[Bound], limit: float) -> Figure:
    bound = median(bound.seconds for bound in bounds)
    return Figure(
        work=work,
        ours=seconds(ours),
        yardstick=f"{seconds(bound)} raw bound",
        **at_most(median(ours) / bound, limit, " ×"),
        details={
            "ours": ours,
            "bound_in_batches": [bound.in_batches for bound in bounds],
            "bound_at_once": [bound.at_once for bound in bounds],
        },
    )


def _against_the_change(work: str, ours: list[float], change: list[float], limit: float) -> Figure:
    return Figure(
        work=work,
        ours=seconds(ours),
        yardstick=f"{seconds(change)} the change",
        **at_most(median(ours) / median(change), limit, " ×"),
        details={"ours": ours, "change": change},
    )


def _growth(bench: Bench, took: dict[str, list[float]]) -> Figure:
    """Compare the time per user, without what a change of one user takes."""
    fixed = median(took["one"])
    some = max(median(took["some"]) - fixed, 1e-6) / bench.some
    everyone = (median(took["silent"]) - fixed) / bench.users
    return Figure(
        work=f"Growth from {bench.some:,} to {bench.users:,} users, per user",
        ours=f"{everyone * 1e6:.1f} µs",
        yardstick=f"{some * 1e6:.1f} µs",
        **at_most(everyone / some, 1.5, " ×"),
        details={"one": took["one"], "some": took["some"], "everyone": took["silent"]},
    )


def _memory(bench: Bench, peaks: dict[str, list[float]]) -> Figure:
    some, everyone = median(peaks["some"]), median(peaks["everyone"])
    return Figure(
        work=f"Peak memory of the worker, {bench.users:,} against {bench.some:,} users",
        ours=f"{everyone / 1024**2:.1f} MiB",
        yardstick=f"{some / 1024**2:.1f} MiB",
        **at_most(everyone / some, 1.2, " ×"),
        details={"some": peaks["some"], "everyone": peaks["everyone"]},
    )
