"""The dialog Manage products: choosing products for the selected users, the preview, and applying the change."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.http import Http404, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, render
from django.utils.timezone import now
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST
from django_htmx.http import reswap, retarget, trigger_client_event

from admin_console.access import Request, requires
from admin_console.affected_page import choice_query
from admin_console.change_page import Outcome
from admin_console.forms import ChangeForm, ChoiceForm
from admin_console.product_choice import ProductChoice
from admin_console.views.changes import see_other
from admin_console.views.errors import failed
from products import actions
from products.models import BulkChange, Mode, SelectionDraft
from products.previewed import remember
from products.selection import Selection
from products.tasks import ring_for
from users.models import Capability, User
from users.queries import visible_to

TEMPLATE = "users/manage_products.html"
# Beside which part of the form a refusal is told.
BESIDE: Mapping[type[actions.ChangeRefused], str] = {
    actions.UnknownProduct: "product",
    actions.RetiredProduct: "product",
    actions.CatalogueChanged: "product",
    actions.NotAllowed: "product",
    actions.SeatsShort: "product",
    actions.ConfirmationNeeded: "confirmed",
}
STATUS: Mapping[type[actions.ChangeRefused], int] = {actions.KeyReused: 409, actions.NotAllowed: 403}


@dataclass(frozen=True)
class Chosen:
    """For whom the dialog was opened: a selection draft, or the users of one page."""

    selection: Selection
    draft: SelectionDraft | None = None

    @property
    def user_ids(self) -> Iterable[int]:
        """The ids that the form carries, none when it names a draft."""
        return () if self.draft else self.selection.ids


@require_GET
@requires(Capability.ASSIGN_PRODUCTS)
def manage_products(request: Request) -> HttpResponse:
    """Open the dialog for a selection draft (or, without JavaScript, for some users), with what they hold now."""
    form = ChangeForm.read(_opened(request.GET))
    if sentence := _too_many(form):
        return failed(request, 422, _("Too many users"), sentence)
    chosen = chosen_by(request.user, form, now())
    choice = _choice(request.user, form, chosen, ticked=form.ticked if "shown" in request.GET else None)
    if not choice.preview.selected:
        return failed(request, 422, _("Nobody is selected"), _("No users are selected. Tick some users first."))
    return _shown(request, form, chosen, choice, part="dialog")


@require_POST
@requires(Capability.ASSIGN_PRODUCTS)
def preview_changes(request: Request) -> HttpResponse:
    """Show what the choice would do. Once the mode is another, the ticks start anew, for they meant something else."""
    form = ChangeForm.read(request.POST)
    if sentence := _too_many(form):
        return failed(request, 422, _("Too many users"), sentence)
    chosen = chosen_by(request.user, form, now())
    if form.asked_mode == form.asked["shown"]:
        return _shown(request, form, chosen, _choice(request.user, form, chosen, ticked=form.ticked), part="previewed")
    response = _shown(request, form, chosen, _choice(request.user, form, chosen, ticked=None), part="chosen")
    return retarget(reswap(response, "outerHTML"), "#choice") if request.htmx else response


@require_POST
@requires(Capability.ASSIGN_PRODUCTS)
def apply_changes(request: Request) -> HttpResponse:
    """Make the change and show its progress or result; refused, show the form again with the sentence beside its cause."""
    form, at = ChangeForm.read(request.POST), now()
    if sentence := _too_many(form):
        return failed(request, 422, _("Too many users"), sentence)
    chosen = chosen_by(request.user, form, at)
    change, status = requested(request.user, form, chosen.selection, at)
    if change is None:
        ticked = form.ticked if form.asked_mode == form.asked["shown"] else None
        choice = _choice(request.user, form, chosen, ticked=ticked)
        return _shown(request, form, chosen, choice, part="form", status=status)
    if chosen.draft and change.requested_at == at:  # not when the same form came again: there may be new ticks
        actions.clear_selection(owner=request.user, now=at)
    if not request.htmx:
        return see_other("change", change.pk)
    outcome = Outcome(change, reader=request.user, now=at)
    return trigger_client_event(render(request, f"{TEMPLATE}#applied", {"outcome": outcome}), "users-changed")


def requested(actor: User, form: ChangeForm, selection: Selection, at: datetime) -> tuple[BulkChange | None, int]:
    """Return the change that the form asks for and 200; refused, no change and the status, and the form tells why."""
    if form.is_valid() and form.asked_mode != form.asked["shown"]:
        form.add_error("mode", _("The mode was changed, so the ticks start anew. Look at them and at the preview, then apply."))
    if not form.is_valid():
        return None, 422
    try:
        change = actions.request_bulk_change(
            actor=actor,
            selection=selection,
            products=form.ticked,
            mode=form.asked_mode,
            notify=form.notify,
            key=form.asked["key"],
            reason=form.asked["reason"],
            now=at,
            expected=form.asked["expected"],
            mark=form.asked["mark"],
            catalogue=form.asked["catalogue"],
            confirmed=form.asked["confirmed"],
            until_full=form.asked_until_full,
        )
    except actions.ChangeRefused as refused:
        form.refused = refused
        form.add_error(BESIDE.get(type(refused)), str(refused))
        return None, STATUS.get(type(refused), 422)
    ring_for(change)
    return change, 200


def _opened(query: QueryDict) -> QueryDict:
    """Return what a fresh form holds: for whom and what is chosen, from the URL's query, and what the console writes into it."""
    fresh = QueryDict(mutable=True)
    fresh.update({"mode": Mode.REPLACE, "shown": Mode.REPLACE, "key": str(uuid.uuid4()), "expected": "0"})
    for name in ("draft", "user", "mode", "shown", "product", "quiet", "until_full", "reason"):
        if name in query:
            fresh.setlist(name, query.getlist(name))
    return fresh


