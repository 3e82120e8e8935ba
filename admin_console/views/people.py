"""Adding a user, correcting their name and email, inviting them once more, and giving them another role, or other groups."""

from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.timezone import now
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from admin_console.access import Request, may_sign_in, requires
from admin_console.group_forms import UserGroupsForm
from admin_console.person_forms import AddUserForm, EditUserForm, RoleForm
from admin_console.views.changes import see_other
from notifications.people import change_role, edit, invite
from notifications.tasks import ring
from products.people import add_person
from products.refusals import ChangeRefused
from users.actions import NOT_YOURS_TO_RENAME, GroupGone, InvalidUser, LastSuperAdmin, NotAllowed, put_in_groups
from users.models import Capability
from users.queries import grantable_roles, may_rename, visible_to


@require_http_methods(["GET", "POST"])
@requires(Capability.MANAGE_USERS)
def add_user(request: Request) -> HttpResponse:
    """Add a user; refused, the form again with the sentence beside its cause and all that was filled in."""
    form = AddUserForm(request.POST if request.method == "POST" else None, actor=request.user)
    if request.method == "POST" and form.is_valid():
        who = {name: form.cleaned_data[name] for name in form.fields if name != "products"}
        try:
            user = add_person(actor=request.user, products=form.product_ids, now=now(), **who)
        except (InvalidUser, GroupGone) as error:
            form.fail(error.field, str(error))
        except (NotAllowed, ChangeRefused) as error:
            form.fail("products" if isinstance(error, ChangeRefused) else "role", str(error))
        else:
            ring()
            said = _("%(name)s was added and invited.") if who["invited"] else _("%(name)s was added.")
            messages.success(request, said % {"name": user.name})
            return see_other("user", user.pk)
    return render(request, "users/add_user.html", {"form": form}, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@requires(Capability.MANAGE_USERS)
def edit_user(request: Request, user_id: int) -> HttpResponse:
    """Correct a user's name and email; whoever corrects their own stays signed in."""
    user = get_object_or_404(visible_to(request.user), pk=user_id)
    if user.is_erased:
        raise Http404
    if not may_rename(request.user, user):
        raise PermissionDenied(NOT_YOURS_TO_RENAME)
    form = EditUserForm(request.POST if request.method == "POST" else None, actor=request.user, user=user)
    if request.method == "POST" and form.is_valid():
        try:
            email = edit(actor=request.user, user=user, **form.cleaned_data)
        except (InvalidUser, NotAllowed, LastSuperAdmin) as error:
            form.fail(getattr(error, "field", "email"), str(error))
        else:
            ring()
            if email and user == request.user:
                # As who they signed in but for this, so the session ends at once if somebody else changed more meanwhile.
                request.user.email = email
                update_session_auth_hash(request, request.user)
            messages.success(request, _("Name and email are saved."))
            return see_other("user", user.pk)
    return render(request, "users/edit_user.html", {"form": form, "person": user}, status=422 if form.errors else 200)


@require_POST
@requires(Capability.MANAGE_USERS)
def invite_user(request: Request, user_id: int) -> HttpResponse:
    """Send the invitation once more, with a new link, unless one waits to be sent."""
    user = get_object_or_404(visible_to(request.user).select_related("product_access"), pk=user_id)
    try:
        if not may_sign_in(user):
            raise NotAllowed(_("%(name)s holds no product and could not sign in: assign one first.") % {"name": user.name})
        is_new = invite(actor=request.user, user=user, now=now())
    except NotAllowed as error:
        messages.error(request, str(error))
    else:
        ring()
        messages.success(request, _("The invitation is on its way.") if is_new else _("An invitation waits to be sent already."))
    return see_other("user", user.pk)


@require_http_methods(["GET", "POST"])
@requires(Capability.CHANGE_ROLES)
def user_role(request: Request, user_id: int) -> HttpResponse:
    """Give a user another role, and a Manager the groups they manage; tell them of the role unless that is switched off."""
    user = get_object_or_404(visible_to(request.user), pk=user_id)
    if user.role not in grantable_roles(request.user):
        raise PermissionDenied(_("You may not give or take this role."))
    form = RoleForm(request.POST if request.method == "POST" else None, actor=request.user, user=user)
    if request.method == "POST" and form.is_valid():
        asked = {name: form.cleaned_data[name] for name in ("role", "manages")}
        try:
            changed = change_role(actor=request.user, user=user, notify=not form.cleaned_data["quiet"], now=now(), **asked)
        except (NotAllowed, LastSuperAdmin) as error:
            form.fail("role", str(error))
        except (InvalidUser, GroupGone) as error:
            form.fail("manages", str(error))
        else:
            ring()
            messages.success(request, _("The role was changed.") if changed else _("The user has this role already."))
            return see_other("user", user.pk)
    return render(request, "users/role.html", {"form": form, "person": user}, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@requires(Capability.MANAGE_USERS)
def user_groups(request: Request, user_id: int) -> HttpResponse:
    """Put a user in the groups that are ticked, and out of the others."""
    user = get_object_or_404(visible_to(request.user), pk=user_id)
    form = UserGroupsForm(request.POST if request.method == "POST" else None, actor=request.user, user=user)
    if request.method == "POST" and form.is_valid():
        try:
            put_in_groups(actor=request.user, user=user, groups=form.cleaned_data["groups"])
        except (NotAllowed, GroupGone) as error:
            form.add_error("groups", str(error))
        else:
            messages.success(request, _("The user groups were changed."))
            return see_other("user", user.pk)
    return render(request, "users/user_groups.html", {"form": form, "person": user}, status=422 if form.errors else 200)
