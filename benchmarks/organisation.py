"""The organisation that is measured: a million people in 500 groups of a tree, five roles, 12 products of which each holds three.

Everything is drawn with a fixed seed, in SQL, and goes through the console's own triggers: who holds what is recorded by
`record_already_held`, so histories and seats are those of an organisation that came with it.
"""

import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.core.management import call_command
from django.db import connection
from psycopg.conninfo import make_conninfo

from admin_console.demo_people import NAMES, PLACES
from admin_console.provision import provide_database
from products.actions import record_already_held
from products.models import Product, Seat
from tests.database import OWNER, ROLE, Database, use
from users.imports import NO_PASSWORD
from users.models import UserGroup

SEED = 2026
GROUPS = 500
DEPARTMENTS = ("Sales", "Support", "Marketing", "Engineering", "Finance", "People", "Legal", "Design")
# How likely somebody who holds any products holds this one; one in twelve holds none, so three are held on average.
PRODUCTS = {
    "meeting": 0.80,
    "connect": 0.60,
    "resolve": 0.45,
    "webinar": 0.35,
    "mypc": 0.28,
    "training": 0.25,
    "rescue": 0.20,
    "openvoice": 0.14,
    "assist": 0.09,
    "joinme": 0.06,
    "central": 0.032,
    "grasshopper": 0.008,
}
HOLDS_NOTHING = 0.08
LIMITED = ("connect", "webinar", "training")  # as many seats as people, so whoever asks for all of them gets them


def make_organisation(superuser: str, name: str, users: int) -> None:
    """Make the database `name`, migrate it as its owner and fill it; leave it as autovacuum would after a while."""
    provide_database(superuser, name, owner=OWNER, role=ROLE, password=ROLE)
    database = Database(name, make_conninfo(superuser, dbname=name))
    with use(database):
        call_command("migrate", verbosity=0, interactive=False)
        with _indexed_and_checked_afterwards(database):
            _add_people(users, _make_groups())
        _limit_seats(users)
    with psycopg.connect(database.superuser, autocommit=True) as server:
        server.execute("VACUUM (ANALYZE)")
        server.execute("CHECKPOINT")


def _make_groups() -> list[int]:
    """Add a tree of regions, departments and teams; return the ids in a shuffled order."""
    places = dict.fromkeys(region for _weight, _domain, places in PLACES.values() for _share, _time_zone, region in places)
    regions = [UserGroup(name=place) for place in places]
    UserGroup.objects.bulk_create(regions)
    departments = [UserGroup(name=f"{kind} {region.name}", parent=region) for region in regions for kind in DEPARTMENTS]
    UserGroup.objects.bulk_create(departments)
    rest = GROUPS - len(regions) - len(departments)
    above = itertools.islice(itertools.cycle(departments), rest)
    teams = [UserGroup(name=f"{group.name}, team {n // len(departments) + 1}", parent=group) for n, group in enumerate(above)]
    UserGroup.objects.bulk_create(teams)
    ids = [group.pk for group in (*regions, *departments, *teams)]
    random.Random(SEED).shuffle(ids)  # noqa: S311
    return ids


def _add_people(users: int, groups: list[int]) -> None:
    weights = list(itertools.accumulate(weight for weight, _domain, _places in PLACES.values()))
    products = {product.code: product.pk for product in Product.objects.all()}
    likely = sorted((products[code], likelihood) for code, likelihood in PRODUCTS.items())
    held = ", ".join(f"CASE WHEN random() < {likelihood} THEN {product} END" for product, likelihood in likely)
    with connection.cursor() as cursor:
        cursor.execute(NAME_POOL)
        for n, language in enumerate(PLACES):
            _weight, domain, places = PLACES[language]
            cursor.execute(ADD_NAMES, [n, language, domain, places[0][1], *map(list, NAMES[language])])
        cursor.execute("SELECT setseed(%s)", [1 / SEED])
        bounds = [weight / weights[-1] for weight in weights[:-1]]
        cursor.execute(PERSON.format(held=held), {"users": users, "bounds": bounds, "nothing": HOLDS_NOTHING})
        cursor.execute("ANALYZE bench_person")
        cursor.execute(ADD_PEOPLE)
        cursor.execute(ADD_SEEN)
        cursor.execute(ADD_MEMBERSHIPS, {"groups": groups})
        cursor.execute(ADD_MANAGED, {"groups": groups})
    record_already_held(actor=None, holdings="SELECT id AS user_id, held AS products FROM bench_person", params=[])


def _limit_seats(users: int) -> None:
    Seat.objects.filter(product__code__in=LIMITED).update(seats=users)


@contextmanager
def _indexed_and_checked_afterwards(database: Database) -> Iterator[None]:
    """Build what only speeds up reading, and check what refers to what, when the rows are there: a fraction of the time."""
    with psycopg.connect(database.owner, autocommit=True) as owner:
        statements = owner.execute(ADDED_AFTERWARDS).fetchall()
        for drop, _add in statements:
            owner.execute(drop)
        yield
        for _drop, add in statements:
            owner.execute(add)


