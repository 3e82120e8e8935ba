"""The page Test inbox: what the built-in mail sink received. There is none while a real mail server is configured."""

from functools import wraps
from typing import Any

from django.conf import settings
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.utils.csp import CSP
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.csp import csp_override
from django.views.decorators.http import require_GET

from admin_console.access import Request, View, requires
from notifications.queries import sink_messages
from users.models import Capability

ON_A_PAGE = 50
# An email is somebody else's document: nothing of it runs, loads or is sent; a link opens in a tab of its own.
EMAIL_CSP: dict[str, list[str]] = {
    "default-src": [CSP.NONE],
    "style-src": [CSP.UNSAFE_INLINE],
    "img-src": ["data:"],
    "base-uri": [CSP.NONE],
    "form-action": [CSP.NONE],
    "frame-ancestors": [CSP.SELF],
    "sandbox": ["allow-popups", "allow-popups-to-escape-sandbox"],
}
FRAMED_CSP: dict[str, Any] = {**settings.SECURE_CSP, "frame-src": [CSP.SELF]}


def with_sink(view: View) -> View:
    """Return the view; without the built-in mail sink it does not exist."""

    @wraps(view)
    def found(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        if not settings.MAIL_SINK:
            raise Http404
        return view(request, *args, **kwargs)

    return found


@require_GET
@requires(Capability.VIEW_NOTIFICATIONS)
@with_sink
def test_inbox(request: Request) -> HttpResponse:
    """List the messages, newest first: all, or those to an address that contains the search."""
    search = request.GET.get("search", "").replace("\x00", "").strip()[:200]
    page = Paginator(sink_messages(request.user, search), ON_A_PAGE).get_page(request.GET.get("page"))
    return render(request, "notifications/test_inbox.html", {"page": page, "search": search})


@require_GET
@requires(Capability.VIEW_NOTIFICATIONS)
@with_sink
@csp_override(FRAMED_CSP)
def test_inbox_message(request: Request, message_id: int) -> HttpResponse:
    """Show one message: its HTML in a frame, or its text."""
    message = get_object_or_404(sink_messages(request.user), pk=message_id)
    as_text = request.GET.get("part") == "text" or not message.html
    return render(request, "notifications/test_inbox_message.html", {"message": message, "as_text": as_text})


@require_GET
@requires(Capability.VIEW_NOTIFICATIONS)
@with_sink
@csp_override(EMAIL_CSP)
@xframe_options_sameorigin
def test_inbox_html(request: Request, message_id: int) -> HttpResponse:
    """Return the HTML of one message, for the frame."""
    html = get_object_or_404(sink_messages(request.user), pk=message_id).html
    return HttpResponse(html.replace("<head>", '<head><base target="_blank">', 1))
