"""A change of 10,000 users picked at random, against the ways in which Django would do it."""

import random
from collections.abc import Iterator
from statistics import median

from benchmarks.bench import Bench, settle, timed
from benchmarks.changing import admin, ids_of, replace
from benchmarks.everyone import TABLES, WITH_EMAILS
from benchmarks.organisation import SEED
from benchmarks.plain import PlainChange, make_plain_tables
from benchmarks.report import Figure, at_least, seconds
from products.selection import Selection
from users.models import User

SAMPLE = 500  # whom the per-object loop is asked to do


def measure(bench: Bench) -> Iterator[Figure]:
    """Yield the figures of changing some users: other ones each time, so that everyone is found as they were."""
    ours, loops, bulks = [], [], []
    with bench.fresh() as database:
        ids = list(User.objects.order_by("id").values_list("id", flat=True))
        chosen = random.Random(SEED).sample(ids, bench.some * bench.repeat)  # noqa: S311
        samples = [sorted(chosen[n * bench.some : (n + 1) * bench.some]) for n in range(bench.repeat)]
        few = min(SAMPLE, bench.some // 2)
        make_plain_tables(database)
        settle(database, *TABLES, "plain_access", "plain_history", "plain_email")
        plain = PlainChange(admin().pk, ids_of(*WITH_EMAILS))
        with bench.worker():
            for sample in samples:
                ours.append(replace(Selection.of(sample), plain.wanted, notify=True).seconds / len(sample))
                loops.append(timed(lambda sample=sample: plain.one_by_one(sample[:few])) / few)  # type: ignore[misc]
                bulks.append(timed(lambda sample=sample: plain.in_bulk(sample[few:])) / (len(sample) - few))  # type: ignore[misc]
    yield _faster(bench.some, "Django's per-object loop", ours, loops, 300)
    yield _faster(bench.some, "bulk_update and bulk_create", ours, bulks, 15)


def _faster(users: int, than: str, ours: list[float], theirs: list[float], goal: float) -> Figure:
    return Figure(
        work=f"Replace for {users:,} picked users",
        ours=f"{seconds(ours)} a user",
        yardstick=f"{seconds(theirs)} {than}",
        **at_least(median(theirs) / median(ours), goal, " × faster"),
        details={"ours": ours, "theirs": theirs},
    )
