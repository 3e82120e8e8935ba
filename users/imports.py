"""Bring your own people: a sheet is streamed into a temporary table, checked there, and applied as sets of rows.

`people_line` has one row per person: `line`, `last_line`, `email`, a column per column of the sheet (null: nothing is said),
`groups` and `products` as sorted arrays of lower-case names, `user_id` (null: a new user), `differs` and `is_new`.
`people_refusal` says which lines are refused and why; refused lines leave `people_line`. `people_group` tells which group a name
is, `people_group_set` which groups a set of names are: each set once, without a key, for one may be longer than an index takes.
All live until the end of the transaction.

Lock order, as in `actions`: groups, users, memberships. `read` sees to it that no group is deleted before the import ends.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection
from django.utils.translation import gettext as _
from django.utils.translation import override

from users.actions import InvalidGroup, group_name, keeping_a_super_admin, normal_email, plain_name, require
from users.models import USABLE, Action, Capability, Role, User, UserGroup
from users.moments import zones
from users.queries import grantable_roles
from users.record import record as put_on_record
from users.sheets import Record, Sheet
from users.typed import is_visible, tidy

PROFILE = ("first_name", "last_name", "language", "time_zone", "role")
# No password that anybody knows or could type: it is chosen by the reset email.
NO_PASSWORD = "'!' || left(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 40)"  # noqa: S105

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Refusal:
    """A line that cannot be imported: which of its fields is wrong (none: the line as a whole), and why."""

    line: int
    field: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How many people an import adds, changes, leaves as they are and refuses; and the groups that it makes."""

    added: int
    changed: int
    unchanged: int
    refused: int
    new_groups: tuple[str, ...]