def _too_many(form: ChangeForm) -> str:
    return " ".join(str(sentence) for sentence in form.errors.get("user", []))


def chosen_by(actor: User, form: ChoiceForm, at: datetime) -> Chosen:
    """Return for whom the form is. Raises Http404 for a draft that is not the actor's own."""
    draft_id = form.asked["draft"]
    if draft_id is None:
        return Chosen(Selection.of(form.asked["user"]))
    draft = get_object_or_404(SelectionDraft, pk=draft_id, owner=actor)
    if form.asked["user"]:
        raise Http404
    if draft.touched_at <= at - SelectionDraft.LIFETIME:  # expired: nobody is ticked any more
        draft.everyone, draft.ids = False, []
    return Chosen(Selection.of_draft(draft), draft)


def _choice(actor: User, form: ChangeForm, chosen: Chosen, *, ticked: Iterable[int] | None) -> ProductChoice:
    """Return the boxes and the preview, and keep whom it is for."""
    at, mode, until_full = now(), form.asked_mode, form.asked_until_full
    choice = ProductChoice(actor, chosen.selection, mode=mode, ticked=ticked, notify=form.notify, now=at, until_full=until_full)
    remember(chosen.selection, mark=choice.preview.mark, actor=actor, now=at)
    return choice


def _shown(
    request: Request, form: ChangeForm, chosen: Chosen, choice: ProductChoice, *, part: str, status: int = 200
) -> HttpResponse:
    """Return the page, or for htmx one part of it. After a refusal of the key the form gets a new one: it is another change."""
    context = {
        "form": form,
        "chosen": chosen,
        "choice": choice,
        "key": uuid.uuid4() if status == 409 else form.asked["key"],
        "asks_number": choice.preview.selected > settings.BULK_CONFIRM_ABOVE,
        "names": choice_query(form, product=sorted(choice.ticked), reason="" if request.htmx else form.asked.get("reason")),
        "differing": _differing(request.user, form.refused),
    }
    template = f"{TEMPLATE}#{part}" if request.htmx else TEMPLATE
    return render(request, template, context, status=422 if choice.refusal and status == 200 else status)


def _differing(reader: User, refused: actions.ChangeRefused | None) -> list[tuple[str, list[str], int]]:
    """Return who came into the selection and who left it since the preview: a heading, the names, and how many more there are."""
    if not isinstance(refused, actions.SelectionChanged):
        return []
    names = {user.pk: user.name for user in visible_to(reader).filter(id__any=[*refused.came.ids, *refused.left.ids])}
    differing = []
    for heading, some in ((_("Came since"), refused.came), (_("Left since"), refused.left)):
        named = [names[user] for user in some.ids if user in names]
        differing.append((heading, named, some.count - len(named)))
    return [(heading, named, more) for heading, named, more in differing if named or more]
