"""The users whom a filter finds, and any page of them in an order, found as quickly as the first.

A page is found by walking: on from where the page before ended, looking at one user after the other, until there are enough. A
walk that finds too few among `FAR` users is given up, for then those who are wanted are rare: all of them are found and sorted.
docs/decisions/0006 tells more.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import OrderBy, Q, QuerySet, TextField, Value
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce, Concat

from admin_console.user_order import Order, Place, Stretch
from products.models import ProductAccess
from users.models import GroupMembership, Role, User
from users.plans import LOOK, SWEEP, WALK, planned
from users.queries import UserFilter, accesses_matching, scope_of, users_matching, with_subgroups

FAR = 15_000  # users looked at in one stretch
FAR_BY_ID = 25_000  # the same where they come by id, for those beside each other in one table are so in the others
FAR_SEARCHED = 75_000  # the same of a search, whose finds bear one name and so stand together
RARE = 0.01  # of all people
FEW = 5_000  # users of a role or group, or found by a search, who are sorted at once
SPARSE = 0.03  # of all people: fewer are found and sorted sooner than all people are put in order
SAMPLE = 10_000  # users taken anywhere, to tell how many a search finds
MANY = 5  # stretches looked at for one page
GIVEN_UP = -1  # is missing where a walk found too few of those whom it may look at
LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)  # before anybody was seen


@dataclass(frozen=True)
class Found:
    """The users whom a filter finds within an actor's scope, written for each way of looking at them. It is one condition."""

    actor: Any
    wanted: UserFilter
    now: datetime

    def are_few(self) -> bool:
        """Return whether it is known at once that there are only a few of them, whom an index finds."""
        if self.wanted.search and self._share_of_search * self.people <= FEW:
            return True
        if self.wanted.role and Role.MEMBER not in self.wanted.role:
            others = User.objects.filter(role__in=self.wanted.role).exclude(role=Role.MEMBER)
            if others[: FEW + 1].count() <= FEW:
                return True
        return self.are_of_few_groups

    @cached_property
    def are_of_few_groups(self) -> bool:
        """Whether the groups that are asked for have only a few members."""
        if not self.wanted.group or 0 in self.wanted.group:
            return False
        return GroupMembership.objects.filter(group__id__any=with_subgroups(self.wanted.group))[: FEW + 1].count() <= FEW

    @cached_property
    def people(self) -> float:
        """How many people there are, as far as PostgreSQL has noticed; at least 1."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT greatest(reltuples, 1) FROM pg_class WHERE oid = 'users_user'::regclass")
            return float(cursor.fetchone()[0])

    @cached_property
    def share(self) -> float:
        """How many of all people they are, from 0 to 1, as far as can be told at once."""
        narrowed = Found(self.actor, replace(self.wanted, search=""), self.now)
        expected = narrowed._expected_share() if narrowed.wanted or scope_of(self.actor) else 1.0
        return expected * (self._share_of_search if self.wanted.search else 1.0)

    def _expected_share(self) -> float:
        """Return what PostgreSQL expects by its statistics. Of a fragment these know nothing."""
        sql, params = _sql(self.all_at_once().values_list("pk"))
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", params)
            expected = cursor.fetchone()[0][0]["Plan"]["Plan Rows"]
        return float(min(expected / self.people, 1.0))

    @cached_property
    def _share_of_search(self) -> float:
        """How many of a sample of users the search finds. To find and count all 40,000 would take half a second."""
        sought = users_matching(User.objects.all(), UserFilter(search=self.wanted.search), now=self.now)
        sql, params = _sql(sought.order_by().values_list("pk"))
        percent = min(100 * SAMPLE / self.people, 100)
        with connection.cursor() as cursor:
            sample = f"SELECT id, search_key FROM users_user TABLESAMPLE SYSTEM ({percent:.3f}) REPEATABLE (1) LIMIT {SAMPLE}"
            found, of = f"WITH users_user AS (TABLE sample) {sql}", "greatest((SELECT count(*) FROM sample), 1)::float"
            cursor.execute(f"WITH sample AS ({sample}) SELECT (SELECT count(*) FROM ({found}) found) / {of}", params)
            return float(cursor.fetchone()[0])

    @property
    def is_narrow(self) -> bool:
        """Whether the rows of product access alone tell who they are."""
        return scope_of(self.actor) == Q() and not replace(self.wanted, product=())

    def one_by_one(self) -> QuerySet[User]:
        """Return them for a walk."""
        users = User.objects.filter(scope_of(self.actor, each=True))
        return users_matching(users, self.wanted, now=self.now, each=True)

    def all_at_once(self, *, each: bool = False) -> QuerySet[Any]:
        """Return them for a sweep: as rows of product access, which are narrow, where these know most of it.

        `each`: their groups are looked up one user after the other, which is quicker for few.
        """
        narrow = bool(self.wanted.product or self.wanted.status or self.is_narrow)
        rows: QuerySet[Any] = (ProductAccess if narrow else User).objects.filter(scope_of(self.actor, each=each))
        matching = accesses_matching if narrow else users_matching
        return matching(rows, self.wanted, now=self.now, each=each).order_by()


@dataclass(frozen=True)
class Ask:
    """What is asked for: up to `limit` users, from the place `since` on or back; without one from the first (or the last)."""

    order: Order
    limit: int
    since: Place | None
    backwards: bool

    @property
    def way(self) -> str:
        """The direction as SQL says it: DESC from high keys to low ones."""
        return "DESC" if self.order.descending != self.backwards else "ASC"

    @property
    def beyond(self) -> str:
        """The comparison of a place with `since` that is true for those that come after it."""
        return "<" if self.way == "DESC" else ">"


def page_of(
    found: Found, order: Order, *, size: int, since: Place | None = None, backwards: bool = False
) -> tuple[list[Place], bool]:
    """Return up to `size` of the users, from the place `since` on (or back), and whether there are more beyond them.

    They come in the order of the list, whichever way they were found.
    """
    ask, places = Ask(order, size + 1, since, backwards), None
    try:
        if not found.are_few():
            if order.table is ProductAccess and ask.way == "DESC" and len(order.stretches) > 1:
                # Those who hold most are few, and no index knows them.
                if not found.is_narrow and found.share > SPARSE:
                    places = _look_through(found, ask)
            elif not _are_rare(found, ask):
                places = _walk(found.one_by_one(), ask, far=_far(found, order))
        if places is None:
            places = _sweep(found, ask)
    except EmptyResultSet:
        places = []
    shown, more = places[:size], len(places) > size
    return shown[::-1] if backwards else shown, more


def _are_rare(found: Found, ask: Ask) -> bool:
    """Return whether a walk had to go further than it may, as far as can be told; of one filter most values are common."""
    asked = found.wanted.as_dict()
    if not asked.keys() & {"product", "search"} and len(asked) < 2:
        return False
    # Users may be unevenly spread, so twice as many have to be expected.
    next_stretches = MANY * found.people / max(len(ask.order.stretches), 1)
    return found.share * min(_far(found, ask.order) or FAR_BY_ID, next_stretches) < 2 * ask.limit


def _far(found: Found, order: Order) -> int | None:
    """Return how far a walk may go, if not as far as any: whom a search finds bear one name, and stand together in that order."""
    return FAR_SEARCHED if found.wanted.search and order.kind == "text" else None


def _walk(users: QuerySet[User], ask: Ask, *, plan: Mapping[str, str] = WALK, far: int | None = None) -> list[Place] | None:
    """Return the next users by following indexes, or None if they are too far apart. One statement, whatever it finds.

    Of each stretch it takes what is missing, but only if the one before was followed to its end.
    """
    stretches = ask.order.stretches[:: -1 if ask.way == "DESC" else 1]
    if ask.since:
        stretches = stretches[[stretch.name for stretch in stretches].index(ask.since.stretch) :]
    if not stretches:
        return []
    parts, params, walked = [f"missing_0 AS (SELECT {ask.limit} AS n)"], [], stretches[:MANY]
    for n, stretch in enumerate(walked):
        (matching, asked), (further, sought) = _steps(users, stretch, ask if n == 0 else replace(ask, since=None), far)
        parts.append(_of_stretch(n, matching, further))
        params += [*asked, *sought]
    rows = "".join(f"SELECT {n} AS stretch, key, id FROM of_{n} UNION ALL " for n in range(len(walked)))
    end = f"SELECT {len(walked)}, NULL, n FROM missing_{len(walked)}"
    with planned(plan), connection.cursor() as cursor:
        cursor.execute(f"WITH {', '.join(parts)} {rows}{end} ORDER BY stretch, key {ask.way}, id {ask.way}", params)
        *found, (_end, _key, missing) = cursor.fetchall()
    if missing == GIVEN_UP or (missing > 0 and len(stretches) > MANY):
        return None
    return [Place(stretches[n].name, key, pk) for n, key, pk in found[: ask.limit]]


def _of_stretch(n: int, matching: str, further: str) -> str:
    """Return as SQL the users found in stretch n, `of_n`, and how many are missing after it, `missing_n+1`.

    Nobody is looked for once none are missing. If too few of the next users match and there are users further on, the walk is
    `GIVEN_UP`.
    """
    found = f"(SELECT count(*) FROM of_{n})"
    return (
        f"of_{n} (key, id) AS MATERIALIZED (SELECT * FROM ({matching}) matching WHERE (SELECT n FROM missing_{n}) > 0), "
        f"missing_{n + 1} AS MATERIALIZED (SELECT CASE WHEN n <= 0 THEN n WHEN n <= {found} THEN 0 "
        f"WHEN EXISTS ({further}) THEN {GIVEN_UP} ELSE n - {found} END AS n FROM missing_{n})"
    )


def _look_through(found: Found, ask: Ask) -> list[Place] | None:
    """Return the next users by how many products they hold, or None if they are too far apart: of the next of all people."""
    far = int(min(FAR, 4 * ask.limit / max(found.share, 4 * ask.limit / FAR))) + 1
    after = f"(cardinality(products), user_id) {ask.beyond} (%s, %s)" if ask.since else "true"
    table = (
        f"(SELECT user_id, cardinality(products) AS number FROM products_productaccess WHERE {after} "
        f"ORDER BY number {ask.way}, user_id {ask.way} LIMIT {far})"
    )
    at = (int(ask.since.stretch), ask.since.id) if ask.since else ()
    numbers = Order((Stretch("", 0, table, ("number", "user_id"), params=at),), ask.order.descending)
    places = _walk(found.one_by_one(), replace(ask, order=numbers, since=None), plan=LOOK, far=far - 1)
    return places and [Place(str(place.key), None, place.id) for place in places]


def _steps(users: QuerySet[User], stretch: Stretch, ask: Ask, far: int | None) -> tuple[Any, Any]:
    """Return as SQL and parameters: the users found among the next `far` (or FAR) of a stretch, and whoever is further on.

    The next are put in the place of the table of users, so that the query of users goes through them, in their order, only.
    """
    *keyed, pk = stretch.by
    where, params = stretch.where, stretch.params
    if since := ask.since:
        by = ", ".join(f"step.{name}" for name in stretch.by)
        where += f" AND ({by}) {ask.beyond} (%s{', %s' if keyed else ''})"
        params += (since.key, since.id) if keyed else (since.id,)
    key = f"step.{keyed[0]}" if keyed else "NULL::timestamptz"
    order = ", ".join(f"step.{name} {ask.way}" for name in stretch.by)
    far = far or (FAR_BY_ID if (stretch.table, stretch.by) == ("users_user", ("id",)) else FAR)
    joined = f"JOIN users_user person ON person.id = step.{pk}" if stretch.table != "users_user" else ""
    steps = (
        f"SELECT {'person' if joined else 'step'}.*, {key} AS key FROM {stretch.table} step {joined} "
        f"WHERE {where} ORDER BY {order} LIMIT {far}"
    )
    key_of_step, down = RawSQL('"users_user".key', ()), ask.way == "DESC"
    users = users.filter(stretch.inside()).annotate(key=key_of_step)
    users = users.order_by(*([OrderBy(key_of_step, descending=down)] if keyed else []), "-id" if down else "id")
    sql, asked = _sql(users.values_list("key", "id")[: ask.limit])
    further = f"SELECT FROM {stretch.table} step WHERE {where} ORDER BY {order} OFFSET {far} LIMIT 1"
    return (f"WITH users_user AS ({steps}) {sql}", [*params, *asked]), (further, params)


def _sweep(found: Found, ask: Ask) -> list[Place]:
    """Return the next users by finding all and sorting them.

    First all, then what they are sorted by: in one go PostgreSQL would look that up of more than are found.
    """
    order, names = ask.order, {stretch.place: stretch.name for stretch in ask.order.stretches}
    key: Any = Value(0)
    if order.kind == "time":
        key = Coalesce(order.key, Value(LONG_AGO))
    elif order.kind == "text":  # as an expression no index has it in order, so none is followed
        key = Concat(order.key, Value(""), output_field=TextField(db_collation="C"))
    # Few members of a group are found by its index at once; of many, each of few users is looked up among them.
    rows = found.all_at_once(each=found.share < RARE and not found.are_of_few_groups)
    chosen: tuple[str, list[Any]] = ("SELECT 0", [])
    if order.table is None:
        chosen, rows = _sql(rows.values_list("pk")), User.objects.all()
    elif not (order.table is ProductAccess and found.is_narrow):
        chosen = _sql(rows.values_list("pk"))
        rows = order.table._default_manager.filter(pk__in=RawSQL("SELECT id FROM chosen", ()))
    sql, params = _sql(rows.order_by().annotate(place=order.place, key=key).values_list("place", "key", "pk"))
    if order.table is None:  # those chosen stand in the place of the table of users, so that nobody is looked up in it
        sql = f"WITH users_user AS (TABLE chosen) {sql}"
    after = ""
    if since := ask.since:
        place = next(stretch.place for stretch in order.stretches if stretch.name == since.stretch)
        after = f"WHERE (place, key, id) {ask.beyond} (%s, %s, %s)"
        missing = LONG_AGO if order.kind == "time" else 0
        params = [*params, place, missing if since.key is None else since.key, since.id]
    with planned(SWEEP), connection.cursor() as cursor:
        cursor.execute(
            f"WITH chosen (id) AS MATERIALIZED ({chosen[0]}) SELECT * FROM ({sql}) AS found (place, key, id) {after} "
            f"ORDER BY place {ask.way}, key {ask.way}, id {ask.way} LIMIT {ask.limit}",
            [*chosen[1], *params],
        )
        rows = cursor.fetchall()
    return [Place(names[place], None if key in (0, LONG_AGO) else key, pk) for place, key, pk in rows]


def _sql(rows: QuerySet[Any, Any]) -> tuple[str, list[Any]]:
    sql, params = rows.query.sql_with_params()
    return sql, list(params)