class PeopleImport:
    """One import of a sheet by an admin, inside of a transaction of the caller: `read`, then perhaps `refuse`, then `apply`."""

    def __init__(self, sheet: Sheet, *, actor: User) -> None:
        """Raises actions.NotAllowed for an actor who may not add users."""
        require(actor, Capability.MANAGE_USERS)
        self.sheet, self.actor = sheet, actor
        self._readers: dict[str, Callable[[str], Any]] = {
            "email": normal_email,
            "first_name": lambda text: plain_name("first_name", text),
            "last_name": lambda text: plain_name("last_name", text),
            "language": _one_of(_languages(), _("“%(text)s” is not one of the languages.")),
            "time_zone": _one_of({zone.lower(): zone for zone in ("", *zones())}, _("“%(text)s” is not a time zone.")),
            "role": _one_of(_roles(), _("“%(text)s” is not a role.")),
            "groups": lru_cache(10_000)(lambda text: _array(self._tree.groups(text))),
            "products": lru_cache(10_000)(lambda text: _array({name.lower() for name in _listed(text)})),
        }

    def read(self) -> None:
        """Read the sheet and refuse what is wrong in its lines, by itself or beside the users there are."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('users_import'))")
            cursor.execute(TABLES)
            if "groups" in self.sheet.columns:
                cursor.execute(KEEP_GROUPS)
            self._tree = _GroupTree()
            cursor.execute(KNOW_GROUPS, [list(self._tree.existing), list(self._tree.existing.values())])
            self._copy(cursor)
            cursor.execute("ANALYZE people_line")
            cursor.execute("UPDATE people_line l SET user_id = u.id FROM users_user u WHERE u.email = l.email")
            cursor.execute(f"UPDATE people_line l SET differs = true {DIFFERING.format(difference=self._difference())}")
            if {"role", "groups"} & {*self.sheet.columns}:
                cursor.execute(LOCK_USERS)
        self.refuse(DUPLICATES, [_("This email is already on line %(line)s.") % {"line": "{line}"}])
        if "role" in self.sheet.columns:
            grantable = [str(role) for role in grantable_roles(self.actor)]
            reason = _("%(actor)s may not give or take this role.") % {"actor": self.actor.email}
            self.refuse(FORBIDDEN_ROLES, [reason, grantable, grantable])
            self.refuse(LAST_SUPER_ADMIN, [_("No Super admin who can sign in would be left.")])

    def refuse(self, lines: str, params: Sequence[Any] = ()) -> None:
        """Refuse the lines that this SELECT of (line, last_line, field, reason) yields."""
        with connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO people_refusal (line, last_line, field, reason) {lines}", params)
            cursor.execute("DELETE FROM people_line WHERE line IN (SELECT line FROM people_refusal)")

    def refusals(self) -> Iterator[Refusal]:
        """Yield every refused field, line by line."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT line, field, reason FROM people_refusal ORDER BY line, id")
            yield from (Refusal(*row) for row in cursor)

    def write_refused(self, path: Path) -> None:
        """Write the refused lines as they are, under the sheet's header, to a file that can be mended and imported."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT DISTINCT line, last_line FROM people_refusal ORDER BY line")
            self.sheet.copy_lines(cursor, path)

    def outcome(self) -> Outcome:
        """Return what `apply` would do."""
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FILTER (WHERE user_id IS NULL), count(*) FILTER (WHERE differs), "
                "count(*) FILTER (WHERE user_id IS NOT NULL AND NOT differs), "
                "(SELECT count(DISTINCT line) FROM people_refusal) FROM people_line"
            )
            added, changed, unchanged, refused = cursor.fetchone()
        names = tuple(name for level in self._new_groups() for name, _above in level)
        return Outcome(added=added, changed=changed, unchanged=unchanged, refused=refused, new_groups=names)

    def apply(self, *, now: datetime) -> None:
        """Add and change the people of the lines that were not refused; then `user_id` is known for all of them.

        Raises actions.LastSuperAdmin.
        """
        with keeping_a_super_admin(), connection.cursor() as cursor:
            cursor.execute(ADD, {"now": now})
            added = cursor.rowcount
            cursor.execute(RECORD_ROLES, {"action": Action.USER_ROLE_CHANGED.value, "actor": self.actor.pk})
            cursor.execute(MANAGE_NONE, {"action": Action.USER_MANAGED_GROUPS_CHANGED.value, "actor": self.actor.pk})
            given = [column for column in PROFILE if column in self.sheet.columns]
            if given:
                news = ", ".join(f"{column} = coalesce(l.{column}, u.{column})" for column in given)
                differs = " OR ".join(f"u.{column} <> l.{column}" for column in given)
                cursor.execute(
                    f"UPDATE users_user u SET {news} FROM people_line l WHERE l.user_id = u.id AND l.differs AND ({differs})"
                )
            if "groups" in self.sheet.columns:
                for level in self._new_groups():
                    names, aboves = [name for name, _above in level], [above for _name, above in level]
                    cursor.execute(ADD_GROUPS, [names, aboves, Action.GROUP_ADDED.value, self.actor.pk])
                cursor.execute(KNOW_GROUP_SETS)
                cursor.execute("ANALYZE people_line, people_group_set")  # for who differs is known by now
                cursor.execute(RECORD_GROUPS, {"action": Action.USER_GROUPS_CHANGED.value, "actor": self.actor.pk})
                cursor.execute(LEAVE_GROUPS)
                cursor.execute(JOIN_GROUPS)
            cursor.execute("SELECT count(*) FROM people_line WHERE differs AND NOT is_new")
            (changed,) = cursor.fetchone()
        logger.info("users_imported", extra={"added": added, "actor": self.actor.pk})
        after = {"added": added, "changed": changed, "columns": list(self.sheet.columns)}
        put_on_record(Action.USER_IMPORTED, actor=self.actor, after=after)

    def _copy(self, cursor: Any) -> None:
        columns = self.sheet.columns
        refused: list[tuple[int, int, str, str]] = []
        with cursor.copy(f"COPY people_line (line, last_line, {', '.join(columns)}) FROM STDIN") as copy:
            for record in self.sheet.records():
                if record.problem:
                    refused.append((record.first_line, record.last_line, "", record.problem))
                else:
                    copy.write_row(self._row(record, refused))
        cursor.executemany("INSERT INTO people_refusal (line, last_line, field, reason) VALUES (%s, %s, %s, %s)", refused)

    def _row(self, record: Record, refused: list[tuple[int, int, str, str]]) -> list[Any]:
        row: list[Any] = [record.first_line, record.last_line]
        for column, cell in zip(self.sheet.columns, record.cells, strict=True):
            text = tidy(cell)
            try:
                if not is_visible(text):
                    raise ValueError(self._unreadable(text))
                row.append(self._readers[column](text))
            except ValueError as error:
                refused.append((record.first_line, record.last_line, column, str(error)))
                row.append(None)
        return row

    def _unreadable(self, text: str) -> str:
        if "\x00" in text:
            return _("There is a NUL character in it.")
        if any("\udc80" <= character <= "\udcff" for character in text):
            return _("It cannot be decoded: its bytes are not %(encoding)s.") % {"encoding": self.sheet.encoding}
        return _("There is an invisible character in it.")

    def _difference(self) -> str:
        """Return the condition on a user `u` and a line `l` that makes the line a change of that user."""
        parts = [f"u.{column} <> l.{column}" for column in PROFILE if column in self.sheet.columns]
        if "groups" in self.sheet.columns:
            parts.append("coalesce(own.names, '{}') <> l.groups COLLATE \"C\"")
        return " OR ".join(parts) or "false"

    def _new_groups(self) -> list[list[tuple[str, str]]]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT DISTINCT unnest(groups) FROM people_line")
            return self._tree.missing(name for (name,) in cursor)


class _GroupTree:
    """The user groups there are, and those that the paths of a sheet ask for. A group's name is unique, whatever its place."""

    def __init__(self) -> None:
        groups = {group.pk: group for group in UserGroup.objects.all()}
        self.existing = {_lower(group.name): group.pk for group in groups.values()}
        self._names = {_lower(group.name): group.name for group in groups.values()}
        self._above = {
            _lower(group.name): _lower(groups[group.parent_id].name) if group.parent_id else "" for group in groups.values()
        }
        self._known_paths: dict[str, str] = {}

    def groups(self, text: str) -> set[str]:
        """Return the lower-case names of the groups at these paths, "Sales / Benelux; Marketing". Raises InvalidGroup."""
        return {self._group(path) for path in _listed(text)}

    def missing(self, names: Iterable[str]) -> list[list[tuple[str, str]]]:
        """Return those of these groups, and of the groups above them, that do not exist: levels of (name, lower name above)."""
        levels: dict[str, int] = {}

        def level(name: str) -> int:
            if not name or name in self.existing:
                return 0
            if name not in levels:
                levels[name] = level(self._above[name]) + 1
            return levels[name]

        depth = max((level(name) for name in names), default=0)
        found: list[list[tuple[str, str]]] = [[] for _level in range(depth)]
        for name in sorted(levels):
            found[levels[name] - 1].append((self._names[name], self._above[name]))
        return found

    def _group(self, path: str) -> str:
        if path not in self._known_paths:
            above = ""
            for part in path.split("/"):
                above = self._placed(group_name(part), above)
            self._known_paths[path] = above
        return self._known_paths[path]

    def _placed(self, name: str, above: str) -> str:
        """Return the group's lower-case name, its place in the tree checked or, for a new group, noted."""
        key = _lower(name)
        place = self._above.get(key, "")
        if not above or place == above:
            self._names.setdefault(key, name)
            self._above.setdefault(key, "")
        elif place or key in self.existing:
            raise InvalidGroup(
                _("“%(name)s” is inside “%(place)s”, not inside “%(above)s”.")
                % {"name": self._names[key], "place": self._names[place], "above": self._names[above]}
                if place
                else _("“%(name)s” is at the top, not inside “%(above)s”.")
                % {"name": self._names[key], "above": self._names[above]}
            )
        elif key in self._upwards(above):
            raise InvalidGroup(_("“%(name)s” would be inside itself.") % {"name": name})
        else:
            self._names.setdefault(key, name)
            self._above[key] = above
        return key

    def _upwards(self, key: str) -> Iterator[str]:
        while key:
            yield key
            key = self._above[key]


