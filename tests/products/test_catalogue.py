"""The catalogue of products: who adds and changes products, what the rules are, and that it is recorded."""

import pytest
from django.db import ProgrammingError, connection
from django.utils.timezone import now

from products import queries
from products.catalogue import InvalidProduct, add_product, change_product
from products.models import Seat
from tests.factories import change, make_user, make_users, product
from users.actions import NotAllowed
from users.models import Action, AdminAction, Role

pytestmark = pytest.mark.django_db


@pytest.fixture
def sue():
    return make_user(role=Role.SUPER_ADMIN)


def changed(sue, code, **wanted):
    found = product(code)
    as_it_is = {
        "name": found.name,
        "onboarding": found.onboarding,
        "restricted": found.restricted,
        "retired": bool(found.retired_at),
    }
    change_product(actor=sue, product=found, now=now(), **as_it_is | wanted)
    return product(code)


def test_a_product_that_is_added_is_last_and_for_as_many_users_as_wanted(sue):
    notes = add_product(actor=sue, name="  GoTo   Notes ", onboarding=True)

    assert queries.catalogue()[-1] == notes
    assert (notes.name, notes.code, notes.onboarding, notes.restricted) == ("GoTo Notes", "goto-notes", True, False)
    assert Seat.objects.get(product=notes).seats is None
    [row] = AdminAction.objects.filter(action=Action.PRODUCT_ADDED)
    assert (row.actor, row.subject_id) == (sue, notes.pk)
    assert row.after == {"code": "goto-notes", "name": "GoTo Notes", "onboarding": True, "restricted": False}


def test_a_product_that_is_added_is_given_like_any_other(sue):
    notes = add_product(actor=sue, name="Notes", onboarding=True)
    users = make_users(3)

    change(sue, users, "notes")

    assert {user.product_access.products[0] for user in users} == {notes.pk}
    assert Seat.objects.get(product=notes).used == 3


@pytest.mark.parametrize(
    ("wrong", "field", "words"),
    [
        ({"name": " "}, "name", "1 to 64"),
        ({"name": "x" * 65}, "name", "1 to 64"),
        ({"name": "No\x00tes"}, "name", "1 to 64"),
        ({"name": "Notes; more"}, "name", "separates products"),
        ({"name": "rescUE"}, "name", "called “rescUE” already"),
        ({"name": "Joinme"}, "name", "called “Joinme” already"),
        ({"name": "Notes", "code": "rescue"}, "code", "called “rescue” already"),
        ({"name": "Notes", "code": "Notes"}, "code", "small letters"),
        ({"name": "Notes", "code": "a b"}, "code", "small letters"),
        ({"name": "Notes", "code": "n" * 33}, "code", "1 to 32"),
        ({"name": "ノート"}, "code", "small letters"),
    ],
)
def test_a_product_cannot_be_called_anything(sue, wrong, field, words):
    with pytest.raises(InvalidProduct, match=words) as refused:
        add_product(actor=sue, **wrong)
    assert refused.value.field == field


def test_what_looks_like_a_products_name_is_that_name(sue):
    assert add_product(actor=sue, name="Ha\u0308user").name == "Häuser"
    with pytest.raises(InvalidProduct, match="Häuser"):
        add_product(actor=sue, name="Ha\u0308user", code="other")


def test_a_long_name_makes_a_code_that_fits(sue):
    assert add_product(actor=sue, name="A product whose name is as long – x y").code == "a-product-whose-name-is-as-long"


def test_what_is_changed_of_a_product_is_recorded_and_nothing_else(sue):
    assert changed(sue, "rescue", name="Rescue", restricted=False).name == "Rescue"
    assert not AdminAction.objects.exists()

    rescue = changed(sue, "rescue", name="RESCUE ", onboarding=True, retired=True)

    [row] = AdminAction.objects.all()
    assert (row.action, row.actor, row.subject_id) == (Action.PRODUCT_CHANGED, sue, rescue.pk)
    assert row.before == {"name": "Rescue", "onboarding": False, "retired": False}
    assert row.after == {"name": "RESCUE", "onboarding": True, "retired": True}


def test_a_product_is_retired_once_and_offered_again(sue):
    since = changed(sue, "rescue", retired=True).retired_at
    assert since
    assert changed(sue, "rescue", restricted=True, retired=True).retired_at == since
    assert changed(sue, "rescue", retired=False).retired_at is None


def test_a_product_keeps_clear_of_the_names_and_codes_of_others(sue):
    for taken in ("Central", "CENTRAL", "joinme"):
        with pytest.raises(InvalidProduct, match=taken):
            changed(sue, "rescue", name=taken)
    assert changed(sue, "joinme", name="JoinMe").name == "JoinMe"  # its own code


@pytest.mark.parametrize("role", [role for role in Role if role != Role.SUPER_ADMIN])
def test_only_a_super_admin_changes_the_catalogue(role):
    somebody = make_user(role=role)
    with pytest.raises(NotAllowed):
        add_product(actor=somebody, name="Notes")
    with pytest.raises(NotAllowed):
        changed(somebody, "rescue", retired=True)


@pytest.mark.parametrize(
    "rewriting", ["UPDATE products_product SET code = 'x'", "UPDATE products_product SET id = 1", "DELETE FROM products_product"]
)
def test_the_console_can_neither_give_a_product_another_code_nor_delete_it(rewriting):
    with connection.cursor() as cursor, pytest.raises(ProgrammingError, match="permission denied"):
        cursor.execute(f"{rewriting} WHERE code = 'rescue'")
