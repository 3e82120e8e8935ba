"""Taking a bulk change back: what that would do, then a change of its own that does it."""

from django.http import HttpResponse

from admin_console.access import Request, requires
from users.models import Capability


@requires(Capability.ASSIGN_PRODUCTS)
def undo(request: Request, change_id: int) -> HttpResponse:
    """Not yet."""
    return HttpResponse(status=204)
