"""The user groups: the list, adding one, and one group with its editing and deletion."""

from dataclasses import dataclass

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods

from admin_console.access import Request, requires
from admin_console.finding import has_words
from admin_console.group_forms import GroupForm
from admin_console.views.changes import see_other
from users import actions
from users.actions import InvalidGroup
from users.models import Capability, User, UserGroup
from users.plans import LONGEST, SWEEP, TookTooLong, planned
from users.queries import managers_of, managing_only, members_of, visible_groups

PAGE_SIZE = 100
AT_ONCE = "200ms"  # for which the list waits for the numbers of members; then they follow


@dataclass(frozen=True)
class Row:
    """A user group with how many are in it, subgroups included (None: not counted), and who manages it."""

    id: int
    path: str
    members: int | None
    managers: list[User]

    @property
    def above(self) -> str:
        """The path of the group that it is in, with what separates them."""
        return self.path.removesuffix(self.name)

    @property
    def name(self) -> str:
        """The group's own name."""
        return self.path.rpartition(" / ")[2]

    @property
    def more_managers(self) -> int:
        """How many more there are than the list names."""
        return max(len(self.managers) - 3, 0)


@require_GET
@requires(Capability.MANAGE_USERS)
def groups(request: Request) -> HttpResponse:
    """List the user groups whose path has the words of the search; to htmx, the list alone or the numbers of members."""
    search = " ".join(request.GET.get("search", "").split())[:200]
    found = [group for group in visible_groups(request.user) if has_words(group[1], search)]
    page = Paginator(found, PAGE_SIZE).get_page(request.GET.get("page"))
    counting = "counted" in request.GET
    rows = _rows(list(page.object_list), longest=LONGEST if counting else AT_ONCE)
    follow = not counting and any(row.members is None for row in rows)
    context = {"search": search, "page": page, "rows": rows, "follow": follow}
    part = {"groups": "#list", "groups-members": "#counted"}.get(request.htmx.target or "", "")
    return render(request, f"users/groups.html{part}", context)


@require_http_methods(["GET", "POST"])
@requires(Capability.MANAGE_USERS)
def add_group(request: Request) -> HttpResponse:
    """Add a user group; refused, the form again with the sentence beside its cause."""
    form = GroupForm(request.POST if request.method == "POST" else None, actor=request.user)
    if request.method == "POST" and form.is_valid():
        try:
            made = actions.add_group(actor=request.user, **form.cleaned_data)
        except InvalidGroup as error:
            form.add_error(error.field, str(error))
        else:
            messages.success(request, _("The user group was added."))
            return see_other("group", made.pk)
    return render(request, "users/group.html", {"form": form}, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@requires(Capability.MANAGE_USERS)
def group(request: Request, group_id: int) -> HttpResponse:
    """Show a user group, and rename and move it."""
    shown = get_object_or_404(UserGroup, pk=group_id)
    form = GroupForm(request.POST if request.method == "POST" else None, actor=request.user, group=shown)
    if request.method == "POST" and form.is_valid():
        try:
            actions.edit_group(actor=request.user, group=shown, **form.cleaned_data)
        except InvalidGroup as error:
            form.add_error(error.field, str(error))
        else:
            messages.success(request, _("The user group was changed."))
            return see_other("group", shown.pk)
    context = {"form": form, "row": _row(request.user, shown), "subgroups": shown.subgroups.order_by("name")}
    return render(request, "users/group.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@requires(Capability.MANAGE_USERS)
def delete_group(request: Request, group_id: int) -> HttpResponse:
    """Say what becomes of whom when a user group is deleted, and delete it."""
    shown = get_object_or_404(UserGroup, pk=group_id)
    refused = ""
    if request.method == "POST":
        try:
            actions.delete_group(actor=request.user, group=shown)
        except InvalidGroup as error:
            refused = str(error)
        else:
            messages.success(request, _("The user group was deleted."))
            return see_other("groups")
    context = {
        "row": _row(request.user, shown),
        "refused": refused,
        "subgroups": shown.subgroups.count(),
        "members": shown.memberships.count(),
        "managing_only": managing_only(shown).order_by("name_key", "id"),
    }
    return render(request, "users/delete_group.html", context, status=422 if refused else 200)


def _rows(found: list[tuple[int, str]], *, longest: str) -> list[Row]:
    """Return the groups (id, path) as they are listed, with the numbers of members if counting takes no longer than that."""
    ids = [group for group, _path in found]
    managers = managers_of(ids)
    try:
        with planned(SWEEP, longest=longest):
            counts = members_of(ids)
    except TookTooLong:
        return [Row(group, path, None, managers.get(group, [])) for group, path in found]
    return [Row(group, path, counts.get(group, 0), managers.get(group, [])) for group, path in found]


def _row(actor: User, shown: UserGroup) -> Row:
    """Return one group without counting who is in its subgroups. Raises Http404 when it was deleted meanwhile."""
    path = dict(visible_groups(actor)).get(shown.pk)
    if path is None:
        raise Http404
    return Row(shown.pk, path, None, managers_of([shown.pk]).get(shown.pk, []))
