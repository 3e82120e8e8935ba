"""A believable organisation to look around in: people, groups, roles, products held before the console, and a little past."""

import random
import re
import unicodedata
import uuid
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from admin_console.demo_people import GROUPS, NAMES, PAST, PLACES, PRODUCTS, SEATS
from products.actions import Step, advance_bulk_change, record_already_held, request_bulk_change
from products.models import Product, Seat, Source
from products.refusals import NobodySelected
from products.selection import Selection
from users.imports import NO_PASSWORD
from users.models import Role, User, UserGroup
from users.queries import UserFilter, first_super_admin

SEED = 2026
# Letters that no accent is split off from.
_LETTERS = str.maketrans({"ß": "ss", "ø": "o", "œ": "oe", "æ": "ae", "ı": "i", "ł": "l", "ª": "a"})


class NotEmpty(Exception):
    """There are people already: the demo organisation is only for an empty console."""


@transaction.atomic
def make_demo(*, users: int, now: datetime) -> None:
    """Add so many invented people and all that belongs to them. Raises NotEmpty if anybody but the first Super admin exists."""
    first = first_super_admin()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('users_import'))")
        if User.objects.exclude(pk=first.pk if first else 0).exists() or UserGroup.objects.exists():
            raise NotEmpty("There are users or user groups already; the demo organisation is only made in an empty console.")
        if not users:
            return
        groups = _make_groups()
        products = dict(Product.objects.values_list("code", "id"))
        cursor.execute(PERSON)
        with cursor.copy(f"COPY demo_person ({COLUMNS}) FROM STDIN") as copy:
            copy.set_types(["int4", *["text"] * 6, "timestamptz", "timestamptz", "timestamptz", *["int4[]"] * 3])
            for person in _people(users, groups, products, now):
                copy.write_row(person)
        for statement in (ADD_PEOPLE, "ANALYZE demo_person", ADD_SEEN, ADD_MEMBERSHIPS, ADD_MANAGED):
            cursor.execute(statement)
    record_already_held(actor=None, holdings=HOLDINGS, params=[], source=Source.HELD_BEFORE)
    _repeat_the_past(groups, products, now)
    _limit_seats()


