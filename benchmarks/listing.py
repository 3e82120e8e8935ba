"""The list of users over HTTP, in every order, with every filter, on any page, and searched; against a plain Django admin."""

import math
import random
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from html import unescape
from statistics import median
from urllib.parse import parse_qs, urlencode

from django.db.models import Count
from django.utils import timezone

from admin_console.user_list import PAGE_SIZE
from benchmarks.bench import Bench, timed
from benchmarks.changing import admin, ids_of
from benchmarks.organisation import SEED
from benchmarks.report import Figure, at_least, at_most, percentile, seconds
from benchmarks.web import Answer, Visitor, web_server
from users.models import GroupMembership, LastSeen, Role, User, UserGroup
from users.queries import Status, UserFilter, users_matching, visible_to

HERE = "/users/"
ADMIN = "/admin/users/user/"
# Common and rare, of names and of addresses, in the middle of words, with accents, in two words, and what nobody is called.
FRAGMENTS = (
    *("ann", "mar", "ell", "schm", "ovič", "müll", "jördis", "zuid", "cholmondeley", "emma smith", "smith em", "o'br"),
    *("lder", "@fr.", ".example", "4711", "99999", "ia.r", "xyzzy", "qqq"),
)
SHORT = ("a", "e", "z", "ö", "q", "ma", "sc", "xy", "jö", "4", "de", "o'")
OF_THE_ADMIN = ("ann", "schm", "zuid", "emma smith", "@fr.", "xyzzy")  # each takes it seconds


@dataclass(frozen=True)
class Choice:
    """What is asked of the list: a filter or a search, and a sort."""

    wanted: tuple[tuple[str, str], ...] = ()
    sort: str = "name"

    @property
    def path(self) -> str:
        pairs = [*self.wanted, *([("sort", self.sort)] if self.sort != "name" else [])]
        return HERE + (f"?{urlencode(pairs)}" if pairs else "")

    def __str__(self) -> str:
        return " & ".join(f"{name}={value}" for name, value in (*self.wanted, ("sort", self.sort)))


def measure(bench: Bench) -> Iterator[Figure]:
    """Yield the figures of the list."""
    with bench.fresh():
        with bench.web_server() as port, closing(Visitor(port, admin())) as visitor:
            _warm(bench, visitor)
            rows = _times(bench, visitor, [Choice(wanted, sort) for wanted in _filters() for sort in _sorts(visitor)])
            found = _searches(bench, visitor, FRAGMENTS)
            short = _searches(bench, visitor, SHORT)
            counts = _counts(bench, visitor, [*_filters(), *((("search", text),) for text in (*FRAGMENTS, *SHORT))])
        with (
            web_server(bench.home, DJANGO_SETTINGS_MODULE="benchmarks.plain_admin") as port,
            closing(Visitor(port, admin())) as visitor,
        ):
            theirs = _of_the_admin(bench, visitor)
    yield from _rows_figures(rows)
    yield from _against_the_admin(rows, theirs)
    yield from _search_figures(found, theirs)
    yield _short_figure(short)
    yield from _count_figures(counts)


def _warm(bench: Bench, visitor: Visitor) -> None:
    """Let each process and thread of the web server answer before anything is timed."""
    for _request in range(1 if bench.quick else 40):
        visitor.get(HERE)


def _sorts(visitor: Visitor) -> list[str]:
    """Return the sorts that the page offers, both ways."""
    columns = re.findall(r' class="sort" id="sort-(\w+)"', visitor.get(HERE).body)
    return [f"{way}{column}" for column in columns for way in ("", "-")]


