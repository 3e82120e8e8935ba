"""The buttons of a bulk change: pause, resume, cancel, retry what failed; each works as a plain form too."""

from collections.abc import Callable

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import render
from django.utils.timezone import now
from django.views.decorators.http import require_http_methods, require_POST
from django_htmx.http import reswap, retarget, trigger_client_event

from admin_console.access import Request, requires
from admin_console.change_page import Outcome
from admin_console.strip import leave
from admin_console.views.changes import see_other, visible_change
from products import actions
from products.models import BulkChange
from products.queries import may_steer
from products.tasks import ring_for
from users.models import Capability


@require_POST
@requires(Capability.ASSIGN_PRODUCTS)
def pause(request: Request, change_id: int) -> HttpResponse:
    """Let a running change rest after the batch it is at."""
    return _steered(request, change_id, lambda: actions.pause_change(actor=request.user, change_id=change_id))


@require_POST
@requires(Capability.ASSIGN_PRODUCTS)
def resume(request: Request, change_id: int) -> HttpResponse:
    """Let a paused change go on where it stopped."""
    return _steered(request, change_id, lambda: actions.resume_change(actor=request.user, change_id=change_id))


@require_POST
@requires(Capability.ASSIGN_PRODUCTS)
def retry(request: Request, change_id: int) -> HttpResponse:
    """Try the users again who could not be changed."""
    return _steered(request, change_id, lambda: actions.retry_failed(actor=request.user, change_id=change_id))


@require_http_methods(["GET", "POST"])
@requires(Capability.ASSIGN_PRODUCTS)
def cancel(request: Request, change_id: int) -> HttpResponse:
    """Ask whether to end a change in the middle, saying what that means; then do it."""
    if request.method == "POST":
        return _steered(request, change_id, lambda: actions.cancel_change(actor=request.user, change_id=change_id, now=now()))
    change = visible_change(request.user, change_id)
    if not may_steer(request.user, change):
        raise PermissionDenied
    if change.is_over:
        return _shown(request, change_id, status=409) if request.htmx else see_other("change", change_id)
    return render(request, "changes/cancel.html" + ("#dialog" if request.htmx else ""), {"change": change})


def _steered(request: Request, change_id: int, verb: Callable[[], BulkChange]) -> HttpResponse:
    """Do it and show where the change is now; refused, the same with the sentence why."""
    visible_change(request.user, change_id)
    try:
        change = verb()
    except actions.ChangeRefused as refused:
        return _shown(request, change_id, status=403 if isinstance(refused, actions.NotAllowed) else 409, said=str(refused))
    leave(request, change.pk)
    if change.state != BulkChange.State.PAUSED:
        ring_for(change)
    return _shown(request, change_id)


def _shown(request: Request, change_id: int, *, status: int = 200, said: str = "") -> HttpResponse:
    if not request.htmx:
        if said:
            messages.error(request, said)
        return see_other("change", change_id)
    outcome = Outcome(visible_change(request.user, change_id), reader=request.user, now=now(), said=said)
    response = render(request, "changes/change.html#state", {"outcome": outcome}, status=status)
    return trigger_client_event(retarget(reswap(response, "outerHTML"), f"#change-{change_id}-state"), "users-changed")
