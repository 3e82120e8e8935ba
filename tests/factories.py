"""Makers of what a test is about: plain functions, with a sensible value for everything that the test does not name."""

import itertools
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from products import actions
from products.models import BulkChange, Mode, Product, Seat
from products.selection import Selection
from users.models import GroupMembership, LastSeen, Role, User, UserGroup

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)  # near the database's time, which the history has
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
    """Return a stored user called "First Last" who has a password, last seen so long before NOW (never, when not told)."""
    first, _space, last = name.partition(" ")
    email = email or f"user{next(_numbers)}@tests.example"
    fields = {"password": "chosen by themselves", **fields}
    user = User.objects.create(email=email, first_name=first, last_name=last, role=role, **fields)
    GroupMembership.objects.bulk_create([GroupMembership(user=user, group=group) for group in groups])
    if manages:
        user.managed_groups.set(list(manages))
    if seen is not None:
        LastSeen.objects.create(user=user, first_at=NOW - seen, at=NOW - seen)
    return user


def make_users(number: int, called: str = "") -> list[User]:
    """Return so many stored Members, called as "User {n:03}" says, in one statement."""
    names = [called.format(n=n).partition(" ") for n in range(number)]
    return User.objects.bulk_create(
        User(email=f"user{next(_numbers)}@tests.example", first_name=first, last_name=last) for first, _space, last in names
    )


def make_group(name: str = "", *, inside: UserGroup | None = None) -> UserGroup:
    """Return a stored user group."""
    return UserGroup.objects.create(name=name or f"Group {next(_numbers)}", parent=inside)


def product(code: str) -> Product:
    """Return a product of the catalogue by its code."""
    return Product.objects.get(code=code)


def ids(*codes: str) -> list[int]:
    """Return the ids of products by their codes, sorted."""
    return sorted(Product.objects.filter(code__in=codes).values_list("id", flat=True))


def give(user: User, *codes: str) -> User:
    """Let a user hold these products, and no others, since before the console."""
    give_all([user], *codes)
    return user


def give_all(users: Iterable[User], *codes: str) -> None:
    """Let each of these users hold these products, and no others, since before the console."""
    actions.record_already_held(
        actor=None,
        holdings="SELECT unnest(%s::int[]) AS user_id, %s::int[] AS products",
        params=[[user.pk for user in users], ids(*codes)],
    )


def make_holders(number: int, *codes: str) -> list[User]:
    """Return so many stored Members who hold these products since before the console."""
    users = make_users(number)
    give_all(users, *codes)
    return users


def held_by(user: User) -> set[str]:
    """Return the codes of the products that a user holds now."""
    return set(Product.objects.filter(entitlements__user=user).values_list("code", flat=True))


def limit(code: str, seats: int | None) -> None:
    """Set how many users may hold a product."""
    Seat.objects.filter(product__code=code).update(seats=seats)


def change(actor: User, users: Iterable[User], *codes: str, mode: str = Mode.REPLACE, **asked: Any) -> BulkChange:
    """Make a bulk change of these users to these products, as the console would."""
    asked = {"notify": True, "key": uuid.uuid4(), "reason": "", "now": NOW, **asked}
    selection = asked.pop("selection", None) or Selection.of(user.pk for user in users)
    return actions.request_bulk_change(actor=actor, selection=selection, products=ids(*codes), mode=mode, **asked)


def run(made: BulkChange) -> BulkChange:
    """Do what the worker does, until the change can go no further, and return it as it is then."""
    while actions.advance_bulk_change(change_id=made.pk, now=NOW) is actions.Step.MORE:
        pass
    made.refresh_from_db()
    return made


def undo(actor: User, made: BulkChange, **asked: Any) -> BulkChange:
    """Undo a change, silently as the console would."""
    asked = {"notify": False, "key": uuid.uuid4(), "reason": "", "now": NOW, **asked}
    return actions.request_undo(actor=actor, change=made, **asked)


def not_reached(made: BulkChange) -> list[int]:
    """Return the ids of the users whom a cancelled change did not reach."""
    return [pk for batch in made.batches.filter(state="CANCELLED").order_by("first_user") for pk in batch.user_ids]
