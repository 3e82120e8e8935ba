"""What the mail provider tells of emails after it took them: its webhook, understood by django-anymail."""

from typing import Any

from anymail.signals import AnymailTrackingEvent, EventType, RejectReason, tracking
from django.conf import settings
from django.dispatch import receiver
from django.http import Http404, HttpRequest, HttpResponseBase
from django.urls import Resolver404, resolve
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt

from admin_console.access import public
from notifications.actions import believe_provider

# A provider may also refuse what it knows not to arrive; any other refusal is not about the address.
OF_THE_ADDRESS = (RejectReason.INVALID, RejectReason.BOUNCED)


@public
@csrf_exempt
def email_events(request: HttpRequest, provider: str) -> HttpResponseBase:
    """Take a provider's events: the one who knows EMAIL_WEBHOOK_SECRET. Without that secret there is no such page."""
    try:
        found = resolve(f"/{provider}/tracking/", urlconf="anymail.urls")
    except Resolver404:
        found = None
    if found is None or not settings.EMAIL_WEBHOOK_SECRET:
        raise Http404
    answer: HttpResponseBase = found.func(request)
    return answer


@receiver(tracking)
def hear(event: AnymailTrackingEvent, **_: Any) -> None:
    """Pass on what says that an address does not take our emails."""
    is_bounce = event.event_type == EventType.BOUNCED and event.reject_reason in (None, *OF_THE_ADDRESS)
    is_refusal = event.event_type == EventType.REJECTED and event.reject_reason in OF_THE_ADDRESS
    is_complaint = event.event_type == EventType.COMPLAINED
    if event.recipient and (is_bounce or is_refusal or is_complaint):
        words = " ".join(f"{event.mta_response or event.description or event.event_type}".replace("\x00", "").split())[:500]
        believe_provider(
            is_complaint=is_complaint,
            message_id=event.message_id or "",
            address=event.recipient,
            words=words,
            now=timezone.now(),
        )
