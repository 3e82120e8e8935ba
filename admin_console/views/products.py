"""The products: their seats, who holds each, which changes it was part of; setting its seats; adding and changing products."""

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from admin_console.access import Request, requires
from admin_console.activity import what
from admin_console.forms import ProductForm, SeatsForm
from admin_console.templatetags.console import product_codes
from admin_console.views.changes import see_other
from products import catalogue as actions
from products.catalogue import InvalidProduct
from products.models import Product
from products.queries import catalogue, visible_changes
from products.refusals import ChangeRefused, NotAllowed
from products.reports import ChangeFilter, changes_matching, holders
from products.seats import low_on_seats, set_seats
from users.models import Capability
from users.queries import can

SOME = 20  # holders, and changes, that a product's page shows


@dataclass(frozen=True)
class Row:
    """A product, its mark, and its seats."""

    product: Product
    code: str
    is_low: bool  # few of its seats are free

    @property
    def taken(self) -> int:
        """How many seats are used or reserved."""
        return self.product.seat.used + self.product.seat.reserved


@require_GET
@requires(Capability.VIEW_USERS)
def products(request: Request) -> HttpResponse:
    """List the products with their seats."""
    return render(request, "products/products.html", {"rows": _rows(catalogue())})


@require_GET
@requires(Capability.VIEW_USERS)
def product(request: Request, product_id: int) -> HttpResponse:
    """Show one product: its seats, some of its holders, its last changes."""
    return _shown(request, product_id)


@require_POST
@requires(Capability.MANAGE_USERS)
def product_seats(request: Request, product_id: int) -> HttpResponse:
    """Set how many seats there are of a product; refused, the form again with the sentence beside it."""
    made = get_object_or_404(Product, pk=product_id)
    form = SeatsForm(request.POST)
    if not form.is_valid():
        return _shown(request, product_id, form=form, status=422)
    try:
        set_seats(actor=request.user, product_id=product_id, seats=form.cleaned_data["seats"])
    except ChangeRefused as refused:
        form.add_error("seats", str(refused))
        return _shown(request, product_id, form=form, status=403 if isinstance(refused, NotAllowed) else 422)
    messages.success(request, _("The number of seats of %(product)s was set.") % {"product": made.name})
    return see_other("product", product_id)


@require_http_methods(["GET", "POST"])
@requires(Capability.MANAGE_CATALOGUE)
def add_product(request: Request) -> HttpResponse:
    """Add a product; refused, the form again with the sentence beside its cause."""
    form = ProductForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            made = actions.add_product(actor=request.user, **form.cleaned_data)
        except InvalidProduct as error:
            form.fail(error.field, str(error))
        else:
            messages.success(request, _("The product was added."))
            return see_other("product", made.pk)
    return render(request, "products/edit_product.html", {"form": form}, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@requires(Capability.MANAGE_CATALOGUE)
def edit_product(request: Request, product_id: int) -> HttpResponse:
    """Rename a product, say who may grant it and whether an email introduces it, and retire it."""
    shown = get_object_or_404(Product, pk=product_id)
    form = ProductForm(request.POST if request.method == "POST" else None, product=shown)
    if request.method == "POST" and form.is_valid():
        try:
            actions.change_product(actor=request.user, product=shown, now=timezone.now(), **form.cleaned_data)
        except InvalidProduct as error:
            form.fail(error.field, str(error))
        else:
            messages.success(request, _("The product was changed."))
            return see_other("product", shown.pk)
    context = {"form": form, "product": shown}
    return render(request, "products/edit_product.html", context, status=422 if form.errors else 200)


def _rows(found: list[Product]) -> list[Row]:
    codes, low = product_codes(found), low_on_seats()
    return [Row(each, codes[each.pk], each.pk in low) for each in found]


def _shown(request: Request, product_id: int, *, form: SeatsForm | None = None, status: int = 200) -> HttpResponse:
    found = catalogue()
    names = {each.pk: each.name for each in found}
    if product_id not in names:
        raise Http404
    row = next(row for row in _rows(found) if row.product.pk == product_id)
    changes = changes_matching(visible_changes(request.user), ChangeFilter(product=product_id)).select_related("actor")
    context: dict[str, Any] = {
        "row": row,
        "form": form or SeatsForm({"seats": "" if row.product.seat.seats is None else row.product.seat.seats}),
        "holders": holders(row.product, reader=request.user, limit=SOME),
        "changes": [(each, what(each, names)) for each in changes.order_by("-id")[:SOME]],
        "may_set": can(request.user, Capability.MANAGE_USERS),
    }
    return render(request, "products/product.html", context, status=status)
