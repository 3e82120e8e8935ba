"""The catalogue: adding a product, and changing how it is called, who may grant it, and whether it is still given."""

import re
from datetime import datetime

from django.db import connection, transaction
from django.db.models import Max, Q
from django.utils.text import slugify
from django.utils.translation import gettext as _

from products.models import Product
from users.actions import require
from users.models import Action, Capability, User
from users.record import record
from users.typed import tidy

LONGEST_NAME, LONGEST_CODE = 64, 32


class InvalidProduct(ValueError):
    """A product cannot be like this: `field`, and in words what is wrong with it."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field


@transaction.atomic
def add_product(*, actor: User, name: str, code: str = "", onboarding: bool = False, restricted: bool = False) -> Product:
    """Add a product, last in the dialog and for as many users as wanted, and return it; without a code, one is made of its name.

    Raises NotAllowed or InvalidProduct.
    """
    require(actor, Capability.MANAGE_CATALOGUE)
    _one_at_a_time()
    name = _free_name(name)
    code = code.strip() or slugify(name)[:LONGEST_CODE].strip("-_")
    if not re.fullmatch("[a-z0-9]+([-_][a-z0-9]+)*", code) or len(code) > LONGEST_CODE:
        raise InvalidProduct(
            "code", _("A code has 1 to 32 small letters from a to z and digits, with “-” between them if wanted.")
        )
    if _is_taken(code):
        raise InvalidProduct("code", _("There is a product that is called “%(text)s” already.") % {"text": code})
    last = Product.objects.aggregate(last=Max("position"))["last"] or 0
    told = {"code": code, "name": name, "onboarding": onboarding, "restricted": restricted}
    made = Product.objects.create(**told, position=last + 1)
    record(Action.PRODUCT_ADDED, actor=actor, subject=made.pk, after=told)
    return made


@transaction.atomic
def change_product(
    *, actor: User, product: Product, name: str, onboarding: bool, restricted: bool, retired: bool, now: datetime
) -> None:
    """Give a product another name, or other rules; its code stays. Raises NotAllowed or InvalidProduct.

    Retired, it stays with whoever holds it, and nobody is newly given it (rule B12); a change that runs goes on to its end.
    """
    require(actor, Capability.MANAGE_CATALOGUE)
    _one_at_a_time()
    found = Product.objects.get(pk=product.pk)
    name = _free_name(name, but_for=found)
    wanted = {"name": name, "onboarding": onboarding, "restricted": restricted, "retired": retired}
    was = {"name": found.name, "onboarding": found.onboarding, "restricted": found.restricted, "retired": bool(found.retired_at)}
    changed = [field for field in wanted if wanted[field] != was[field]]
    if not changed:
        return
    found.name, found.onboarding, found.restricted = name, onboarding, restricted
    found.retired_at = (found.retired_at or now) if retired else None
    found.save(update_fields=["name", "onboarding", "restricted", "retired_at"])
    before, after = ({field: values[field] for field in changed} for values in (was, wanted))
    record(Action.PRODUCT_CHANGED, actor=actor, subject=found.pk, before=before, after=after)


def _one_at_a_time() -> None:
    """Let nobody else change the catalogue until the end of the transaction: names and codes are compared with all others."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('products_catalogue'))")


def _free_name(text: str, *, but_for: Product | None = None) -> str:
    """Return a product's name as it is stored, without needless spaces, if no other product has it. Raises InvalidProduct."""
    name = tidy(text)
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise InvalidProduct("name", _("A product's name has 1 to 64 characters."))
    if ";" in name:
        raise InvalidProduct("name", _("A product's name cannot hold “;”, which separates products in a list."))
    if _is_taken(name, but_for=but_for):
        raise InvalidProduct("name", _("There is a product that is called “%(text)s” already.") % {"text": name})
    return name


def _is_taken(text: str, *, but_for: Product | None = None) -> bool:
    """Return whether another product has this name or code, whatever its capitals: import files name a product by either."""
    others = Product.objects.exclude(pk=but_for.pk) if but_for else Product.objects.all()
    return others.filter(Q(name__iexact=text) | Q(code__iexact=text)).exists()