def _lower(name: str) -> str:
    """Return a name as PostgreSQL's lower() writes it, letter by letter: Python's ends a Greek word in another sigma."""
    return "".join(letter.lower()[0] for letter in name)


def _listed(text: str) -> list[str]:
    return [part for each in text.split(";") if (part := each.strip())]


def _array(names: Iterable[str]) -> str:
    """Return a sorted array as COPY reads it: many lines hold the same one, so it is made once."""
    quoted = (name.replace("\\", "\\\\").replace('"', '\\"') for name in sorted(names))
    return "{" + ",".join(f'"{name}"' for name in quoted) + "}"


def _one_of(choices: dict[str, str], reason: str) -> Callable[[str], str | None]:
    """Return a reader of one of these; an empty cell says nothing about a role and clears anything else."""

    def read(text: str) -> str | None:
        try:
            return choices[text.lower()]
        except KeyError:
            raise ValueError(reason % {"text": text[:80]}) from None

    return read


def _languages() -> dict[str, str]:
    spellings = {name.lower(): code for code, name in settings.LANGUAGES}
    return spellings | {code: code for code, _name in settings.LANGUAGES} | {"": ""}


def _roles() -> dict[str, str]:
    spellings: dict[str, Any] = {"": None}
    for code in ("en", *(code for code, _name in settings.LANGUAGES)):
        with override(code):
            spellings |= {str(role.label).lower(): role.value for role in Role if str(role.label).lower() not in spellings}
    return (
        spellings | {role.value.lower(): role.value for role in Role} | {r.value.lower().replace("_", " "): r.value for r in Role}
    )


