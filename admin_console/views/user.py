"""One user's page: who they are, what they hold and its editing, and what ever happened to it."""

import uuid
from typing import Any

from django.contrib import messages
from django.core.exceptions import BadRequest, PermissionDenied
from django.http import HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, render
from django.utils.timezone import now
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRedirect

from admin_console.access import Request, requires
from admin_console.forms import ChangeForm
from admin_console.notices import Notice, keep
from admin_console.product_choice import ProductChoice
from admin_console.user_page import UserPage
from admin_console.views.changes import see_other
from admin_console.views.manage_products import requested
from notifications import actions as notifications
from notifications.queries import letters_of
from notifications.tasks import ring
from products.models import BulkChange, Mode
from products.selection import Selection
from users.models import Capability, User
from users.queries import visible_to, with_status

TEMPLATE = "users/user.html"


@require_GET
@requires(Capability.VIEW_USERS)
def user(request: Request, user_id: int) -> HttpResponse:
    """Show one user; to htmx, what they hold, or another page of what happened."""
    person = _person(request.user, user_id)
    page = UserPage(request.user, person, now=now(), page=request.GET.get("page", "1"))
    part = {"products": "#held", "timeline": "#timeline"}.get(request.htmx.target or "", "")
    return render(request, f"{TEMPLATE}{part}", {"page": page, "person": person})


@require_POST
@requires(Capability.MANAGE_USERS)
def retry_email(request: Request, user_id: int, email_id: int) -> HttpResponse:
    """Try an email to this user again that failed for good."""
    person = _person(request.user, user_id)
    email = get_object_or_404(letters_of(person), pk=email_id)
    notifications.retry(actor=request.user, ids=[email.pk], now=now())
    ring()
    if not request.htmx:
        return see_other("user", person.pk)
    page = UserPage(request.user, person, now=now(), page=request.GET.get("page", "1"))
    return render(request, f"{TEMPLATE}#timeline", {"page": page, "person": person})


@require_http_methods(["GET", "POST"])
@requires(Capability.ASSIGN_PRODUCTS)
def user_products(request: Request, user_id: int) -> HttpResponse:
    """Edit the products of one user: a bulk change of one."""
    person, at = _person(request.user, user_id), now()
    if not UserPage(request.user, person, now=at).may_edit:
        raise PermissionDenied(_("The role of this user is higher than yours, so their products are not yours to set."))
    selection = Selection.of([person.pk])
    if request.method == "GET":
        form = ChangeForm.read(_opened(person))
        choice = ProductChoice(request.user, selection, mode=Mode.REPLACE, ticked=None, notify=True, now=at)
        return _editing(request, person, form, choice)
    form = ChangeForm.read(request.POST)
    if form.asked.get("user") != [person.pk] or form.asked_mode != Mode.REPLACE:
        raise BadRequest("the form is for somebody else")
    change, status = requested(request.user, form, selection, at)
    if change is None:
        choice = ProductChoice(request.user, selection, mode=Mode.REPLACE, ticked=form.ticked, notify=form.notify, now=at)
        return _editing(request, person, form, choice, status=status)
    return _saved(request, person, change)


def _person(actor: User, user_id: int) -> Any:
    """Return the user with status, within the actor's scope. Raises Http404."""
    users = with_status(visible_to(actor), now=now()).select_related("product_access")
    return get_object_or_404(users, pk=user_id)


def _opened(person: User) -> QueryDict:
    """Return what the fresh form holds."""
    fresh = QueryDict(mutable=True)
    fresh.update({"mode": Mode.REPLACE, "shown": Mode.REPLACE, "key": str(uuid.uuid4()), "expected": "1", "user": str(person.pk)})
    return fresh


def _editing(request: Request, person: User, form: ChangeForm, choice: ProductChoice, *, status: int = 200) -> HttpResponse:
    key = uuid.uuid4() if status == 409 else form.asked["key"]
    context = {"person": person, "form": form, "choice": choice, "key": key}
    if request.htmx:
        return render(request, f"{TEMPLATE}#edit", context, status=status)
    page = UserPage(request.user, person, now=now())
    return render(request, TEMPLATE, {**context, "page": page, "editing": True}, status=status)


def _saved(request: Request, person: User, change: BulkChange) -> HttpResponse:
    """Say what was saved, and show the user as they are now; or the change, if it waits for a worker or left the user out."""
    if not (change.changed or change.unchanged):
        there = see_other("change", change.pk)
        return HttpResponseClientRedirect(there["Location"]) if request.htmx else there
    said = _("The products were changed.") if change.changed else _("Nothing was changed: these products were held already.")
    if not request.htmx:
        messages.success(request, said)
        return see_other("user", person.pk)
    keep(request, [Notice("success", said)])
    person = _person(request.user, person.pk)
    page = UserPage(request.user, person, now=now())
    return render(request, f"{TEMPLATE}#saved", {"page": page, "person": person, "said": said})
