"""The pages Notifications: every email and its fate, one of them as it was sent, and the addresses that nobody writes to.

And the page Test inbox: what the built-in mail sink received. There is none while a real mail server is configured.
"""

from base64 import b64encode
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.humanize.templatetags.humanize import intcomma
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.csp import CSP
from django.utils.timezone import now
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.csp import csp_override
from django.views.decorators.http import require_GET, require_POST
from django_htmx.http import push_url

from admin_console.access import Request, View, page_before, requires
from admin_console.notifications_page import Letter, Letters
from admin_console.views.changes import see_other
from notifications import actions
from notifications.copies import NoCopyError, copy_of
from notifications.mime import LOGO_ID
from notifications.models import Notification
from notifications.queries import delivery, retryable, sink_messages, suppressed
from notifications.tasks import ring
from users.models import Capability
from users.typed import searched

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


@require_GET
@requires(Capability.VIEW_NOTIFICATIONS)
def notifications(request: Request) -> HttpResponse:
    """List the emails that the URL's query asks for, newest first; to htmx the list, how many there are, or how they go."""
    letters = Letters(request.GET, reader=request.user, now=now())
    match request.htmx.target:
        case "letters-counted":
            return render(request, "notifications/notifications.html#counted", {"letters": letters})
        case "delivery":
            return render(request, "notifications/notifications.html#delivery", {"delivery": delivery(now())})
        case "results":
            response = render(request, "notifications/notifications.html#results", {"letters": letters})
            return push_url(response, reverse("notifications") + letters.here)
    context = {"letters": letters, "delivery": delivery(now()), "counting": "counted" in request.GET}
    return render(request, "notifications/notifications.html", context)


@require_POST
@requires(Capability.MANAGE_USERS)
def retry_notifications(request: Request) -> HttpResponse:
    """Try again what failed among the emails that the posted filters find."""
    letters = Letters(request.POST, reader=request.user, now=now())
    if letters.problems:  # else more would be tried than were asked for
        messages.error(request, " ".join(letters.problems))
    else:
        _say_retried(request, letters.retry())
    return see_other(reverse("notifications") + letters.query())


@require_GET
@requires(Capability.VIEW_NOTIFICATIONS)
@csp_override(FRAMED_CSP)
def notification(request: Request, notification_id: int) -> HttpResponse:
    """Show one email: its fate, and what it said."""
    letters = Notification.objects.annotate(can_be_retried=retryable(now()))
    letter = Letter(get_object_or_404(letters, pk=notification_id), reader=request.user)
    as_text = request.GET.get("part") == "text"
    return render(request, "notifications/notification.html", {"letter": letter, "as_text": as_text})


@require_GET
@requires(Capability.VIEW_NOTIFICATIONS)
@csp_override(EMAIL_CSP)
@xframe_options_sameorigin
def notification_html(request: Request, notification_id: int) -> HttpResponse:
    """Return the HTML of one email, for the frame."""
    try:
        copy = copy_of(get_object_or_404(Notification, pk=notification_id))
    except NoCopyError as error:
        raise Http404 from error
    html = copy.message.html.replace("<head>", '<head><base target="_blank">', 1)
    return HttpResponse(html.replace(f"cid:{LOGO_ID}", data_url(copy.logo)))


@require_POST
@requires(Capability.MANAGE_USERS)
def retry_notification(request: Request, notification_id: int) -> HttpResponse:
    """Try one email again that failed for good."""
    letter = get_object_or_404(Notification, pk=notification_id)
    _say_retried(request, actions.retry(actor=request.user, ids=[letter.pk], now=now()))
    return see_other("notification", letter.pk)


@require_GET
@requires(Capability.VIEW_NOTIFICATIONS)
def suppressed_addresses(request: Request) -> HttpResponse:
    """List the addresses that nobody writes to and why, the latest first: all, or those that contain the search."""
    search = searched(request.GET.get("search", ""))
    page = Paginator(suppressed(search), ON_A_PAGE).get_page(request.GET.get("page"))
    return render(request, "notifications/suppressed.html", {"page": page, "search": search})


@require_POST
@requires(Capability.MANAGE_USERS)
def release_address(request: Request) -> HttpResponse:
    """Write to an address again."""
    address = request.POST.get("address", "").replace("\x00", "")[:320]
    if actions.release(actor=request.user, address=address):
        said = _("%(address)s is written to again. What failed meanwhile can be tried again.")
        messages.success(request, said % {"address": address})
    else:
        messages.info(request, _("This address was not suppressed any more."))
    return see_other(page_before(request))


def data_url(logo: bytes | None) -> str:
    """Return a logo as it is written into a page that may load nothing."""
    return f"data:image/png;base64,{b64encode(logo).decode()}" if logo else ""


def _say_retried(request: Request, retried: int) -> None:
    """Tell how many emails are tried again, and see to it that they are."""
    if not retried:
        messages.info(request, _("There was nothing to try again."))
        return
    ring()
    said = ngettext("%(shown)s email is tried again.", "%(shown)s emails are tried again.", retried)
    messages.success(request, said % {"shown": intcomma(retried)})


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
    search = searched(request.GET.get("search", ""))
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
