"""Who is behind a number of the preview in Manage products: the names page by page, and all of them as a file."""

from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.utils.timezone import now
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from admin_console.access import Request, requires
from admin_console.affected_page import AffectedPage
from admin_console.forms import AffectedForm
from admin_console.views.errors import failed
from admin_console.views.manage_products import chosen_by
from products.export import foreseen_as_csv
from products.refusals import ChangeRefused
from users.models import Action, Capability
from users.record import record

TEMPLATE = "users/affected_users.html"


@require_GET
@requires(Capability.ASSIGN_PRODUCTS)
def affected_users(request: Request) -> HttpResponse:
    """Show one page of the users behind a number; to htmx, as a dialog above the form, or the next page inside of it."""
    try:
        page = _page(request)
        page.load()
    except ChangeRefused as refused:
        return failed(request, 422, _("This cannot be shown"), str(refused))
    part = {"names-list": "#names"}.get(request.htmx.target or "", "#dialog") if request.htmx else ""
    return render(request, TEMPLATE + part, {"page": page})


@require_GET
@requires(Capability.ASSIGN_PRODUCTS)
def export_affected_users(request: Request) -> HttpResponseBase:
    """Send all users behind a number as CSV, in pieces as the database makes them."""
    try:
        page = _page(request)
    except ChangeRefused as refused:
        return failed(request, 422, _("This cannot be shown"), str(refused))
    record(Action.USER_EXPORTED, actor=request.user, after={"number": page.number.value})
    rows = foreseen_as_csv(page.affected.users, target=page.affected.target_sql)
    response = StreamingHttpResponse(rows, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="users-{page.number.value.replace("_", "-")}.csv"'
    return response


def _page(request: Request) -> AffectedPage:
    form, at = AffectedForm.read(request.GET), now()
    return AffectedPage(request.user, form, chosen_by(request.user, form, at).selection, now=at)
