"""Makers of what a test is about: plain functions, with a sensible value for everything that the test does not name."""

import itertools
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from users.models import GroupMembership, LastSeen, Role, User, UserGroup

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
_numbers = itertools.count(1)


def make_user(
    name: str = "",
    *,
    email: str = "",
    role: str = Role.MEMBER,
    groups: Iterable[UserGroup] = (),
    manages: Iterable[UserGroup] = (),
    seen: timedelta | None = None,
    **fields: Any,
) -> User:
    """Return a stored user called "First Last", last seen so long before NOW (never, when not told)."""
    first, _space, last = name.partition(" ")
    email = email or f"user{next(_numbers)}@tests.example"
    user = User.objects.create(email=email, first_name=first, last_name=last, role=role, **fields)
    GroupMembership.objects.bulk_create([GroupMembership(user=user, group=group) for group in groups])
    user.managed_groups.set(list(manages))
    if seen is not None:
        LastSeen.objects.create(user=user, first_at=NOW - seen, at=NOW - seen)
    return user


def make_group(name: str = "", *, inside: UserGroup | None = None) -> UserGroup:
    """Return a stored user group."""
    return UserGroup.objects.create(name=name or f"Group {next(_numbers)}", parent=inside)