def _make_groups() -> dict[str, UserGroup]:
    groups: dict[str, UserGroup] = {}
    above: list[UserGroup] = []
    for line in GROUPS.strip().splitlines():
        name = line.strip()
        above = above[: (len(line) - len(name)) // 2]
        groups[name] = UserGroup.objects.create(name=name, parent=above[-1] if above else None)
        above.append(groups[name])
    return groups


def _people(count: int, groups: dict[str, UserGroup], products: dict[str, int], now: datetime) -> Iterator[tuple[Any, ...]]:
    """Yield the columns of each person, the same people each time. Asks the database nothing: it is reading them."""
    dice = random.Random(SEED)  # noqa: S311
    regions = _teams_by_region(groups)
    languages, weights = list(PLACES), [PLACES[language][0] for language in PLACES]
    taken: defaultdict[str, int] = defaultdict(int)
    roles = _roles(count, dice)
    for n in range(count):
        role = roles.get(n, Role.MEMBER)
        (language,) = dice.choices(languages, weights)
        _weight, domain, places = PLACES[language]
        ((_weight, time_zone, region),) = dice.choices(places, [place[0] for place in places])
        first_name, last_name = _name(language, dice)
        address = f"{_ascii(first_name)}.{_ascii(last_name)}"
        taken[address] += 1
        number = str(taken[address]) if taken[address] > 1 else ""
        created_at = now - timedelta(days=dice.uniform(40, 1400))
        seen_at = _seen(role, created_at, now, dice)
        yield (
            n,
            f"{address}{number}@{domain}",
            first_name,
            last_name,
            language,
            time_zone,
            str(role),
            created_at,
            seen_at and created_at + (seen_at - created_at) * dice.random() * 0.1,
            seen_at,
            [group.pk for group in _groups(region, regions, dice)],
            [group.pk for group in dice.sample(regions[region], dice.choice((1, 1, 2)))] if role == Role.MANAGER else [],
            sorted(products[code] for code in _products(role, dice)),
        )


def _roles(count: int, dice: random.Random) -> dict[int, Role]:
    """Return who is more than a Member: a few of each role, as far as there are people."""
    few = count // 12
    wanted = {
        Role.SUPER_ADMIN: min(3, few),
        Role.SUPPORT: min(3, few),
        Role.ADMIN: min(2 + count // 400, few, 12),
        Role.MANAGER: max(min(1, few), count // 50),
    }
    chosen = iter(dice.sample(range(count), sum(wanted.values())))
    return {next(chosen): role for role, number in wanted.items() for _n in range(number)}


def _name(language: str, dice: random.Random) -> tuple[str, str]:
    first_names, last_names = NAMES[language]
    last_name = dice.choice(last_names)
    second = dice.choice(last_names)
    if second != last_name and "-" not in last_name + second:
        if language in ("es", "pt") and dice.random() < 0.7:
            last_name = f"{last_name} {second}"
        elif language in ("de", "fr", "en") and dice.random() < 0.03:
            last_name = f"{last_name}-{second}"
    return dice.choice(first_names), last_name


def _ascii(name: str) -> str:
    split = unicodedata.normalize("NFKD", name.lower().translate(_LETTERS))
    return re.sub("[^a-z]+", "-", re.sub("['\u0300-\u036f]", "", split)).strip("-")


def _seen(role: Role, created_at: datetime, now: datetime, dice: random.Random) -> datetime | None:
    """Return when somebody was last seen: mostly lately, some long ago, some never; those with the console open, yesterday."""
    kind = dice.random()
    if role not in (Role.MEMBER, Role.MANAGER):
        return now - timedelta(hours=dice.uniform(1, 60))
    if kind < 0.12:
        return None
    days = dice.uniform(31, 400) if kind < 0.28 else min(dice.expovariate(1 / 6), 29.5)
    return max(now - timedelta(days=days), created_at)


def _teams_by_region(groups: dict[str, UserGroup]) -> dict[str, list[UserGroup]]:
    """Return the groups at and below each group, by its name."""
    regions: defaultdict[str, list[UserGroup]] = defaultdict(list)
    for group in groups.values():
        above: UserGroup | None = group
        while above:
            regions[above.name].append(group)
            above = above.parent
    return regions


def _groups(region: str, regions: dict[str, list[UserGroup]], dice: random.Random) -> set[UserGroup]:
    kind = dice.random()
    if kind < 0.04:
        return set()
    if kind < 0.07:
        return {regions["Contractors"][0]}
    home = "Head office" if kind < 0.22 else region
    found = {dice.choice(regions[home][1:] or regions[home])}
    if kind > 0.92:
        found.add(dice.choice(regions["Head office"][1:]))
    return found


def _products(role: Role, dice: random.Random) -> list[str]:
    nothing = 0.35 if role in (Role.ADMIN, Role.SUPPORT) else 0.08
    if dice.random() < nothing:
        return []
    return [code for code, likely in PRODUCTS.items() if dice.random() < likely] or ["meeting"]


def _repeat_the_past(groups: dict[str, UserGroup], products: dict[str, int], now: datetime) -> None:
    """Make some bulk changes as admins made them: silent, and nothing in them that an onboarding email is owed for."""
    admins = list(User.objects.filter(role__in=[Role.ADMIN, Role.SUPER_ADMIN], is_active=True).order_by("role", "id"))
    if not admins:
        return
    for n, (mode, codes, group, reason) in enumerate(PAST):
        actor = admins[n % len(admins)]
        selection = Selection(everyone=True, filter=UserFilter(group=(groups[group].pk,)))
        selected = selection.users(actor, now=now).count()
        try:
            change = request_bulk_change(
                actor=actor,
                selection=selection,
                products=[products[code] for code in codes],
                mode=mode,
                notify=False,
                key=uuid.UUID(int=SEED + n),
                reason=reason,
                now=now,
                confirmed=selected,
            )
        except NobodySelected:
            continue
        while advance_bulk_change(change_id=change.pk, now=now) is Step.MORE:
            pass


def _limit_seats() -> None:
    for seat in Seat.objects.filter(product__code__in=SEATS, used__gt=0).select_related("product"):
        seats = seat.used + int(seat.used * SEATS[seat.product.code])
        Seat.objects.filter(pk=seat.pk).update(seats=seats)


COLUMNS = "n, email, first_name, last_name, language, time_zone, role, created_at, first_at, at, groups, manages, products"
PERSON = """
DROP TABLE IF EXISTS pg_temp.demo_person;
CREATE TEMPORARY TABLE demo_person (
    n int PRIMARY KEY, email text NOT NULL, first_name text NOT NULL, last_name text NOT NULL, language text NOT NULL,
    time_zone text NOT NULL, role text NOT NULL, created_at timestamptz NOT NULL, first_at timestamptz, at timestamptz,
    groups int[] NOT NULL, manages int[] NOT NULL, products int[] NOT NULL, user_id int
) ON COMMIT DROP
"""
ADD_PEOPLE = f"""
WITH added AS (
    INSERT INTO users_user (email, password, first_name, last_name, language, time_zone, role, is_active, created_at)
    SELECT email, {NO_PASSWORD}, first_name, last_name, language, time_zone, role, true, created_at FROM demo_person ORDER BY n
    RETURNING id, email
) UPDATE demo_person p SET user_id = added.id FROM added WHERE added.email = p.email
"""
ADD_SEEN = """
INSERT INTO users_lastseen (user_id, first_at, at)
SELECT user_id, first_at, at FROM demo_person WHERE at IS NOT NULL ORDER BY user_id
"""
ADD_MEMBERSHIPS = """
INSERT INTO users_groupmembership (user_id, group_id) SELECT user_id, unnest(groups) FROM demo_person ORDER BY user_id
"""
ADD_MANAGED = """
INSERT INTO users_user_managed_groups (user_id, usergroup_id) SELECT user_id, unnest(manages) FROM demo_person ORDER BY user_id
"""
HOLDINGS = "SELECT user_id, products FROM demo_person"