ADDED_AFTERWARDS = """
WITH filled AS (SELECT unnest('{users_user,users_lastseen,users_groupmembership,users_user_managed_groups}'::regclass[]) AS id)
SELECT format('DROP INDEX %I', c.relname), pg_get_indexdef(c.oid)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid IN (SELECT id FROM filled) AND NOT i.indisunique
UNION ALL
SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname),
    format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
FROM pg_constraint WHERE conrelid IN (SELECT id FROM filled) AND contype = 'f'
"""
NAME_POOL = """
CREATE TEMPORARY TABLE bench_names (
    place int PRIMARY KEY, language text NOT NULL, domain text NOT NULL, time_zone text NOT NULL,
    first_names text[] NOT NULL, last_names text[] NOT NULL, first_words text[] NOT NULL, last_words text[] NOT NULL
)
"""
WORDS = (
    "ARRAY(SELECT regexp_replace(users_fold(name), '[^a-z]+', '-', 'g') FROM unnest({}) WITH ORDINALITY AS t(name, n) ORDER BY n)"
)
ADD_NAMES = f"""
INSERT INTO bench_names SELECT place, language, domain, time_zone, first, last, {WORDS.format("first")}, {WORDS.format("last")}
FROM (SELECT %s::int AS place, %s AS language, %s AS domain, %s AS time_zone, %s::text[] AS first, %s::text[] AS last) names
"""
# Some names and some groups are far more frequent than others; `power` is what makes them so.
PERSON = """
CREATE TEMPORARY TABLE bench_person AS
SELECT nextval(pg_get_serial_sequence('users_user', 'id'))::int AS id, time_zone,
    CASE WHEN unknown_language < 0.03 THEN '' ELSE language END AS language,
    first_names[first] AS first_name, last_names[last] AS last_name,
    first_words[first] || '.' || last_words[last] || n || '@' || domain AS email,
    CASE
        WHEN n = 1 OR n %% 400000 = 401 THEN 'SUPER_ADMIN' WHEN n %% 20000 = 13 THEN 'SUPPORT' WHEN n %% 2000 = 11 THEN 'ADMIN'
        WHEN n %% 50 = 7 THEN 'MANAGER' ELSE 'MEMBER'
    END AS role,
    n < 1000 OR inactive > 0.005 AS is_active,
    created_at,
    CASE WHEN seen < 0.12 AND n > 1 THEN NULL ELSE greatest(created_at, now() - make_interval(secs => 86400 *
        CASE WHEN seen < 0.28 THEN 31 + 369 * since ELSE least(29.5, -6 * ln(1 - since)) END)) END AS seen_at,
    CASE WHEN nothing < %(nothing)s THEN '{{}}'::int[] ELSE held END AS held, groups_kind, group_place, second_place
FROM (
    SELECT n, width_bucket(random(), %(bounds)s::float[]) AS names, random() AS first_dice, random() AS last_dice,
        random() AS unknown_language, random() AS inactive, random() AS seen, random() AS since, random() AS nothing,
        now() - make_interval(secs => 86400 * (40 + 1360 * random())) AS created_at,
        random() AS groups_kind, power(random(), 3) AS group_place, random() AS second_place,
        array_remove(ARRAY[{held}]::int[], NULL) AS held
    FROM generate_series(1, %(users)s) AS n
) person
JOIN bench_names ON bench_names.place = person.names,
LATERAL (SELECT 1 + floor(cardinality(first_names) * power(first_dice, 1.5))::int AS first,
    1 + floor(cardinality(last_names) * power(last_dice, 1.5))::int AS last) chosen
"""
ADD_PEOPLE = f"""
INSERT INTO users_user (id, email, password, first_name, last_name, language, time_zone, role, is_active, created_at)
SELECT id, email, {NO_PASSWORD}, first_name, last_name, language, time_zone, role, is_active, created_at
FROM bench_person ORDER BY id
"""
ADD_SEEN = """
INSERT INTO users_lastseen (user_id, first_at, at)
SELECT id, created_at + (seen_at - created_at) * 0.1, seen_at FROM bench_person WHERE seen_at IS NOT NULL ORDER BY id
"""
ADD_MEMBERSHIPS = """
INSERT INTO users_groupmembership (user_id, group_id)
SELECT id, (%(groups)s::int[])[1 + floor(place * cardinality(%(groups)s::int[]))::int]
FROM bench_person, LATERAL (
    SELECT group_place AS place WHERE groups_kind > 0.04 UNION ALL SELECT second_place WHERE groups_kind > 0.92
) places
ORDER BY id ON CONFLICT DO NOTHING
"""
ADD_MANAGED = """
INSERT INTO users_user_managed_groups (user_id, usergroup_id)
SELECT id, (%(groups)s::int[])[1 + floor(second_place * cardinality(%(groups)s::int[]))::int]
FROM bench_person WHERE role = 'MANAGER' ORDER BY id
"""
