"""What admins see around a change of everyone: the dialog before it, the list while it runs, its users and their export after."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from html import unescape
from statistics import median
from urllib.parse import urlsplit

from django.db import connections
from django.urls import reverse

from benchmarks.bench import Bench, settle
from benchmarks.changing import Run, admin, ids_of, replace
from benchmarks.everyone import EVERYONE, TABLES
from benchmarks.listing import HERE, Choice
from benchmarks.report import Figure, at_least, at_most, percentile, seconds
from benchmarks.web import Answer, Visitor
from products.models import AccessChange, BulkChange

# What is looked at while a change runs: everybody, some and few, in several orders; none that the change itself makes longer.
LOOKED_AT = [
    Choice(wanted, sort)
    for wanted in ((), (("role", "MANAGER"),), (("language", "nl"),), (("search", "schm"),), (("search", "cholmondeley"),))
    for sort in ("name", "-name", "email", "seen")
]
TICKED = ("meeting", "mypc", "resolve")
SHARE = 0.9  # of the users of a change, after which a page of them is asked for


def measure(bench: Bench) -> Iterator[Figure]:
    """Yield the figures of the pages around a change of everyone."""
    with (
        bench.fresh() as database,
        bench.web_server() as port,
        closing(Visitor(port, admin())) as visitor,
        bench.worker(),
    ):
        yield from _dialog(bench, visitor)
        idle = [visitor.get(choice.path).seconds for _round in range(1 if bench.quick else 5) for choice in LOOKED_AT]
        busy, run = _while_it_runs(visitor)
        yield Figure(
            work="The list while everyone is changed: p95",
            ours=seconds(percentile(busy, 0.95)),
            yardstick=f"{seconds(percentile(idle, 0.95))} idle",
            **at_most(percentile(busy, 0.95) / percentile(idle, 0.95), 2, " ×"),
            details={"requests": len(busy), "medians": (median(idle), median(busy)), "change": run.seconds},
        )
        settle(database, *TABLES)
        yield _page_of_its_users(bench, visitor, run.change)
        yield from _export(bench, visitor, run.change)


def _dialog(bench: Bench, visitor: Visitor) -> Iterator[Figure]:
    """Select everybody on the page, open the dialog, tick other products: what it takes, sends and gets."""
    opened, previewed = [], []
    for _repetition in range(bench.repeat + 1):
        page = visitor.get(HERE)
        path, form = _form_around(page, "select-all")
        selected = visitor.post(path, _fields(form), part="results")
        dialog = visitor.get(f"{page.link('manage')}?draft={_fields(selected.body)['draft']}", part="dialog")
        ticked = {**_fields(dialog.body), "product": [str(product) for product in ids_of(*TICKED)]}
        opened.append((selected, dialog))
        previewed.append(visitor.post(reverse("preview_changes"), ticked, part="preview"))
    opened, previewed = opened[1:], previewed[1:]  # the first of all warms the processes
    waited = [selected.seconds + dialog.seconds for selected, dialog in opened]
    parts = {"select all": opened[0][0], "dialog": opened[0][1], "preview": previewed[0]}
    yield Figure(
        work="Select all, open the dialog with its preview",
        ours=seconds(waited),
        **at_most(median(waited), 1, " s"),
        details={"select_all": [pair[0].seconds for pair in opened], "dialog": [pair[1].seconds for pair in opened]},
    )
    again = [answer.seconds for answer in previewed]
    yield Figure(work="The preview once other products are ticked", ours=seconds(again), **at_most(median(again), 1, " s"))
    for way, sizes, limit in (
        ("received", {name: answer.received / 1000 for name, answer in parts.items()}, 100),
        ("sent", {name: answer.sent / 1000 for name, answer in parts.items()}, 4),
    ):
        largest = max(sizes, key=sizes.__getitem__)
        yield Figure(
            work=f"The most {way} for one of these",
            ours=f"{sizes[largest]:.1f} kB ({largest})",
            **at_most(sizes[largest], limit, " kB"),
            details=sizes,
        )


def _form_around(page: Answer, button: str) -> tuple[str, str]:
    """Return where the form around a button is sent, and the form."""
    before, _button, _after = page.body.partition(f'id="{button}"')
    form = before.rpartition("<form")[2]
    action = re.search(r'action="([^"]*)"', form)
    assert action, f"There is no form around {button}"
    return unescape(action.group(1)), form


def _fields(form: str) -> dict[str, str | list[str]]:
    """Return what a form holds by itself: its hidden fields, and the chosen one of several."""
    inputs = [(dict(re.findall(r'([\w-]+)="([^"]*)"', tag)), " checked" in tag) for tag in re.findall(r"<input[^>]*>", form)]
    return {
        told["name"]: unescape(told["value"])
        for told, checked in inputs
        if told.get("type") == "hidden" or (told.get("type") == "radio" and checked)
    }


def _while_it_runs(visitor: Visitor) -> tuple[list[float], Run]:
    """Look at the lists in turns until the change of everyone is over."""

    def change() -> Run:
        try:
            return replace(EVERYONE, ids_of(*TICKED), notify=True)
        finally:
            connections.close_all()

    found: list[float] = []
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(change)
        while not running.done():
            found += [visitor.get(choice.path).seconds for choice in LOOKED_AT if not running.done()]
    return found, running.result()


def _page_of_its_users(bench: Bench, visitor: Visitor, change: BulkChange) -> Figure:
    path = reverse("change", args=[change.pk])
    following = visitor.get(path).link("people-next")
    assert following, "The change has one page of users only"
    far = AccessChange.objects.filter(change=change).order_by("user_id").values_list("user_id", flat=True)
    after = far[int(change.changed * SHARE)]
    deep = re.sub(r"\bafter=\d+", f"after={after}", urlsplit(following).query)
    taken = [visitor.get(f"{path}?{deep}", part="change-people").seconds for _repetition in range(bench.repeat + 2)][2:]
    work = f"Users of the change, the page at user {after:,}"
    return Figure(work=work, ours=seconds(taken), **at_most(median(taken) * 1000, 50, " ms"), details={"times": taken})


def _export(bench: Bench, visitor: Visitor, change: BulkChange) -> Iterator[Figure]:
    """Take all users of the change as a file."""
    answers = [visitor.get(reverse("export_change", args=[change.pk])) for _repetition in range(bench.repeat)]
    rows = {answer.body.count("\n") - 1 for answer in answers}
    assert rows == {change.targets}, f"The export has {rows} rows of {change.targets}"
    rate = median(change.targets / answer.seconds for answer in answers)
    first = median(answer.first_byte for answer in answers)
    yield Figure(work="Export of its users", ours=f"{rate:,.0f} rows/s", **at_least(rate, 100_000, " rows/s"))
    yield Figure(work="Export of its users, first byte", ours=seconds(first), **at_most(first * 1000, 200, " ms"))
