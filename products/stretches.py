"""Where in a long entitlement history rows of a kind can be: in stretches of ids, for no index says who did it or what it was.

Sealed blocks are summarised (`products_summarise`, migration 0009), and those that hold nothing of the kind are passed over. What
is not summarised yet is looked at row by row. For products.asof it is noted who turned in them (`products_note_turns`, 0016).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from products.models import AccessChange

UNKNOWN = 50_000  # ids of a stretch that is not summarised
LONGEST = 100_000  # ids of a stretch that is: as many blocks as that beside each other are looked at together
BLOCKS = 50  # summarised at a time: a second's work at most


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What rows are looked for: each of these that is told must hold; `actors` are alternatives."""

    granted: int | None = None
    revoked: int | None = None
    actors: tuple[int, ...] | None = None
    source: str | None = None


@dataclass(frozen=True)
class Stretch:
    """The rows with these ids, and when they were written (None: not known)."""

    first: int
    last: int
    since: datetime | None = None
    until: datetime | None = None


def summarise(*, most: int = BLOCKS) -> int:
    """Summarise sealed blocks that are not yet, note who turned in them, and return how many; at any time, by anybody."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT products_summarise(%s)", [most])
        summarised = int(cursor.fetchone()[0])
        cursor.execute("SELECT products_note_turns(%s)", [most])
        return max(summarised, int(cursor.fetchone()[0]))


SUMMARISED = """
SELECT first_id, last_id, first_at, last_at FROM products_historysummary
WHERE (%(granted)s::int IS NULL OR %(granted)s = ANY(granted)) AND (%(revoked)s::int IS NULL OR %(revoked)s = ANY(revoked))
    AND (%(actors)s::int[] IS NULL OR %(actors)s && actors) AND (%(source)s::text IS NULL OR %(source)s = ANY(sources))
    AND (%(first)s::bigint IS NULL OR last_id >= %(first)s) AND (%(last)s::bigint IS NULL OR first_id <= %(last)s)
ORDER BY first_id DESC
"""


def stretches(kind: Kind, *, first: int | None = None, last: int | None = None) -> list[Stretch]:
    """Return the stretches in which rows of this kind can be, newest first; only those that reach into these ids, if told."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(max(last_id), 0) FROM products_historysummary")
        summarised = int(cursor.fetchone()[0])
        actors = list(kind.actors) if kind.actors is not None else None
        asked = {"granted": kind.granted, "revoked": kind.revoked, "source": kind.source, "actors": actors}
        cursor.execute(SUMMARISED, {**asked, "first": first, "last": last})
        known = list(cursor)
    newest = AccessChange.objects.order_by("-id").values_list("id", flat=True).first() or 0
    top = min(newest, last if last is not None else newest)
    bottom = max(summarised + 1, first if first is not None else 1)
    unknown = [Stretch(max(high - UNKNOWN + 1, bottom), high) for high in range(top, bottom - 1, -UNKNOWN)]
    return [*unknown, *_joined(known)]


def _joined(blocks: Iterable[tuple[int, int, datetime, datetime]]) -> Iterator[Stretch]:
    """Join blocks that lie beside each other. The first stretch is short, for it is often enough; later ones are longer."""
    held: tuple[int, int, datetime, datetime] | None = None
    most = 1
    for first, last, since, until in blocks:
        if held and last + 1 == held[0] and held[1] - first < most:
            held = first, held[1], min(since, held[2]), max(until, held[3])
            continue
        if held:
            yield Stretch(*held)
            most = min(most * 4 + 10_000, LONGEST)
        held = first, last, since, until
    if held:
        yield Stretch(*held)
