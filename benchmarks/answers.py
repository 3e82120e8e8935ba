"""The questions of support at ten million rows of history: every page of the reading room, what was held when; and an erasure."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from statistics import median
from urllib.parse import urlencode

import psycopg
from django.utils import timezone

from benchmarks.bench import Bench, settle, timed
from benchmarks.changing import admin, ids_of
from benchmarks.report import Figure, at_most, percentile, seconds
from benchmarks.web import Visitor
from products import asof, sealing, stretches
from products.erasure import erase_user
from products.models import AccessChange, Product
from tests.database import Database
from users.models import GroupMembership, User

PASSES = 10  # changes of everybody, four months from one to the next
HISTORY = "/admin/products/accesschange/"
WRITTEN = (
    "products_accesschange",
    "products_historysummary",
    "products_historyturn",
    "products_bulkchange",
    "notifications_notification",
)
LONG_AGO = timedelta(days=30 * 38)


def measure(bench: Bench) -> Iterator[Figure]:
    """Yield the figures of the questions."""
    with bench.fresh() as database:
        made = timed(lambda: make_history(database))
        rows = AccessChange.objects.count()
        bench.tell(f"{rows:,} rows of history in {made:.0f} s")
        sealed = timed(_seal)
        bench.tell(f"sealed and summarised in {sealed:.0f} s")
        settle(database, *WRITTEN)
        yield Figure(
            work=f"{rows:,} rows of history made, sealed and summarised",
            ours=seconds(made + sealed),
            value=None,
            goal="",
            met=None,
        )
        yield from _pages(bench)
        yield from _persons(bench)
        yield from _products(bench)
        yield _erasing(bench)


# A console of some years: ten changes of everybody, each undone by the next, and small ones by one admin in between.
# Written by the superuser past the triggers, which would take half an hour.
MONTHS = """
DO $$
DECLARE start timestamptz;
BEGIN
    FOR ago IN 1..41 LOOP
        start := date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
        EXECUTE format('CREATE TABLE IF NOT EXISTS %I PARTITION OF products_accesschange FOR VALUES FROM (%L) TO (%L)',
            'products_accesschange_' || to_char((start AT TIME ZONE 'UTC') - make_interval(months => ago), 'YYYY_MM'),
            ((start AT TIME ZONE 'UTC') - make_interval(months => ago)) AT TIME ZONE 'UTC',
            ((start AT TIME ZONE 'UTC') - make_interval(months => ago - 1)) AT TIME ZONE 'UTC');
    END LOOP;
END $$
"""
FORGET = """
DO $$
DECLARE part regclass;
BEGIN
    FOR part IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'products_accesschange'::regclass LOOP
        EXECUTE format('ALTER TABLE %s DISABLE TRIGGER USER', part);
        EXECUTE format('TRUNCATE %s', part);
    END LOOP;
    ALTER TABLE products_accesschange DISABLE TRIGGER USER;
END $$
"""
CHANGE = """
INSERT INTO products_bulkchange (actor_id, key, fingerprint, source, mode, products, preserved, selection, notify, reason, state,
    state_reason, requested_at, finished_at, targets, changed, unchanged, skipped, suspended, restored)
VALUES (%(actor)s, gen_random_uuid(), '', 'CONSOLE', 'ADD', ARRAY[%(product)s]::int[], '{}',
    '{"everyone": true, "filter": {}}', true, %(reason)s, 'FINISHED', '', %(at)s, %(at)s, 0, 0, 0, 0, 0, 0) RETURNING id
