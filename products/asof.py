"""What was held when, and why, from the entitlement history (rule H3): by a user; of a product, by whom; gained and lost between.

What a user held at a moment is the `before` of their first change after it, and what they hold now if there was none. So a
question costs what happened since. Of a product's history only the rows that gave or took it count.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import QuerySet, TextChoices
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from products.export import SAFE, as_array, header
from products.models import AccessChange, Product, ProductAccess
from products.queries import timeline
from products.selection import as_sql
from users.models import User
from users.plans import SWEEP, planned
from users.queries import sees_everybody, visible_to
from users.typed import LAST_ID

# Of a user


def held_at(user: User, at: datetime | None = None) -> list[int]:
    """Return the ids of the products that a user held at a moment; without one, what they hold now, whatever our clock says."""
    now = ProductAccess.objects.filter(user=user).values_list("products", flat=True)
    if at is None:
        return now.get()
    before = AccessChange.objects.filter(user=user, at__lte=at).order_by("-id").values_list("after", flat=True).first()
    if before is not None:
        return before
    after = AccessChange.objects.filter(user=user, at__gt=at).order_by("id").values_list("before", flat=True).first()
    if after is not None:
        return after
    return now.get()


@dataclass(frozen=True)
class Difference:
    """What a user gained and lost between two moments, as ids of products: what was only held in between is in neither."""

    gained: frozenset[int]
    lost: frozenset[int]


def difference(user: User, since: datetime, until: datetime) -> Difference:
    """Return what a user held at `until` and not at `since`, and the other way round."""
    then, later = frozenset(held_at(user, since)), frozenset(held_at(user, until))
    return Difference(gained=later - then, lost=then - later)


def changes_between(user: User, since: datetime, until: datetime) -> QuerySet[AccessChange]:
    """Return the rows of a user's history after `since` and until `until`, newest first, with bulk change and actor."""
    return timeline(user).filter(at__gt=since, at__lte=until)


GRANTED = """
SELECT DISTINCT ON (product) h.*, product FROM products_accesschange h, unnest(h.after - h.before) AS product
WHERE h.user_id = %s AND h.at <= coalesce(%s::timestamptz, 'infinity') ORDER BY product, h.id DESC
"""


def granted_by(user: User, at: datetime | None = None) -> dict[int, AccessChange]:
    """Return by product id the row of the user's history that granted it last (by then, if told), with bulk change and actor."""
    rows = AccessChange.objects.raw(GRANTED, [user.pk, at]).prefetch_related("change", "actor")
    return {row.product: row for row in rows}  # type: ignore[attr-defined]  # a column above


# Of a product


def clock() -> datetime:
    """Return the time by the database's clock, which writes the history: ours may be behind, and would miss the last of it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        now: datetime = cursor.fetchone()[0]
        return now


class What(TextChoices):
    """What is asked of the users of a product: who held it at a moment, who gained or lost it between two."""

    HELD = "held", gettext_lazy("Held it")
    GAINED = "gained", gettext_lazy("Gained it")
    LOST = "lost", gettext_lazy("Lost it")


@dataclass(frozen=True, kw_only=True)
class Question:
    """Who of those whom the reader may see held a product at `since`; or gained or lost it from then until `until`."""

    product: Product
    reader: User
    since: datetime
    until: datetime | None = None
    what: What = What.HELD


@dataclass(frozen=True, kw_only=True)
class Found:
    """A user who was found, by id: None when they no longer exist; and the row of their history that did it, if one did."""

    user_id: int
    user: User | None
    row: AccessChange | None


@dataclass(frozen=True, kw_only=True)
class FoundPage:
    """Some of the users found, in the order of their ids, and after which id the next page begins, if there is one."""

    rows: Sequence[Found] = field(default_factory=tuple)
    next: int | None = None


# Who turned, from holding the product to not holding it or back, after one moment and until another: those with an odd number of
# rows that moved it, for these move it to and fro. Of a block that lies in between it is noted who turned, one that lies beside
# needs no look: rows are read only of blocks that a moment cuts, and of what is not noted yet.
TURNED = """
SELECT user_id FROM (
    SELECT part * 65536 + place AS user_id FROM (
        SELECT part, bit_xor(turned) AS turned FROM products_historyturn JOIN products_historysummary USING (first_id)
        WHERE turns_known AND first_at > {since} AND last_at <= {until}
            AND product = %(product)s AND part BETWEEN %(first)s / 65536 AND %(last)s / 65536
        GROUP BY part
    ) parts, generate_series(0, 65535, 256) AS start, generate_series(start, start + 255) AS place
    WHERE bit_count(substring(turned FROM start + 1 FOR 256)) > 0 AND get_bit(turned, place) = 1
    UNION ALL
    SELECT user_id FROM unnest((
        SELECT int8multirange(int8range(0, NULL)) - coalesce(range_agg(int8range(first_id, last_id + 1)), int8multirange())
        FROM products_historysummary
        WHERE turns_known AND NOT (first_at <= {since} AND last_at > {since}) AND NOT (first_at <= {until} AND last_at > {until})
    )) AS unread
    JOIN products_accesschange ON id >= lower(unread) AND id < coalesce(upper(unread), 9223372036854775807)
    WHERE at > {since} AND at <= {until} AND (%(product)s = ANY(before)) <> (%(product)s = ANY(after))
) moves WHERE user_id BETWEEN %(first)s AND %(last)s GROUP BY user_id HAVING count(*) %% 2 = 1
"""
SINCE, UNTIL, ALWAYS = "%(since)s::timestamptz", "%(until)s::timestamptz", "'infinity'::timestamptz"
# At a moment held it: who holds it now and did not turn since, and who does not and did.
HOLDING = """
SELECT user_id FROM products_productaccess WHERE user_id BETWEEN %(first)s AND %(last)s AND %(product)s = ANY(products)
"""
HELD = f"""
WITH later AS ({TURNED.format(since=SINCE, until=ALWAYS)}), holding AS ({HOLDING})
SELECT user_id FROM later FULL JOIN holding USING (user_id) WHERE (later.user_id IS NULL) <> (holding.user_id IS NULL)
"""
BETWEEN = f"""
WITH turned AS ({TURNED.format(since=SINCE, until=UNTIL)}), later AS ({TURNED.format(since=UNTIL, until=ALWAYS)}),
    holding AS ({HOLDING})
