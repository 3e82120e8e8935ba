"""The catalogue of products, which the operator changes by the statements of docs/operations.md."""

import re

import pytest
from django.conf import settings
from django.db import IntegrityError, connection

from products.models import Product

pytestmark = pytest.mark.django_db


def test_the_catalogue_is_changed_by_the_statements_that_operations_tells():
    told = (settings.BASE_DIR / "docs" / "operations.md").read_text().partition("## The catalogue of products")[2]
    statements = re.findall(r"^(?:INSERT|UPDATE) .+?;", told.partition("\n## ")[0], re.MULTILINE)
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
            assert cursor.rowcount == 1, statement

    notes = Product.objects.select_related("seat").get(code="notes")
    assert len(statements) == 5
    assert notes == Product.objects.order_by("position").last()
    assert (notes.name, notes.onboarding, notes.restricted, notes.seat.seats) == ("Notes", True, True, None)
    assert notes.retired_at


def test_no_product_is_deleted_as_long_as_it_has_seats():
    product = Product.objects.create(code="notes", name="Notes")
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        with pytest.raises(IntegrityError, match="violates foreign key constraint"):
            cursor.execute("DELETE FROM products_product WHERE id = %s", [product.pk])
