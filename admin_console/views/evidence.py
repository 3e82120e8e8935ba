"""Evidence packs: asked for with the filters of the entitlement history, made in the background, fetched here."""

from django.http import FileResponse, Http404, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.timezone import get_current_timezone_name, now
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from admin_console.access import Request, requires
from admin_console.views.changes import see_other
from admin_console.views.errors import failed
from products import checkpoints
from products.evidence import HistoryFilter, InvalidHistoryFilter, path_of, request_pack
from products.models import EvidencePack
from products.tasks import make_pack
from users.models import Action, Capability
from users.record import record

SHOWN = 50


@require_GET
@requires(Capability.EXPORT_EVIDENCE)
def packs(request: Request) -> HttpResponse:
    """Show the packs there are, and what a new one would tell; to htmx the list alone, while one is being made."""
    wanted, problem = HistoryFilter(), ""
    try:
        wanted = HistoryFilter.from_query(request.GET.dict(), zone=get_current_timezone_name())
    except InvalidHistoryFilter as error:
        problem = str(error)
    made = EvidencePack.objects.select_related("actor").order_by("-id")[:SHOWN]
    rows = [(pack, _asked(pack)) for pack in made]
    context = {
        "wanted": wanted,
        "problem": problem,
        "packs": rows,
        "is_making": any(pack.state == EvidencePack.State.WAITING for pack in made),
        "key": checkpoints.public_key(),
    }
    return render(request, "evidence/packs.html" + ("#list" if request.htmx.target == "packs" else ""), context)


@require_POST
@requires(Capability.EXPORT_EVIDENCE)
def make(request: Request) -> HttpResponse:
    """Ask for a pack."""
    try:
        wanted = HistoryFilter.from_query(request.POST.dict(), zone=get_current_timezone_name())
    except InvalidHistoryFilter as error:
        return failed(request, 422, _("This request cannot be read"), str(error))
    pack = request_pack(actor=request.user, wanted=wanted, now=now())
    make_pack.delay(pack_id=pack.pk)
    return see_other("evidence")


@require_GET
@requires(Capability.EXPORT_EVIDENCE)
def download(request: Request, pack_id: int) -> FileResponse:
    """Send the file of a pack that is ready, and record who fetched it."""
    pack = get_object_or_404(EvidencePack, pk=pack_id, state=EvidencePack.State.READY)
    try:
        file = path_of(pack).open("rb")
    except FileNotFoundError:
        raise Http404 from None
    record(Action.EVIDENCE_VIEWED, actor=request.user, subject=pack.pk, after={"page": request.path})
    return FileResponse(file, as_attachment=True, filename=f"evidence-{pack.pk}.zip")


def _asked(pack: EvidencePack) -> str:
    return HistoryFilter.from_query(pack.wanted).in_words() if pack.state != EvidencePack.State.EXPIRED else ""
