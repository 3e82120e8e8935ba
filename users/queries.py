"""Questions about users: who may see whom, who may do what, and which users a filter and a search find."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Self

from django.conf import settings
from django.db import connection, models
from django.db.models import Case, Func, Q, QuerySet, Value, When
from django.db.models.functions import Concat
from django.utils.translation import gettext_lazy as _

from users.models import CAPABILITIES, USABLE, Capability, GroupMembership, LastSeen, Role, User, UserGroup, fold
from users.typed import searched

# Fewer letters than these are looked for where a word begins: both ways are answered by the index of three-letter pieces.
FRAGMENT_LETTERS = 3
_WORD_BEGINS = "(^|[ -/:-@[-`{-~\n])"
# Roles whose users a Manager may not change: they outrank them.
OUTRANKING_MANAGERS = (Role.ADMIN, Role.SUPER_ADMIN, Role.SUPPORT)


class Status(models.TextChoices):
    """What a user's access amounts to. Derived in the query, never stored: Inactive depends on the clock."""

    ACTIVE = "ACTIVE", _("Active")
    INACTIVE = "INACTIVE", _("Inactive")
    INVITED = "INVITED", _("Invited")
    SUSPENDED = "SUSPENDED", _("Suspended")


def can(actor: Any, capability: Capability) -> bool:
    """Return whether the actor's role allows this; an anonymous or deactivated actor may nothing."""
    return bool(getattr(actor, "is_active", False)) and capability in CAPABILITIES.get(getattr(actor, "role", ""), ())


def grantable_roles(actor: Any) -> list[Role]:
    """Return the roles that the actor may give and take: those that hold nothing which the actor does not hold."""
    if not can(actor, Capability.CHANGE_ROLES):
        return []
    return [role for role in Role if CAPABILITIES[role] <= CAPABILITIES[actor.role]]


def may_change_email(actor: Any, user: User) -> bool:
    """Return whether the actor may give the user another email: a Member, or somebody whose role the actor may give.

    Whoever reads the mailbox can choose a new password, and so gets whatever the role holds.
    """
    return can(actor, Capability.MANAGE_USERS) and (user.role == Role.MEMBER or user.role in grantable_roles(actor))


def may_rename(actor: Any, user: User) -> bool:
    """Return whether the actor may give the user another name: themselves, or somebody whose email is theirs to change.

    What somebody does in the console is told under that name.
    """
    return may_change_email(actor, user) or (can(actor, Capability.MANAGE_USERS) and user.pk == actor.pk)


def first_super_admin() -> User | None:
    """Return the Super admin who was there first and can sign in: in whose name the console acts when nobody else is named."""
    able = User.objects.filter(role=Role.SUPER_ADMIN, is_active=True, password__regex=USABLE)
    return able.order_by("id").first()


def visible_to(actor: Any) -> QuerySet[User]:
    """Return the users whom the actor may see: the one queryset behind list, count, search, selection, export and worker.

    A Manager sees the members of the groups they manage, subgroups included; nobody when none is set.
    """
    return User.objects.filter(scope_of(actor))


def sees_everybody(actor: Any) -> bool:
    """Return whether the actor, if they may see users at all, sees each of them: a Manager sees those of their groups."""
    return bool(actor.role != Role.MANAGER)


def scope_of(actor: Any, *, each: bool = False) -> Q:
    """Return the condition that the actor may see a user, or a row of another table that has a user's id as its own."""
    if not can(actor, Capability.VIEW_USERS):
        return Q(pk__in=[])
    if sees_everybody(actor):
        return Q()
    managed = with_subgroups(actor.managed_groups.values_list("id", flat=True))
    return _in_groups(managed, each=each)


def changeable_by(actor: Any) -> Q:
    """Return the condition on a visible user that lets the actor change what they hold: nobody who outranks the actor."""
    return Q() if sees_everybody(actor) else ~Q(role__in=OUTRANKING_MANAGERS)


def with_subgroups(group_ids: Iterable[int]) -> list[int]:
    """Return the ids of these groups and of all groups below them."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH RECURSIVE below AS (
                SELECT id FROM users_usergroup WHERE id = ANY(%s)
                UNION SELECT g.id FROM users_usergroup g JOIN below ON g.parent_id = below.id
            ) SELECT id FROM below ORDER BY id
            """,
            [list(group_ids)],
        )
        return [row[0] for row in cursor]


