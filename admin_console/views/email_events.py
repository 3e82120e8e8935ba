"""What the mail provider tells of emails after it took them: its webhook, understood by django-anymail."""

from typing import Any

from anymail.signals import AnymailTrackingEvent, EventType, RejectReason, tracking
from anymail.utils import get_request_basic_auth
from django.conf import settings
from django.dispatch import receiver
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseBase
from django.urls import resolve
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.views.decorators.csrf import csrf_exempt

from admin_console.access import public
from notifications.actions import believe_provider
from notifications.bounces import StillBeingSent

# Who may tell us something: not Amazon SES, for which anymail wants boto3. Each with where it says, and how, that what anymail
# calls a bounce is of this email only: it may arrive yet, or the next one may. The others tell that as something else.
PROVIDERS: dict[str, dict[str, tuple[str | bool, ...]]] = {
    "brevo": {"event": ("soft_bounce",)},
    "mailersend": {"data.type": ("soft_bounced",)},
    "mailgun": {},
    "mailjet": {"hard_bounce": (False,), "error": ("quota exceeded",)},
    "mailtrap": {},
    "mandrill": {"event": ("soft_bounce",)},
    "postal": {},
    "postmark": {"Type": ("SoftBounce",)},
    "resend": {"data.bounce.type": ("Transient", "Undetermined")},
    "sendgrid": {"type": ("blocked",)},
    "sparkpost": {"msys.message_event.bounce_class": ("20", "21", "22", "23", "40", "70")},
    "unisender_go": {"delivery_info.delivery_status": ("err_mailbox_full", "err_too_large")},
}
# A provider may also refuse what it knows not to arrive; any other refusal is not about the address.
OF_THE_ADDRESS = (RejectReason.INVALID, RejectReason.BOUNCED)


@public
@csrf_exempt
def email_events(request: HttpRequest, provider: str) -> HttpResponseBase:
    """Take a provider's events: the one who knows EMAIL_WEBHOOK_SECRET. Without that secret there is no such page.

    That secret stands in an address, which others may log. So where there is a key, only whose signature it proves has a page.
    """
    keys = settings.EMAIL_WEBHOOK_KEYS
    is_signed, is_any = keys.get(provider) in settings.ANYMAIL, any(name in settings.ANYMAIL for name in keys.values())
    if provider not in PROVIDERS or not settings.EMAIL_WEBHOOK_SECRET or (is_any and not is_signed):
        raise Http404
    # Those who sign are believed by their signature only; but for Mailtrap, of whom anymail asks it only when it has the key.
    lacks_key = provider in keys and provider != "mailtrap" and not is_signed
    if request.method == "POST":
        # Before anymail asks: it reads what is posted first, and looks for the key.
        if not constant_time_compare(get_request_basic_auth(request) or "", settings.EMAIL_WEBHOOK_SECRET):
            return HttpResponseBadRequest()
        if lacks_key:
            words = "These events are believed by their signature only: set EMAIL_WEBHOOK_SIGNING_KEY.\n"
            return HttpResponse(words, status=503, content_type="text/plain")
    elif lacks_key:
        return HttpResponse()  # Some ask whether there is such a page before they tell their key.
    try:
        answer: HttpResponseBase = resolve(f"/{provider}/tracking/", urlconf="anymail.urls").func(request)
    except StillBeingSent as error:
        return HttpResponse(f"{error}\n", status=503, content_type="text/plain")  # The provider tells it again.
    return answer


@receiver(tracking)
def hear(event: AnymailTrackingEvent, esp_name: str, **_: Any) -> None:
    """Pass on what says that an address does not take our emails."""
    is_bounce = event.event_type == EventType.BOUNCED and event.reject_reason in (None, *OF_THE_ADDRESS)
    is_refusal = event.event_type == EventType.REJECTED and event.reject_reason in OF_THE_ADDRESS
    is_complaint = event.event_type == EventType.COMPLAINED
    fails = (is_bounce or is_refusal) and not _may_pass(event.esp_event, esp_name)
    if event.recipient and (fails or is_complaint):
        words = " ".join(f"{event.mta_response or event.description or event.event_type}".replace("\x00", "").split())[:500]
        believe_provider(
            is_complaint=is_complaint,
            message_id=f"{event.message_id or ''}",  # Postal's is a number
            event_id=f"{event.event_id or event.timestamp or ''}",
            address=event.recipient,
            words=words,
            now=timezone.now(),
        )


def _may_pass(told: Any, esp_name: str) -> bool:
    """Return whether the provider itself calls a bounce soft: of a full mailbox, or of a server that is away."""
    for where, values in PROVIDERS[esp_name.lower().replace(" ", "_")].items():
        said = told
        for name in where.split("."):
            said = said.get(name) if isinstance(said, dict) else None
        if said in values:
            return True
    return False
