"""manage.py demo: an invented organisation that looks like a real one and owes nobody an email."""

from collections import Counter
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from admin_console.demo_people import GROUPS, NAMES, PRODUCTS
from notifications.models import Notification
from products.models import AccessChange, BulkChange, ProductAccess, Seat
from tests.factories import NOW, make_user
from users import actions
from users.actions import EMAIL_FORM
from users.models import LastSeen, Role, User, UserGroup
from users.queries import with_status


@pytest.fixture
def boss(db: None) -> User:
    """Return the first Super admin, who is there before the demo."""
    actions.ensure_first_super_admin(email="admin@example.com", password="correct horse", now=NOW)
    return User.objects.get()


def demo(users: int) -> None:
    call_command("demo", users=users, verbosity=0, skip_checks=True)


def test_the_demo_has_everything_in_it(boss: User) -> None:
    demo(2_000)

    people = User.objects.exclude(pk=boss.pk)
    roles = Counter(people.values_list("role", flat=True))
    statuses = Counter(user.status for user in with_status(people, now=timezone.now()))  # type: ignore[attr-defined]
    assert people.count() == 2_000
    assert set(people.values_list("language", flat=True)) == set(NAMES)
    assert (roles[Role.SUPER_ADMIN], roles[Role.SUPPORT], roles[Role.MANAGER]) == (3, 3, 40)
    assert 2 <= roles[Role.ADMIN] <= 12
    assert set(statuses) == {"ACTIVE", "INACTIVE", "INVITED", "SUSPENDED"}
    assert 0.06 < statuses["SUSPENDED"] / 2_000 < 0.13
    assert people.filter(role__in=[Role.ADMIN, Role.SUPPORT], product_access__suspended=True).exists()
    assert not people.filter(role=Role.MANAGER, managed_groups=None).exists()
    assert people.filter(groups=None).exists()
    assert max(Counter(people.values_list("id", "groups")).values()) == 1
    assert not any(EMAIL_FORM.fullmatch(email) is None for email in people.values_list("email", flat=True))
    assert all(email.endswith(".example") for email in people.values_list("email", flat=True))
    assert not any(user.has_usable_password() for user in people[:50])
    held = ProductAccess.objects.exclude(user=boss).values_list("products", flat=True)
    assert 2.5 < sum(map(len, held)) / 2_000 < 3.5
    assert {product for products in held for product in products} == set(Seat.objects.values_list("product", flat=True))
    assert not LastSeen.objects.filter(at__gt=timezone.now()).exists()
    assert not LastSeen.objects.filter(first_at__gt=timezone.now()).exists()


def test_the_demo_has_groups_in_a_tree(boss: User) -> None:
    demo(50)
    assert UserGroup.objects.count() == len(GROUPS.split("\n")) - 2
    assert UserGroup.objects.filter(parent__parent__parent__isnull=False).exists()


def test_some_seats_are_nearly_gone_and_some_all_gone(boss: User) -> None:
    demo(2_000)
    free = {seat.product.code: seat.seats - seat.used for seat in Seat.objects.exclude(seats=None).select_related("product")}  # type: ignore[operator]
    assert free["training"] == 0
    assert 0 < free["webinar"] < 20
    assert free["connect"] > 100
    assert set(PRODUCTS) - set(free)


def test_the_demo_has_a_past_and_owes_nobody_an_email(boss: User) -> None:
    demo(2_000)
    changes = BulkChange.objects.all()
    assert len(changes) == 5
    assert all(change.state == BulkChange.State.FINISHED and change.changed and change.reason for change in changes)
    assert len({change.actor for change in changes}) > 2
    assert AccessChange.objects.exclude(change=None).count() == sum(change.changed for change in changes)
    assert not Notification.objects.exists()


@pytest.mark.parametrize("users", [0, 1, 2, 11, 12, 50])
def test_the_demo_may_be_small(boss: User, users: int) -> None:
    demo(users)
    assert User.objects.count() == 1 + users
    assert not Notification.objects.exists()


def test_without_people_nothing_is_made(boss: User) -> None:
    demo(0)
    assert not UserGroup.objects.exists()


def test_the_demo_is_the_same_each_time(boss: User) -> None:
    def seen() -> list[Any]:
        demo(60)
        rows = list(User.objects.order_by("id").values_list("email", "role", "time_zone", "product_access__products"))
        User.objects.exclude(pk=boss.pk).delete()
        BulkChange.objects.all().delete()
        UserGroup.objects.all().delete()
        Seat.objects.update(seats=None)
        return rows

    assert seen() == seen()


def test_the_demo_needs_an_empty_console(boss: User) -> None:
    make_user("Ada")
    with pytest.raises(CommandError, match="empty console"):
        demo(10)
    assert User.objects.count() == 2


def test_the_demo_works_before_there_is_a_super_admin(db: None) -> None:
    demo(5)
    assert User.objects.count() == 5
