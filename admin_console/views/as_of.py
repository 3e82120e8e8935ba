"""What was held when: what one user held at a moment and why, and who held a product; gained and lost between two moments."""

from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.timezone import now
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from admin_console.access import Request, requires
from admin_console.as_of_page import Moments, ProductAsOf, UserAsOf, file_name
from admin_console.views.errors import failed
from products import asof
from products.models import Product
from users.models import Action, Capability
from users.plans import TookTooLong
from users.queries import visible_to
from users.record import record


@require_GET
@requires(Capability.VIEW_USERS)
def user_as_of(request: Request, user_id: int) -> HttpResponse:
    """Show what one user held at a moment and why, and what changed until another."""
    person = get_object_or_404(visible_to(request.user), pk=user_id)
    page = UserAsOf(request.user, person, Moments(request.GET, now=now()))
    return render(request, "users/as_of.html", {"page": page, "person": person})


@require_GET
@requires(Capability.VIEW_USERS)
def product_as_of(request: Request, product_id: int) -> HttpResponse:
    """Show a page of those who held a product at a moment, or gained or lost it until another; to htmx, how many they are."""
    page = _page(request, product_id)
    counting = "counted" in request.GET or request.htmx.target == "as-of-count"
    try:
        count = asof.count(page.question) if counting else page.count
    except TookTooLong:
        count = None
    context = {"page": page, "count": count, "counting": counting}
    return render(request, "products/as_of.html" + ("#counted" if request.htmx.target == "as-of-count" else ""), context)


@require_GET
@requires(Capability.VIEW_USERS)
def export_product_as_of(request: Request, product_id: int) -> HttpResponseBase:
    """Send all of them as CSV, in pieces."""
    page = _page(request, product_id)
    question = page.question
    try:
        pieces = asof.users_as_csv(question)
    except TookTooLong:
        text = _("Finding this takes too long at the moment. Please try again, or ask for a later moment.")
        return failed(request, 503, _("That took too long"), text)
    asked = {"what": question.what, "since": question.since.isoformat(), "until": question.until and question.until.isoformat()}
    after = {"product": question.product.pk, **asked}
    record(Action.EVIDENCE_EXPORTED, actor=request.user, subject=question.product.pk, after=after)
    response = StreamingHttpResponse(pieces, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{file_name(page)}"'
    return response


def _page(request: Request, product_id: int) -> ProductAsOf:
    product = get_object_or_404(Product, pk=product_id)
    return ProductAsOf(request.user, product, Moments(request.GET, now=asof.clock()), request.GET)