def _filters() -> list[tuple[tuple[str, str], ...]]:
    """Return filters that find everybody, many, few and hardly anybody."""
    members = list(GroupMembership.objects.values_list("group").annotate(n=Count("*")).order_by("n", "group"))
    rarest, largest = members[0][0], members[-1][0]
    region = UserGroup.objects.filter(parent=None).order_by("id").first()
    rare, common = ids_of("grasshopper")[0], ids_of("meeting")[0]
    assert region
    one = [
        *(("role", role) for role in Role.values),
        *(("status", status) for status in Status.values),
        *(("product", product) for product in (common, rare, 0)),
        *(("group", group) for group in (region.pk, largest, rarest, 0)),
        *(("language", language) for language in ("en", "nl")),
    ]
    several = [
        [("product", rare), ("status", Status.INACTIVE)],
        [("product", rare), ("group", region.pk), ("language", "nl")],
        [("group", rarest), ("status", Status.INVITED)],
        [("role", Role.MANAGER), ("product", rare)],
        [("search", "ann"), ("status", Status.INACTIVE)],
        [("search", "cholmondeley"), ("product", common)],
    ]
    return [(), *(tuple((name, str(value)) for name, value in pairs) for pairs in ([[pair] for pair in one] + several))]


def _times(bench: Bench, visitor: Visitor, choices: list[Choice]) -> dict[str, dict[str, float]]:
    """Return how long the first, a deep and the last page of each choice take."""
    if bench.quick:
        choices = random.Random(SEED).sample(choices, 6)  # noqa: S311
    middles = _middles()
    found: dict[str, dict[str, float]] = {"first": {}, "deep": {}, "last": {}}
    for n, choice in enumerate(choices):
        answer = visitor.get(choice.path)
        found["first"][str(choice)] = _median(bench, visitor, choice.path)
        if path := answer.link("page-last"):
            found["last"][str(choice)] = _median(bench, visitor, path)
        if path := _deep(choice, answer, middles):
            found["deep"][str(choice)] = _median(bench, visitor, path)
        if n % 100 == 0:
            bench.tell(f"{n} of {len(choices)} lists")
    return found