def visible_groups(actor: Any) -> list[tuple[int, str]]:
    """Return (id, path) of the groups that the actor may filter by, in the order of the tree; a path reads "Sales / Benelux"."""
    if not can(actor, Capability.VIEW_USERS):
        return []
    groups = {pk: (name, parent) for pk, name, parent in UserGroup.objects.values_list("id", "name", "parent")}
    seen = set(groups)
    if not sees_everybody(actor):
        seen = set(with_subgroups(actor.managed_groups.values_list("id", flat=True)))

    @cache
    def path(group: int | None) -> tuple[str, ...]:
        name, parent = groups.get(group, ("", None)) if group else ("", None)
        return (*path(parent), name) if name else ()

    paths = sorted((path(group), group) for group in seen & groups.keys())
    return [(group, " / ".join(names)) for names, group in paths]


def members_of(group_ids: Iterable[int]) -> dict[int, int]:
    """Return how many users are in each of these groups or in a subgroup of it, counted once; groups of nobody are left out."""
    # Person by person, a million would be looked at for each group above their own: so first those who are in the same groups.
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH RECURSIVE tree(top, id) AS (
                SELECT id, id FROM users_usergroup WHERE id = ANY(%s)
                UNION ALL SELECT tree.top, g.id FROM users_usergroup g JOIN tree ON g.parent_id = tree.id
            ), person AS (
                SELECT array_agg(group_id ORDER BY group_id) AS groups FROM users_groupmembership GROUP BY user_id
            ), alike AS (
                SELECT groups, count(*) AS users FROM person GROUP BY groups
            ), found AS (
                SELECT DISTINCT tree.top, groups, users FROM alike CROSS JOIN unnest(groups) AS own(id) JOIN tree USING (id)
            ) SELECT top, sum(users)::int FROM found GROUP BY top
            """,
            [list(group_ids)],
        )
        return dict(cursor.fetchall())


def managers_of(group_ids: Iterable[int]) -> dict[int, list[User]]:
    """Return the Managers of each of these groups, by name; who manages a group above it is not among them."""
    rows = User.managed_groups.through.objects.filter(usergroup__in=list(group_ids), user__role=Role.MANAGER)
    found: dict[int, list[User]] = {}
    for row in rows.select_related("user").order_by("user__name_key", "user"):
        found.setdefault(row.usergroup_id, []).append(row.user)
    return found


def managing_only(group: UserGroup) -> QuerySet[User]:
    """Return the Managers who manage this group and no other: without it, they see nobody."""
    others = User.managed_groups.through.objects.exclude(usergroup=group)
    return User.objects.filter(managed_groups=group, role=Role.MANAGER).exclude(pk__in=others.values("user"))


def with_status(users: QuerySet[User], *, now: datetime) -> QuerySet[User]:
    """Return the users with `status` (a Status value) and `seen_at` (when last seen, or None) on each."""
    return users.annotate(seen_at=models.F("last_seen__at"), status=status_of(now))


def status_of(now: datetime) -> Case:
    """Return the status of a user of a query, as an expression."""
    return Case(
        When(product_access__suspended=True, then=Value(Status.SUSPENDED)),
        When(last_seen__at__isnull=True, then=Value(Status.INVITED)),
        When(last_seen__at__lt=long_ago(now), then=Value(Status.INACTIVE)),
        default=Value(Status.ACTIVE),
    )


def long_ago(now: datetime) -> datetime:
    """Return the moment before which a user must have been last seen to be Inactive."""
    return now - timedelta(days=settings.INACTIVE_AFTER_DAYS)


class InvalidFilter(ValueError):
    """A filter names a category or value that does not exist: `category`, `value`."""

    def __init__(self, category: str, value: str) -> None:
        super().__init__(f"There is no {category} {value!r} to filter by.")
        self.category, self.value = category, value


@dataclass(frozen=True, kw_only=True)
class UserFilter:
    """What narrows the list down: filters of several categories and a search, all of which a user must match.

    The URL's query is its written form (`from_query`; `as_dict` gives it back), shared by the list, the count and a selection.
    Values of one category are alternatives; the categories and the search must all hold.
    """

    search: str = ""
    group: tuple[int, ...] = ()  # ids; members of subgroups are found too; 0: in no group
    role: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    product: tuple[int, ...] = ()  # ids; 0: holds no product
    language: tuple[str, ...] = ()

    CATEGORIES = ("group", "role", "status", "product", "language")

    @property
    def finds_beginnings(self) -> bool:
        """Whether the search is so short that it only finds where words begin."""
        return len(self.search) < FRAGMENT_LETTERS and self.search[:1].isalnum()

    @classmethod
    def from_query(cls, query: Any) -> Self:
        """Read a filter from a QueryDict (or a dict of lists). Raises InvalidFilter for a value that cannot be."""

        def values(category: str) -> list[str]:
            found = query.getlist(category) if hasattr(query, "getlist") else query.get(category, [])
            return list(dict.fromkeys(value for value in found if value != ""))

        def known(category: str, choices: Iterable[str]) -> tuple[str, ...]:
            choices = set(choices)
            for value in values(category):
                if value not in choices:
                    raise InvalidFilter(category, value)
            return tuple(values(category))

        def ids(category: str) -> tuple[int, ...]:
            for value in values(category):
                if not (value.isascii() and value.isdigit() and len(value) <= 9):
                    raise InvalidFilter(category, value)
            return tuple(int(value) for value in values(category))

        search = query.get("search", "") if hasattr(query, "getlist") else "".join(query.get("search", []))
        return cls(
            search=searched(search),
            group=ids("group"),
            role=known("role", Role.values),
            status=known("status", Status.values),
            product=ids("product"),
            language=known("language", (code for code, _name in settings.LANGUAGES)),
        )

    def as_dict(self) -> dict[str, list[str]]:
        """Return the filter as lists of strings by category: JSON for a stored selection; `from_query` reads it back."""
        found = {category: [str(value) for value in getattr(self, category)] for category in self.CATEGORIES}
        return {key: values for key, values in {"search": [self.search] if self.search else [], **found}.items() if values}

    def without(self, category: str, value: str) -> Self:
        """Return the filter without this value of a category (or without its search)."""
        if category == "search":
            return replace(self, search="")
        kept: dict[str, Any] = {category: tuple(each for each in getattr(self, category) if str(each) != value)}
        return replace(self, **kept)

    def __bool__(self) -> bool:
        return bool(self.as_dict())


def users_matching(users: QuerySet[User], wanted: UserFilter, *, now: datetime, each: bool = False) -> QuerySet[User]:
    """Return those of the users whom the filter and the search find. Never more than `users`: the scope comes first.

    `each`: written to be asked of one user after the other, which finds the same.
    """
    return users.filter(_matching(wanted, now=now, each=each))


def accesses_matching[Access: models.Model](
    accesses: QuerySet[Access], wanted: UserFilter, *, now: datetime, each: bool = False
) -> QuerySet[Access]:
    """Return those of the rows of product access whose users are found: the same condition, seen from there.

    To go through narrow rows is much quicker than to go through users, who need not be looked at for most filters.
    """
    return accesses.filter(_matching(wanted, now=now, user="user__", access="", each=each))


def memberships_matching(actor: Any, wanted: UserFilter) -> QuerySet[GroupMembership] | None:
    """Return the memberships of all users whom the filter finds within the actor's scope, if these alone tell; otherwise None.

    A user has one or more of them. To count them it is quicker to look at no user.
    """
    managing = getattr(actor, "role", "") == Role.MANAGER
    if not can(actor, Capability.VIEW_USERS) or 0 in wanted.group or replace(wanted, group=()):
        return None
    asked = [with_subgroups(wanted.group)] if wanted.group else []
    asked += [with_subgroups(actor.managed_groups.values_list("id", flat=True))] if managing else []
    if not asked:
        return None
    memberships = GroupMembership.objects.filter(group__id__any=asked[0])
    for groups in asked[1:]:
        memberships = memberships.filter(user__in=GroupMembership.objects.filter(group__id__any=groups).values("user"))
    return memberships


def _matching(wanted: UserFilter, *, now: datetime, user: str = "", access: str = "product_access__", each: bool = False) -> Q:
    """Return the condition on what a filter asks for, given the paths to a user's columns and to those of their access.

    Whatever else it looks at is found by the user's id, so that it may stand in a query of either table.
    """
    found = Q()
    if wanted.search:
        found &= _searched(wanted, user)
    if wanted.group:
        groups = with_subgroups(wanted.group)
        nowhere = ~models.Exists(GroupMembership.objects.filter(user=models.OuterRef("pk")))
        if 0 not in wanted.group:
            found &= _in_groups(groups, each=each)
        else:
            found &= (nowhere | _in_groups(groups, each=True)) if groups else Q(nowhere)
    if wanted.role and user and Role.MEMBER in wanted.role:  # nearly all are Members: look for who is not
        others = User.objects.filter(pk=models.OuterRef("pk"), role__in={*Role.values} - {*wanted.role})
        found &= Q(~models.Exists(others))
    elif wanted.role:
        found &= Q((f"{user}role__in", wanted.role))
    if wanted.language:
        found &= Q((f"{user}language__in", wanted.language))
    if wanted.product:
        held = Q()
        for product in wanted.product:
            held |= Q(_holding(product, access)) if product else Q((f"{access}suspended", True))
        found &= held
    if wanted.status:
        found &= having_status(wanted.status, access, now=now)
    return found


def _holding(product: int, access: str) -> Func:
    # Not `contains`: the operator @> that intarray brings along sorts both sets anew for each user.
    held = models.F(f"{access}products")
    return Func(Value(product), held, template="%(expressions)s)", arg_joiner=" = ANY(", output_field=models.BooleanField())


def _in_groups(groups: list[int], *, each: bool) -> Q:
    """Return the condition to be in one of these groups: by a look at the groups of `each` user, or at all their members."""
    memberships = GroupMembership.objects.all()
    if not each:
        return Q(pk__in=memberships.filter(group__id__any=groups).values("user"))
    # Not `group_id` itself, or the index would be asked for each of the groups in turn.
    of_user = memberships.filter(user=models.OuterRef("pk")).alias(number=models.F("group_id") + 0)
    return Q(models.Exists(of_user.filter(number__any=groups)))


def _searched(wanted: UserFilter, user: str) -> Q:
    """Return the condition that finds a fragment; fewer than three letters are found at the beginning of words."""
    if not wanted.finds_beginnings:
        return Q((f"{user}search_key__contains", fold(Value(wanted.search))))
    special, escape = Value(r"([][\\.^$*+?(){}|])"), Value(r"\\\1")
    literal = Func(
        fold(Value(wanted.search)), special, escape, Value("g"), function="regexp_replace", output_field=models.TextField()
    )
    return Q((f"{user}search_key__regex", Concat(Value(_WORD_BEGINS), literal, output_field=models.TextField())))


def having_status(statuses: Iterable[str], access: str = "product_access__", *, now: datetime) -> Q:
    """Return the condition that a user has one of these statuses: who holds products has theirs by when they were last seen."""
    wanted = set(statuses)
    seen = LastSeen.objects.filter(user=models.OuterRef("pk"))
    holding = Q((f"{access}suspended", False))
    match sorted(wanted - {Status.SUSPENDED}):
        case []:
            return Q((f"{access}suspended", True))
        case [Status.ACTIVE]:
            holding &= Q(models.Exists(seen.filter(at__gte=long_ago(now))))
        case [Status.INACTIVE]:
            holding &= Q(models.Exists(seen.filter(at__lt=long_ago(now))))
        case [Status.INVITED]:
            holding &= Q(~models.Exists(seen))
        case [Status.ACTIVE, Status.INACTIVE]:
            holding &= Q(models.Exists(seen))
        case [Status.ACTIVE, Status.INVITED]:
            holding &= Q(~models.Exists(seen.filter(at__lt=long_ago(now))))
        case [Status.INACTIVE, Status.INVITED]:
            holding &= Q(~models.Exists(seen.filter(at__gte=long_ago(now))))
    return holding | Q((f"{access}suspended", True)) if Status.SUSPENDED in wanted else holding
