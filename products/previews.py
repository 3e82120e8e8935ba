"""What a bulk change would do to the users selected for it, before it is applied (rule B3).

The selected users are read once and grouped by the set that they hold; what a choice would do to them follows without asking again.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import reduce
from operator import xor
from typing import Any

from django.db import connection, models
from django.db.models import Count, F, Func, Q, QuerySet, Value
from django.db.models.expressions import RawSQL

from products.models import Mode, Product, ProductAccess
from products.queries import catalogue, out_of_reach
from products.selection import Selection, as_sql
from products.targets import TARGET, granted, left_out, target
from users.models import User
from users.queries import changeable_by


@dataclass(frozen=True, kw_only=True)
class SeatNeed:
    """Seats of a limited product that a change needs, and how many are free."""

    product_id: int
    needed: int
    free: int

    @property
    def missing(self) -> int:
        return max(self.needed - self.free, 0)


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a bulk change would do to the selected users; dictionaries are by product id, without zeros."""

    selected: int = 0
    mark: int = 0  # who they are, as one number
    outranking: int = 0  # skipped: they have a higher role than the acting admin
    left_out: int = 0  # skipped: no seat is left for them
    changed: int = 0
    unchanged: int = 0
    suspending: int = 0  # become Suspended
    restoring: int = 0  # come back from Suspended
    kept: int = 0  # would become Suspended, but keep a product that the actor may not take from them
    holding: Mapping[int, int] = field(default_factory=dict)  # how many hold it now
    gains: Mapping[int, int] = field(default_factory=dict)
    losses: Mapping[int, int] = field(default_factory=dict)
    change_emails: int = 0
    onboarding_emails: Mapping[int, int] = field(default_factory=dict)
    seats: tuple[SeatNeed, ...] = ()  # as if nobody were left out

    @property
    def changeable(self) -> int:
        """How many of the selected the actor may change."""
        return self.selected - self.outranking

    @property
    def short(self) -> list[SeatNeed]:
        """The products of which there are too few seats."""
        return [need for need in self.seats if need.missing]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Users who hold the same set: how many, and how many of them have had each product with an onboarding email."""

    users: int
    had: Mapping[int, int]


@dataclass(frozen=True, kw_only=True)
class Composition:
    """Those of the selected users whom the actor may change, by the set that they hold; and how many there are besides."""

    groups: Mapping[frozenset[int], Group]
    outranking: int = 0
    mark: int = 0

    @property
    def users(self) -> int:
        return sum(group.users for group in self.groups.values())

    def without(self, others: "Composition") -> "Composition":
        """Return the composition of those who are not among these others."""
        nobody = Group(users=0, had={})
        groups = {
            held: Group(
                users=group.users - (gone := others.groups.get(held, nobody)).users,
                had={product: had - gone.had.get(product, 0) for product, had in group.had.items()},
            )
            for held, group in self.groups.items()
        }
        return replace(self, groups=groups)