def _middles() -> dict[str, str]:
    """Return by sort the place, as an URL says it, of somebody in the middle of everybody; of other sorts only the id."""
    half = User.objects.count() // 2
    name, email = User.objects.order_by("name_key", "id")[half], User.objects.order_by("email")[half]
    seen = LastSeen.objects.order_by("at", "user")[LastSeen.objects.count() // 2]
    return {
        "name": f"{name.name_key}~{name.pk}",
        "email": f"{email.email}~{email.pk}",
        "seen": f"{seen.at.isoformat()}~{seen.pk}",
        "": f"~{User.objects.order_by('id')[half].pk}",
    }


def _deep(choice: Choice, first: Answer, middles: dict[str, str]) -> str | None:
    """Return the way to a page in the middle: that to the next one, with another place to begin after."""
    path, _question, query = (first.link("page-next") or "").partition("?")
    if not path:
        return None
    fields = parse_qs(query, keep_blank_values=True)
    stretch = fields["after"][0].rpartition("~")[0]
    fields["after"] = [middles.get(choice.sort.removeprefix("-")) or stretch + middles[""]]
    return f"{path}?{urlencode(fields, doseq=True)}"


def _median(bench: Bench, visitor: Visitor, path: str) -> float:
    return median(visitor.get(path).seconds for _repetition in range(bench.repeat))


def _searches(bench: Bench, visitor: Visitor, texts: tuple[str, ...]) -> dict[str, float]:
    """Return how long the rows of each search take."""
    asked = [text for text in texts if text in OF_THE_ADMIN] or texts[:2] if bench.quick else texts
    return {text: _median(bench, visitor, Choice((("search", text),)).path) for text in asked}


def _counts(bench: Bench, visitor: Visitor, wanted: list[tuple[tuple[str, str], ...]]) -> dict[str, tuple[float, float]]:
    """Return how long the exact count takes on its way to the page, and how long PostgreSQL itself counts the same."""
    found = {}
    for pairs in wanted[:: 9 if bench.quick else 1]:
        path = _counting(visitor.get(Choice(pairs).path))
        if not path:  # all who are found are on the page
            continue
        lists: dict[str, list[str]] = {}
        for name, value in pairs:
            lists.setdefault(name, []).append(value)
        users = users_matching(visible_to(admin()), UserFilter.from_query(lists), now=timezone.now())
        ours = [visitor.get(path, part="found").seconds for _repetition in range(bench.repeat)]
        theirs = [timed(users.count) for _repetition in range(bench.repeat)]
        found[str(Choice(pairs))] = (median(ours), median(theirs))
    return found


def _counting(answer: Answer) -> str | None:
    """Return where the page asks for the exact count after it was shown; None when it knows it already."""
    tag = re.search(r'id="found"[^>]*><[^>]*hx-trigger="load"[^>]*>', answer.body)
    found = tag and re.search(r'hx-get="([^"]*)"', tag.group())
    return unescape(found.group(1)) if found else None


def _of_the_admin(bench: Bench, visitor: Visitor) -> dict[str, float]:
    """Return what Django's own changelist takes for its first page, its last, and some searches."""
    pages = math.ceil(User.objects.count() / PAGE_SIZE)
    for _request in range(1 if bench.quick else 10):
        visitor.get(ADMIN)
    asked = {"first": ADMIN, "last": f"{ADMIN}?p={pages}", **{text: f"{ADMIN}?{urlencode({'q': text})}" for text in OF_THE_ADMIN}}
    return {name: _median(bench, visitor, path) for name, path in asked.items()}


def _rows_figures(rows: dict[str, dict[str, float]]) -> Iterator[Figure]:
    for page, times in rows.items():
        slowest = sorted(times.items(), key=lambda pair: -pair[1])[:10]
        p95, worst = percentile(times.values(), 0.95), slowest[0][1]
        details = {"lists": len(times), "median": median(times.values()), "slowest": dict(slowest)}
        work = f"Rows of a list, {page} page, {len(times)} orders and filters"
        yield Figure(work=f"{work}: p95", ours=seconds(p95), **at_most(p95 * 1000, 50, " ms"), details=details)
        yield Figure(work=f"{work}: worst", ours=seconds(worst), **at_most(worst * 1000, 250, " ms"), details=dict(slowest[:1]))


def _against_the_admin(rows: dict[str, dict[str, float]], theirs: dict[str, float]) -> Iterator[Figure]:
    everybody = str(Choice())
    for page, goal in (("first", 5), ("last", 20)):
        ours = rows[page].get(everybody) or median(rows[page].values())
        yield Figure(
            work=f"The list, {page} page",
            ours=seconds(ours),
            yardstick=f"{seconds(theirs[page])} Django admin",
            **at_least(theirs[page] / ours, goal, " × faster"),
        )


def _search_figures(found: dict[str, float], theirs: dict[str, float]) -> Iterator[Figure]:
    middle, worst = median(found.values()), max(found.values())
    work = f"Search by {len(found)} fragments of 3 letters or more"
    yield Figure(work=f"{work}: median", ours=seconds(middle), **at_most(middle * 1000, 50, " ms"), details=dict(found))
    yield Figure(work=f"{work}: worst", ours=seconds(worst), **at_most(worst * 1000, 250, " ms"))
    ours, admins = (median(times[text] for text in OF_THE_ADMIN) for times in (found, theirs))
    yield Figure(
        work=f"Search by {len(OF_THE_ADMIN)} of them",
        ours=seconds(ours),
        yardstick=f"{seconds(admins)} Django admin",
        **at_least(admins / ours, 10, " × faster"),
        details={text: (found[text], theirs[text]) for text in OF_THE_ADMIN},
    )


def _short_figure(short: dict[str, float]) -> Figure:
    worst = max(short.values())
    return Figure(
        work=f"Search by {len(short)} of 1–2 letters: worst",
        ours=seconds(worst),
        **at_most(worst * 1000, 250, " ms"),
        details=dict(short),
    )


def _count_figures(counts: dict[str, tuple[float, float]]) -> Iterator[Figure]:
    ours, theirs = [pair[0] for pair in counts.values()], [pair[1] for pair in counts.values()]
    slowest = dict(sorted(counts.items(), key=lambda pair: -pair[1][0])[:10])
    for name, value, its, limit in (
        ("p95", percentile(ours, 0.95), percentile(theirs, 0.95), 400),
        ("worst", max(ours), max(theirs), 800),
    ):
        yield Figure(
            work=f"Exact count of {len(counts)} filters and searches: {name}",
            ours=seconds(value),
            yardstick=f"{seconds(its)} SELECT count(*)",
            **at_most(value * 1000, limit, " ms"),
            details=slowest,
        )
