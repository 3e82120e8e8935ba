"""Erasing the personal data of a user: asked about on a page of its own, confirmed by typing their email."""

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.timezone import now
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from admin_console.access import Request, requires
from admin_console.views.changes import see_other
from notifications.phrases import joined
from products.erasure import ErasedAlready, erase_user, named_elsewhere
from products.naming import names_of
from users.actions import LastSuperAdmin
from users.models import Capability, User
from users.queries import visible_to


@require_http_methods(["GET", "POST"])
@requires(Capability.ERASE_USERS)
def erase(request: Request, user_id: int) -> HttpResponse:
    """Say what erasing means and ask for the email; typed right, erase."""
    person: User = get_object_or_404(visible_to(request.user), pk=user_id)
    if person.is_erased:
        raise Http404
    if request.method == "GET":
        return _asked(request, person)
    typed = request.POST.get("email", "").strip()
    if typed.lower() != person.email:
        return _asked(request, person, typed=typed, mistake=_("This is not the email of this user."), status=422)
    try:
        erase_user(actor=request.user, user=person, now=now())
    except LastSuperAdmin as refused:
        return _asked(request, person, typed=typed, mistake=str(refused), status=422)
    except ErasedAlready:  # by somebody else, a moment ago
        pass
    messages.success(request, _("The personal data of this user was erased."))
    return see_other("user", person.pk)


def _asked(request: Request, person: User, *, status: int = 200, **more: Any) -> HttpResponse:
    """Answer with the page; it tells what else is found by their names, for any admin may have edited these."""
    names = names_of(person)
    found = {"earlier": joined(names.earlier), "elsewhere": named_elsewhere(person, names)}
    return render(request, "users/erase.html", {"person": person, **found, **more}, status=status)
