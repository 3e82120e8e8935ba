"""Where one starts, one's own page, and how one who was invited gets in."""

from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.forms import SetPasswordForm
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.timezone import now
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods

from admin_console.access import Request, SignInAdapter, may_sign_in, public, signed_in
from admin_console.notices import looked_at
from admin_console.person_forms import PreferencesForm
from admin_console.views.changes import see_other
from products.asof import granted_by
from products.queries import catalogue
from users import invitations
from users.actions import prefer
from users.models import Capability, User
from users.queries import can


@require_GET
@signed_in
def home(request: Request) -> HttpResponse:
    """Lead those whose role opens the console to Manage users, and everyone else to their own page."""
    return redirect("manage_users" if can(request.user, Capability.VIEW_USERS) else "me")


@require_GET
@signed_in
def notices(request: Request) -> HttpResponse:
    """Show what one was told lately, for the list in the header."""
    return render(request, "components/notices.html#opened", {"notices": looked_at(request)})


@require_http_methods(["GET", "POST"])
@signed_in
def me(request: Request) -> HttpResponse:
    """Show what one holds and since when; take the language and the time zone that one prefers."""
    form = PreferencesForm(request.POST if request.method == "POST" else None, initial=_preferences(request.user))
    if request.method == "POST" and form.is_valid():
        prefer(user=request.user, **form.cleaned_data)
        messages.success(request, _("Your language and time zone are saved."))
        return see_other("me")
    since = granted_by(request.user)
    held = [(each, since.get(each.pk)) for each in catalogue() if each.pk in request.user.product_access.products]
    return render(request, "users/me.html", {"held": held, "form": form}, status=422 if form.errors else 200)


@never_cache
@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
@public
def accept_invitation(request: HttpRequest, token: str) -> HttpResponse:
    """Let whom the link invites choose a password, and lead them to their own page. The link works once."""
    try:
        user = invitations.invited_by(token, now=now())
    except invitations.InvitationOver:
        return render(request, "account/invitation.html", {"is_over": True}, status=410)
    posted = request.POST if request.method == "POST" else None
    password, preferences = SetPasswordForm(user, posted), PreferencesForm(posted, initial=_preferences(user))
    if posted is not None and password.is_valid() and preferences.is_valid():
        try:
            user = invitations.accept(token=token, password=password.cleaned_data["new_password1"], now=now())
        except invitations.InvitationOver:
            return render(request, "account/invitation.html", {"is_over": True}, status=410)
        prefer(user=user, **preferences.cleaned_data)
        user.refresh_from_db(fields=["language", "time_zone"])
        return _let_in(request, user)
    context = {"person": user, "password": password, "preferences": preferences}
    return render(request, "account/invitation.html", context, status=422 if posted is not None else 200)


def _let_in(request: HttpRequest, user: User) -> HttpResponse:
    """Sign in who just chose a password, unless they may not: then say why.

    As they were then, so the session ends at once if their email or password was changed since.
    """
    if not may_sign_in(user):
        why = SignInAdapter.error_messages["account_suspended" if user.is_active else "account_inactive"]
        return render(request, "account/invitation.html", {"why": why})
    login(request, user, backend="admin_console.access.SignInBackend")
    return see_other("me")


def _preferences(user: User) -> dict[str, str]:
    return {"language": user.language, "time_zone": user.time_zone}


@require_GET
@public
def admin_sign_in(request: Request) -> HttpResponse:
    """Lead from Django admin's own sign-in page to ours, which is throttled."""
    return redirect_to_login(request.GET.get("next", "/admin/")) if not request.user.is_authenticated else redirect("home")
