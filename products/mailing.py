"""Which emails a product or a bulk change has to do with, for whoever looks for them."""

from django.db.models import Exists, OuterRef, Q

from products.emails import CHANGE, ONBOARDING
from products.models import AccessChange, BulkChange, BulkChangeMove, SeatWarning
from products.news import SEATS


def about_product(product: int) -> Q:
    """Return the condition that an email tells of a product: it was granted or removed, how to start, or its seats run low."""
    holds = Q(before__contains=[product]), Q(after__contains=[product])
    told = AccessChange.objects.filter(
        holds[0] & ~holds[1] | ~holds[0] & holds[1], change=OuterRef("about"), user=OuterRef("user_id")
    )
    # The changes that moved it for anybody are few, and looked up at once.
    moved = BulkChangeMove.objects.filter(product=product).values("change")
    warnings = SeatWarning.objects.filter(product=product).values("pk")
    # PostgreSQL asks in this order, and the dear question of few rows only.
    of_change = Q(kind=CHANGE) & Q(about__in=moved) & Q(Exists(told))
    return Q(kind=ONBOARDING, about=product) | Q(kind=SEATS) & Q(about__in=warnings) | of_change


def onboarding_of(change: BulkChange) -> Q:
    """Return the condition that an email is how to start with a product that a bulk change gave its reader for the first time."""
    owed = Q(pk__in=[])
    for product in BulkChangeMove.objects.filter(change=change, onboarding__gt=0).values_list("product", flat=True):
        given = AccessChange.objects.filter(change=change, user=OuterRef("user_id"), first__contains=[product])
        owed |= Q(kind=ONBOARDING) & Q(about=product) & Q(Exists(given))
    return owed
