"""Taking a bulk change back: what that would do now, then a change of its own that does it."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.conf import settings
from django.core.exceptions import BadRequest
from django.http import HttpResponse
from django.shortcuts import render
from django.utils.functional import cached_property
from django.utils.timezone import now
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods
from django_htmx.http import trigger_client_event

from admin_console.access import Request, requires
from admin_console.activity import what
from admin_console.change_page import Outcome
from admin_console.forms import UndoForm
from admin_console.views.changes import see_other, visible_change
from admin_console.views.errors import failed
from notifications.queries import Forecast, forecast
from products import actions
from products.models import BulkChange, BulkChangeSkip
from products.previews import SeatNeed
from products.queries import product_names
from products.tasks import ring_for
from products.undoing import UndoPreview, undo_preview
from users.models import Capability

TEMPLATE = "changes/undo.html"


@dataclass
class Undo:
    """What undoing a change would do now, in the words of the page."""

    change: BulkChange
    preview: UndoPreview

    @cached_property
    def names(self) -> Mapping[int, str]:
        return product_names()

    @property
    def what(self) -> str:
        """What the change did that is taken back."""
        return what(self.change, self.names)

    @property
    def gains(self) -> list[tuple[str, int]]:
        return [(name, self.preview.gains[product]) for product, name in self.names.items() if self.preview.gains.get(product)]

    @property
    def losses(self) -> list[tuple[str, int]]:
        return [(name, self.preview.losses[product]) for product, name in self.names.items() if self.preview.losses.get(product)]

    @property
    def left_alone(self) -> list[tuple[str, int]]:
        """Why some are left alone, and how many."""
        reasons = {**self.preview.skipped, BulkChangeSkip.Reason.OUTRANKS.value: self.preview.outranking}
        return [(str(BulkChangeSkip.Reason(reason).label), users) for reason, users in reasons.items() if users]

    @property
    def skipped(self) -> int:
        """How many are left alone."""
        return sum(users for _reason, users in self.left_alone)

    @cached_property
    def forecast(self) -> Forecast | None:
        """How long its emails take, after those that wait; None when it owes none."""
        return forecast(self.preview.change_emails, now=now()) if self.preview.change_emails else None

    @property
    def seats_short(self) -> Sequence[tuple[str, SeatNeed]]:
        """The products of which there are too few seats to give back."""
        return [(self.names[need.product_id], need) for need in self.preview.short]

    @property
    def seats_that_suffice(self) -> Sequence[tuple[str, SeatNeed]]:
        """The limited products of which there are enough."""
        return [(self.names[need.product_id], need) for need in self.preview.seats if not need.missing]


@require_http_methods(["GET", "POST"])
@requires(Capability.ASSIGN_PRODUCTS)
def undo(request: Request, change_id: int) -> HttpResponse:
    """Show what undoing a change would do; posted, do it, and show its progress or result as of any other change."""
    change = visible_change(request.user, change_id)
    if not change.is_over:
        return failed(request, 409, _("Not yet"), _("This change is not over yet. Cancel it or wait for its end, then undo it."))
    if request.method == "GET":
        fresh = UndoForm({**request.GET.dict(), "key": str(uuid.uuid4()), "expected": 0})
        return _shown(request, change, fresh, part="preview" if request.htmx.target == "undo-preview" else "dialog")
    form = UndoForm(request.POST)
    if not form.is_valid() and {"key", "expected"} & form.errors.keys():
        raise BadRequest(f"broken fields: {sorted(form.errors)}")
    made, status = _requested(request, change, form)
    if made is None:
        return _shown(request, change, form, part="form", status=status)
    if not request.htmx:
        return see_other("change", made.pk)
    outcome = Outcome(made, reader=request.user, now=now())
    return trigger_client_event(render(request, f"{TEMPLATE}#applied", {"outcome": outcome}), "users-changed")


def _requested(request: Request, change: BulkChange, form: UndoForm) -> tuple[BulkChange | None, int]:
    """Return the undo that the form asks for and 200; refused, none and the status, and the form tells why."""
    if not form.is_valid():
        return None, 422
    asked = form.cleaned_data
    try:
        made = actions.request_undo(
            actor=request.user,
            change=change,
            notify=asked["notify"],
            key=asked["key"],
            reason=asked["reason"],
            now=now(),
            expected=asked["expected"],
            confirmed=asked["confirmed"],
        )
    except actions.ChangeRefused as refused:
        form.add_error("confirmed" if isinstance(refused, actions.ConfirmationNeeded) else None, str(refused))
        return None, {actions.KeyReused: 409, actions.NotNow: 409, actions.NotAllowed: 403}.get(type(refused), 422)
    ring_for(made)
    return made, 200


def _shown(request: Request, change: BulkChange, form: UndoForm, *, part: str, status: int = 200) -> HttpResponse:
    """Return the page, or for htmx one part of it. After a refusal of the key the form gets a new one: it is another change."""
    notify = bool(form["notify"].value())
    undo = Undo(change, undo_preview(change, actor=request.user, notify=notify))
    context = {
        "undo": undo,
        "change": change,
        "preview": undo.preview,
        "form": form,
        "key": uuid.uuid4() if status == 409 else form["key"].value(),
        "notify": notify,
        "asks_number": undo.preview.selected > settings.BULK_CONFIRM_ABOVE,
    }
    return render(request, f"{TEMPLATE}#{part}" if request.htmx else TEMPLATE, context, status=status)
