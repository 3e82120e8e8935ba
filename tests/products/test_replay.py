"""The history, replayed from nothing, leads to what is held: after changes, undo, raw SQL, deletion and erasure in any order."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from django.db import connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from products import checkpoints
from products.erasure import ErasedAlready, erase_user
from products.models import TICKED_MODES, AccessChange, BulkChange, ProductAccess
from products.refusals import ChangeRefused
from products.sealing import seal
from products.verification import verify
from tests.examples import tried
from tests.factories import NOW, change, ids, make_user, run, undo
from tests.products.conftest import breaches
from users.models import Role, User

PRODUCTS = ["meeting", "webinar", "rescue", "central"]
RAW = "UPDATE products_productaccess SET products = %s, ever = ever | %s WHERE user_id = %s"


class Life:
    """Some people, and an admin who does at random what can be done to them."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.admin = make_user(role=Role.SUPER_ADMIN)
        self.people = [make_user(f"Person {number}") for number in range(6)]
        self.changes: list[BulkChange] = []
        self.deleted: set[int] = set()
        self.erased: set[int] = set()

    def some(self) -> list[str]:
        return [code for code in PRODUCTS if self.chance.random() < 0.5]

    def one(self) -> User:
        return self.chance.choice(self.people)

    def change(self) -> None:
        people = self.chance.sample(self.people, self.chance.choice([1, 3, 5]))
        mode = self.chance.choice(TICKED_MODES)
        self.changes.append(run(change(self.admin, people, *self.some(), mode=mode)))

    def undo(self) -> None:
        if self.changes:
            self.changes.append(run(undo(self.admin, self.chance.choice(self.changes))))

    def raw(self) -> None:
        wanted = ids(*self.some())
        self.sql(RAW, wanted, wanted, self.one().pk)

    def delete(self) -> None:
        self.deleted.add(user := self.one().pk)
        self.sql("DELETE FROM users_user WHERE id = %s", user)

    def erase(self) -> None:
        if (user := self.one()).pk not in self.deleted:
            erase_user(actor=self.admin, user=user, now=NOW)
            self.erased.add(user.pk)

    def seal(self) -> None:
        seal()

    def sql(self, statement: str, *params: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(statement, params)


def replayed() -> dict[int, list[int]]:
    """Return what everybody holds, as the history tells it from nothing; each row must begin where the one before it ended."""
    held: dict[int, list[int]] = {}
    for user, before, after in AccessChange.objects.order_by("id").values_list("user_id", "before", "after"):
        assert held.get(user, []) == before
        held[user] = after
    return {user: products for user, products in held.items() if products}


@pytest.mark.django_db
@tried(8)
@given(seed=st.integers(0, 2**32 - 1), acts=st.integers(4, 10))
def test_the_history_replayed_from_nothing_is_what_is_held(seed, acts):
    with transaction.atomic():
        life = Life(seed)
        does: list[Callable[[], None]] = [life.change, life.change, life.undo, life.raw, life.delete, life.erase, life.seal]
        for act in life.chance.choices(does, k=acts):
            try:
                with transaction.atomic():
                    act()
            except (ChangeRefused, ErasedAlready):
                pass  # nobody is left to change, or nothing to undo or erase
        seal()

        assert replayed() == dict(ProductAccess.objects.exclude(products=[]).values_list("user_id", "products"))
        assert not ProductAccess.objects.filter(user__in=life.erased).exclude(products=[]).exists()
        assert verify(keys=[checkpoints.public_key()]).damage == []
        assert breaches() == []
        transaction.set_rollback(True)