TABLES = """
DROP TABLE IF EXISTS pg_temp.people_line, pg_temp.people_refusal, pg_temp.people_group, pg_temp.people_group_set;
CREATE TEMPORARY TABLE people_line (
    line int PRIMARY KEY, last_line int NOT NULL, email text, first_name text, last_name text, language text, time_zone text,
    role text, groups text[], products text[], user_id int, differs boolean NOT NULL DEFAULT false,
    is_new boolean NOT NULL DEFAULT false
) ON COMMIT DROP;
CREATE TEMPORARY TABLE people_refusal (
    id int GENERATED ALWAYS AS IDENTITY, line int NOT NULL, last_line int NOT NULL, field text NOT NULL, reason text NOT NULL
) ON COMMIT DROP;
CREATE TEMPORARY TABLE people_group (name text COLLATE "C" PRIMARY KEY, group_id int NOT NULL) ON COMMIT DROP;
CREATE TEMPORARY TABLE people_group_set (names text[] NOT NULL, group_ids int[] NOT NULL) ON COMMIT DROP
"""
# Against their deletion, not against new members: the lock that a membership takes of its group.
KEEP_GROUPS = "SELECT FROM users_usergroup ORDER BY id FOR KEY SHARE"
KNOW_GROUPS = "INSERT INTO people_group SELECT * FROM unnest(%s::text[], %s::int[])"
DIFFERING = """
FROM users_user u LEFT JOIN (
    SELECT m.user_id, array_agg(g.name ORDER BY g.name) AS names
    FROM users_groupmembership m JOIN people_group g USING (group_id)
    WHERE m.user_id IN (SELECT user_id FROM people_line) GROUP BY m.user_id
) own ON own.user_id = u.id
WHERE u.id = l.user_id AND ({difference})
"""
# The roles that are checked, and the groups that are recorded, are those that are changed: nobody else gives these users others.
LOCK_USERS = """
SELECT FROM users_user u JOIN people_line l ON l.user_id = u.id
WHERE l.differs AND (l.role IS NOT NULL OR l.groups IS NOT NULL) ORDER BY u.id FOR NO KEY UPDATE OF u
"""
DUPLICATES = """
SELECT line, last_line, 'email', replace(%s, '{line}', first::text) FROM (
    SELECT line, last_line, min(line) OVER (PARTITION BY email) AS first FROM people_line WHERE email IS NOT NULL
) lines WHERE line <> first
"""
FORBIDDEN_ROLES = """
SELECT l.line, l.last_line, 'role', %s FROM people_line l LEFT JOIN users_user u ON u.id = l.user_id
WHERE l.role <> coalesce(u.role, 'MEMBER') AND (NOT l.role = ANY(%s) OR NOT coalesce(u.role, 'MEMBER') = ANY(%s))
"""
# Whom the sheet adds has no password yet.
LAST_SUPER_ADMIN = f"""
SELECT l.line, l.last_line, 'role', %s FROM people_line l JOIN users_user u ON u.id = l.user_id
WHERE u.role = 'SUPER_ADMIN' AND u.is_active AND u.password ~ '{USABLE}' AND l.role <> 'SUPER_ADMIN' AND NOT EXISTS (
    SELECT FROM users_user other LEFT JOIN people_line said ON said.user_id = other.id
    WHERE other.is_active AND other.password ~ '{USABLE}' AND coalesce(said.role, other.role) = 'SUPER_ADMIN'
)
"""
ADD = f"""
WITH added AS (
    INSERT INTO users_user (email, password, first_name, last_name, language, time_zone, role, is_active, created_at)
    SELECT email, {NO_PASSWORD}, coalesce(first_name, ''), coalesce(last_name, ''), coalesce(language, ''),
           coalesce(time_zone, ''), coalesce(role, 'MEMBER'), true, %(now)s
    FROM people_line WHERE user_id IS NULL ORDER BY line
    RETURNING id, email
) UPDATE people_line l SET user_id = added.id, differs = true, is_new = true FROM added WHERE added.email = l.email
"""
RECORD_ROLES = """
INSERT INTO users_adminaction (action, actor_id, subject_id, before, after)
SELECT %(action)s, %(actor)s, u.id,
       CASE WHEN NOT l.is_new THEN jsonb_build_object('role', u.role) END, jsonb_build_object('role', l.role)
FROM people_line l JOIN users_user u ON u.id = l.user_id
WHERE l.differs AND l.role <> CASE WHEN l.is_new THEN 'MEMBER' ELSE u.role END ORDER BY l.line
"""
# With the role go the groups that were managed: they are chosen anew by whoever lets the user manage again.
MANAGE_NONE = """
WITH gone AS (
    DELETE FROM users_user_managed_groups m USING people_line l JOIN users_user u ON u.id = l.user_id
    WHERE m.user_id = l.user_id AND l.differs AND l.role <> u.role
    RETURNING m.user_id, m.usergroup_id
) INSERT INTO users_adminaction (action, actor_id, subject_id, before, after)
SELECT %(action)s, %(actor)s, user_id, jsonb_build_object('groups', array_agg(usergroup_id ORDER BY usergroup_id)),
       jsonb_build_object('groups', '{}'::int[])
FROM gone GROUP BY user_id ORDER BY user_id
"""
ADD_GROUPS = """
WITH added AS (
    INSERT INTO users_usergroup (name, parent_id)
    SELECT new.name, g.id FROM unnest(%s::text[], %s::text[]) AS new(name, above)
    LEFT JOIN users_usergroup g ON lower(g.name) = new.above
    RETURNING id, name, parent_id
), known AS (
    INSERT INTO people_group SELECT lower(name), id FROM added
) INSERT INTO users_adminaction (action, actor_id, subject_id, after)
SELECT %s, %s, id, jsonb_build_object('name', name, 'parent', parent_id) FROM added ORDER BY id
"""
KNOW_GROUP_SETS = """
INSERT INTO people_group_set
SELECT names, ARRAY(SELECT group_id FROM people_group WHERE name = ANY(names COLLATE "C") ORDER BY 1)
FROM (SELECT DISTINCT groups AS names FROM people_line WHERE differs) sets
"""
RECORD_GROUPS = """
INSERT INTO users_adminaction (action, actor_id, subject_id, before, after)
SELECT %(action)s, %(actor)s, l.user_id,
       CASE WHEN NOT l.is_new THEN jsonb_build_object('groups', coalesce(own.group_ids, '{}')) END,
       jsonb_build_object('groups', s.group_ids)
FROM people_line l JOIN people_group_set s ON s.names = l.groups LEFT JOIN (
    SELECT user_id, array_agg(group_id ORDER BY group_id) AS group_ids FROM users_groupmembership
    WHERE user_id IN (SELECT user_id FROM people_line WHERE differs) GROUP BY user_id
) own ON own.user_id = l.user_id
WHERE l.differs AND coalesce(own.group_ids, '{}') <> s.group_ids ORDER BY l.line
"""
LEAVE_GROUPS = """
DELETE FROM users_groupmembership m USING people_line l JOIN people_group_set s ON s.names = l.groups
WHERE l.differs AND m.user_id = l.user_id AND NOT m.group_id = ANY(s.group_ids)
"""
JOIN_GROUPS = """
INSERT INTO users_groupmembership (user_id, group_id)
SELECT l.user_id, group_id FROM people_line l JOIN people_group_set s ON s.names = l.groups, unnest(s.group_ids) AS group_id
WHERE l.differs ORDER BY l.user_id, group_id ON CONFLICT DO NOTHING
"""
