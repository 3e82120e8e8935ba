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
from products.stretches import Kind, stretches
from users.models import User
from users.plans import SWEEP, planned
from users.queries import sees_everybody, visible_to
from users.typed import LAST_ID

# Of a user


def held_at(user: User, at: datetime) -> list[int]:
    """Return the ids of the products that a user held at a moment."""
    before = AccessChange.objects.filter(user=user, at__lte=at).order_by("-id").values_list("after", flat=True).first()
    if before is not None:
        return before
    after = AccessChange.objects.filter(user=user, at__gt=at).order_by("id").values_list("before", flat=True).first()
    if after is not None:
        return after
    return ProductAccess.objects.values_list("products", flat=True).get(user=user)


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


# `mark` is a user's first row after a moment that gave or took the product, and in its last bit whether they held it before.
FIRST = "min(id * 2 + (%(product)s = ANY(before))::int) FILTER (WHERE at > {})"
HOLDING = "CASE WHEN touched.{0} IS NULL THEN holding.user_id IS NOT NULL ELSE touched.{0} & 1 = 1 END"
ASKED = {
    What.HELD: HOLDING.format("earlier"),
    What.GAINED: f"NOT {HOLDING.format('earlier')} AND {HOLDING.format('later')}",
    What.LOST: f"{HOLDING.format('earlier')} AND NOT {HOLDING.format('later')}",
}
USERS = """
WITH touched AS (
    SELECT user_id, {earlier} AS earlier, {later} AS later FROM products_accesschange
    WHERE at > %(since)s AND user_id BETWEEN %(first)s AND %(last)s
        AND (%(product)s = ANY(before)) <> (%(product)s = ANY(after)) {where}
    GROUP BY user_id
), holding AS (
    SELECT user_id FROM products_productaccess WHERE user_id BETWEEN %(first)s AND %(last)s AND %(product)s = ANY(products)
)
SELECT user_id FROM touched FULL JOIN holding USING (user_id) WHERE {asked} {scope}
"""
SCATTERED = 1_000_000  # rows of the history, among which those of a product are not looked for one stretch after the other
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
    scope = ""
    if not sees_everybody(question.reader):
        visible, given = as_sql(visible_to(question.reader).order_by().values("id"))
        named = {f"visible_{n}": value for n, value in enumerate(given)}
        scope = f"AND user_id IN ({visible % tuple(f'%({name})s' for name in named)})"
        params |= named
    later = "NULL::bigint"
    if question.until is not None:
        later, params["until"] = FIRST.format("%(until)s"), question.until
    where = _where_it_moved(question.product) if last == LAST_ID else ""
    sql = USERS.format(earlier=FIRST.format("%(since)s"), later=later, asked=ASKED[question.what], scope=scope, where=where)
    return sql, params


def _where_it_moved(product: Product) -> str:
    """Return as SQL the condition to lie where a product was granted or revoked; nothing if that is all over the history."""
    places = {*stretches(Kind(granted=product.pk)), *stretches(Kind(revoked=product.pk))}
    if sum(place.last - place.first for place in places) > SCATTERED:
        return ""
    return f"AND ({' OR '.join(f'id BETWEEN {place.first} AND {place.last}' for place in places) or 'false'})"


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