"""
# The first change gives what is held now; then one product is turned, and with the next change turned back.
ROWS = """
INSERT INTO products_accesschange (at, user_id, change_id, actor_id, source, db_role, before, after, first)
SELECT %(at)s + make_interval(secs => user_id / 5000), user_id, %(change)s, %(actor)s, 'CONSOLE', 'console', before, after, '{}'
FROM (
    SELECT user_id, CASE WHEN %(n)s = 0 THEN '{}' WHEN %(n)s %% 2 = 1 THEN products ELSE turned END AS before,
        CASE WHEN %(n)s %% 2 = 0 THEN products ELSE turned END AS after
    FROM (
        SELECT user_id, products, CASE WHEN %(product)s = ANY(products) THEN products - %(product)s
            ELSE products | %(product)s END AS turned
        FROM products_productaccess WHERE NOT %(few)s OR user_id %% 200000 = 77
    ) sets
) moves WHERE before <> after ORDER BY user_id
"""
LETTERS = """
INSERT INTO notifications_notification (user_id, kind, about, lane, state, owed_at, sent_at, to_address)
SELECT user_id, 'CHANGE', change_id, 2, CASE WHEN user_id %% 5000 = 0 THEN 'FAILED' ELSE 'SENT' END, at, at, ''
FROM products_accesschange WHERE change_id = %(change)s
"""


def make_history(database: Database) -> None:
    """Give the organisation in the database a long history instead of its own, which ends with what is held now."""
    turned = ids_of("meeting", "connect", "resolve", "webinar", "mypc")
    rare, few = ids_of("grasshopper")[0], {"actor": _rare_admin().pk, "few": True}
    many = {"actor": admin().pk, "few": False}
    with psycopg.connect(database.superuser, autocommit=True) as server:
        server.execute(MONTHS)
        server.execute(FORGET)
        for n in range(PASSES + 1 - PASSES % 2):
            at = timezone.now() - timedelta(days=120 * (PASSES - n) + 20)
            acts = [{**many, "n": n, "product": turned[(n - 1) // 2 % len(turned)], "at": at, "reason": f"Round {n}"}]
            if n in (2, 3):  # and by a few, soon taken back
                acts = [{**few, "n": n - 1, "product": rare, "at": at - timedelta(days=9), "reason": "Only these few"}, *acts]
            for act in acts:
                found = server.execute(CHANGE, act).fetchone()
                assert found
                server.execute(ROWS, {**act, "change": found[0]})
                if n >= PASSES - 1:
                    server.execute(LETTERS, {"change": found[0]})
        server.execute("ANALYZE products_accesschange")


def _rare_admin() -> User:
    return User.objects.filter(role="ADMIN").order_by("-id")[0]


def _seal() -> None:
    while sealing.seal():
        pass
    while stretches.summarise():
        pass


def _pages(bench: Bench) -> Iterator[Figure]:
    with bench.web_server() as port, closing(Visitor(port, admin())) as visitor:
        for _request in range(2 if bench.quick else 30):
            visitor.get(HISTORY)
        asked = _addresses()
        times = {}
        for path in asked[:: 5 if bench.quick else 1]:
            times[path] = median(visitor.get(path).seconds for _repetition in range(bench.repeat))
        p95, worst = percentile(times.values(), 0.95), max(times.values())
        slowest = dict(sorted(times.items(), key=lambda pair: -pair[1])[:12])
        work = f"{len(times)} pages of the reading room, filtered and searched"
        yield Figure(work=f"{work}: p95", ours=seconds(p95), **at_most(p95 * 1000, 200, " ms"), details=times)
        yield Figure(work=f"{work}: worst", ours=seconds(worst), **at_most(worst * 1000, 200, " ms"), details=slowest)


def _addresses() -> list[str]:
    """Return the pages: every list, first and deep, with each filter by what is common and what is rare, and pages of one row."""
    person = User.objects.filter(role="MEMBER").order_by("id")[77]
    sizes = list(GroupMembership.objects.values_list("group", flat=True).order_by("group").distinct())
    first, last = (AccessChange.objects.order_by(order)[0] for order in ("id", "-id"))
    middle = first.pk + (last.pk - first.pk) // 2
    common, rare = ids_of("meeting")[0], ids_of("grasshopper")[0]
    change, letter = last.change_id, f"change.{last.change_id}.{person.pk}"
    days: dict[str, object] = {"since": f"{first.at:%Y-%m-%d}", "until": f"{first.at + timedelta(days=1):%Y-%m-%d}"}
    history: list[dict[str, object]] = [
        {}, {"after": middle}, {"before": first.pk + 1000}, {"person": person.pk}, {"person": person.name}, {"person": "ann"},
        {"person": person.email}, {"group": sizes[0]}, {"group": sizes[-1]}, {"granted": common}, {"granted": rare},
        {"revoked": common}, {"revoked": rare}, {"revoked": rare, "after": middle}, {"granted": common, "revoked": rare},
        {"by": _rare_admin().pk}, {"by": _rare_admin().email}, {"by": admin().pk}, {"by": person.pk}, {"change": change},
        {"change": change, "after": last.pk - 500}, days, {**days, "granted": rare}, {"source": "CONSOLE"}, {"source": "IMPORT"},
        {"source": "OUTSIDE", "granted": rare}, {"by": _rare_admin().pk, "granted": rare}, {"group": sizes[-1], "revoked": rare},
        {"q": person.name}, {"q": "ann"}, {"q": person.email}, {"q": f"#{change}"}, {"q": "Only these few"}, {"q": "Round 3"},
        {"q": "nobody is called that"},
    ]  # fmt: skip
    emails: list[dict[str, object]] = [
        {}, {"person": person.pk}, {"person": "ann"}, {"kind": "CHANGE", "about": change}, {"state": "FAILED"}, {"state": "SENT"},
        {"q": f"<{letter}@mail.example>"}, {"q": person.email}, {"state": "QUEUED"}, {"kind": "ONBOARDING"},
    ]  # fmt: skip
    users: list[dict[str, object]] = [{}, {"q": "ann"}, {"q": person.email}, {"role": "SUPPORT"}]
    changes: list[dict[str, object]] = [{}, {"q": "few"}, {"by": _rare_admin().email}, {"state": "PAUSED"}]
    lists: list[tuple[str, dict[str, object]]] = [
        *((HISTORY, query) for query in history),
        *(("/admin/notifications/notification/", query) for query in emails),
        *(("/admin/users/user/", query) for query in users),
        *(("/admin/products/bulkchange/", query) for query in changes),
        ("/admin/products/product/", {}),
    ]
    rows = [
        f"{HISTORY}{last.pk}/change/", f"/admin/users/user/{person.pk}/change/?as_of=2025-11-22T12:00&zone=UTC",
        f"/admin/products/bulkchange/{change}/change/",
        f"/users/{person.pk}/as-of/?at=2025-11-22T12:00&until=2026-11-01T12:00&zone=UTC",
    ]  # fmt: skip
    return [*(f"{path}?{urlencode(query)}" for path, query in lists), *rows]


def _persons(bench: Bench) -> Iterator[Figure]:
    people = list(User.objects.order_by("id")[:: max(1, bench.users // 40)][:40])
    moments = [timezone.now() - timedelta(days=days) for days in (1, 300, 700, 1300)]
    times = [timed(partial(asof.held_at, user, at)) for user in people for at in moments]
    times += [timed(partial(asof.difference, user, moments[-1], moments[0])) for user in people]
    times += [timed(partial(asof.granted_by, user, moments[1])) for user in people]
    yield Figure(
        work=f"What a user held, gained and lost, and why, {len(times)} times: worst",
        ours=seconds(max(times)),
        **at_most(max(times) * 1000, 50, " ms"),
        details={"median": median(times)},
    )


def _read(question: asof.Question) -> None:
    for _piece in asof.users_as_csv(question):
        pass


def _products(bench: Bench) -> Iterator[Figure]:
    first: dict[str, float] = {}
    whole: dict[str, float] = {}
    counted: dict[str, float] = {}
    now = timezone.now()
    for code in ("meeting", "grasshopper"):
        product = Product.objects.get(code=code)
        for ago in (timedelta(days=30), timedelta(days=500), LONG_AGO):
            for what in (asof.What.HELD, asof.What.LOST):
                until = now if what is asof.What.LOST else None
                question = asof.Question(product=product, reader=admin(), since=now - ago, until=until, what=what)
                name = f"{code} {what.value} {ago.days} days ago"
                first[name] = median(timed(partial(asof.found, question)) for _repetition in range(bench.repeat))
                counted[name] = timed(partial(asof.count, question))
                if ago is LONG_AGO:
                    whole[name] = timed(partial(_read, question))
    for work, times, limit in (("first page", first, 1), ("how many", counted, 15), ("all of them as CSV", whole, 15)):
        worst = max(times.values())
        yield Figure(
            work=f"Who held or lost a product, {work}, {len(times)} questions: worst",
            ours=seconds(worst),
            **at_most(worst, limit, " s"),
            details=times,
        )


def _erasing(bench: Bench) -> Figure:
    people = User.objects.filter(role="MEMBER").order_by("id")[99 : 99 + bench.repeat]
    times = [timed(partial(erase_user, actor=admin(), user=user, now=timezone.now())) for user in people]
    return Figure(
        work="Erasing a person, wherever they are named: worst", ours=seconds(max(times)), **at_most(max(times), 5, " s")
    )