SELECT user_id FROM turned LEFT JOIN later USING (user_id) LEFT JOIN holding USING (user_id)
WHERE (later.user_id IS NULL) {{}} (holding.user_id IS NULL)
"""
USERS = {What.HELD: HELD, What.GAINED: BETWEEN.format("<>"), What.LOST: BETWEEN.format("=")}
RANGES = (4_000, 32_000)  # ids in which a page is looked for at first: few hold few products, so then among all at once
LONGEST = "30s"  # so long one pass over the whole history may take
ONE_PASS = {**SWEEP, "work_mem": "128MB"}  # a number for each of a million users, in memory


def found(question: Question, *, after: int = 0, size: int = 50) -> FoundPage:
    """Return a page of the users found, those after an id. Raises users.plans.TookTooLong."""
    ids: list[int] = []
    first = after + 1
    with planned(ONE_PASS, longest=LONGEST):
        for width in (*RANGES, LAST_ID):
            last = min(first + width - 1, LAST_ID)
            ids += _ids(question, first, last, limit=size + 1 - len(ids))
            if len(ids) > size or last == LAST_ID:
                break
            first = last + 1
        shown = ids[:size]
        users, rows = User.objects.defer("password").in_bulk(shown), _rows(question, shown)
    return FoundPage(
        rows=[Found(user_id=pk, user=users.get(pk), row=rows.get(pk)) for pk in shown],
        next=shown[-1] if len(ids) > size else None,
    )


def count(question: Question) -> int:
    """Return how many users are found. Raises users.plans.TookTooLong."""
    sql, params = _users(question, 0, LAST_ID)
    with planned(ONE_PASS, longest=LONGEST), connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM ({sql}) found", params)
        return int(cursor.fetchone()[0])


PIECE = 20_000  # users
PEOPLE = f"""
COPY (
    SELECT asked.id, nullif({SAFE.format("person.name")}, ''), {SAFE.format("person.email")}
    FROM unnest(%(ids)s::int[]) AS asked (id)
    LEFT JOIN (SELECT id, trim(first_name || ' ' || last_name) AS name, email FROM users_user) person ON person.id = asked.id
    ORDER BY asked.id
) TO STDOUT (FORMAT csv)
"""


def users_as_csv(question: Question) -> Iterator[bytes]:
    """Return all users found as CSV in pieces, first the header.

    Who they are is found at once, in one pass, 4 bytes each; no statement is open while a slow reader takes a piece. Raises
    users.plans.TookTooLong.
    """
    return _pieces(_every_id(question))


def _pieces(ids: array[int]) -> Iterator[bytes]:
    yield header([_("User"), _("Name"), _("Email")])
    for start in range(0, len(ids), PIECE):
        piece = {"ids": as_array(ids[start : start + PIECE])}
        with connection.cursor() as cursor, cursor.copy(PEOPLE, piece) as rows:
            yield b"".join(rows)


def _ids(question: Question, first: int, last: int, *, limit: int | None = None) -> list[int]:
    sql, params = _users(question, first, last)
    with connection.cursor() as cursor:
        cursor.execute(f"{sql} ORDER BY user_id LIMIT %(limit)s", {**params, "limit": limit})
        return [user_id for (user_id,) in cursor]


def _every_id(question: Question) -> array[int]:
    sql, params = _users(question, 0, LAST_ID)
    copied = f"COPY ({sql} ORDER BY user_id) TO STDOUT"
    with planned(ONE_PASS, longest=LONGEST), connection.cursor() as cursor, cursor.copy(copied, params) as lines:
        lines.set_types(["int4"])
        return array("i", (user_id for (user_id,) in lines.rows()))


def _users(question: Question, first: int, last: int) -> tuple[str, Mapping[str, Any]]:
    """Return the users found within a range of ids, as SQL with its parameters."""
    params: dict[str, Any] = {"product": question.product.pk, "since": question.since, "first": first, "last": last}
    if question.until is not None:
        params["until"] = question.until
    if sees_everybody(question.reader):
        return USERS[question.what], params
    visible, given = as_sql(visible_to(question.reader).order_by().values("id"))
    named = {f"visible_{n}": value for n, value in enumerate(given)}
    scope = visible % tuple(f"%({name})s" for name in named)
    return f"{USERS[question.what]} AND user_id IN ({scope})", params | named


def _rows(question: Question, user_ids: Sequence[int]) -> dict[int, AccessChange]:
    """Return by user id the row that last gave each of them the product by the moment asked about, or took it from them."""
    product = [question.product.pk]
    rows = AccessChange.objects.filter(user__in=user_ids, at__lte=question.until or question.since)
    if question.what == What.LOST:
        rows = rows.filter(before__contains=product).exclude(after__contains=product)
    else:
        rows = rows.filter(after__contains=product).exclude(before__contains=product)
    newest = rows.order_by("user_id", "-id").distinct("user_id").select_related("change", "actor").defer("actor__password")
    return {row.user_id: row for row in newest}
