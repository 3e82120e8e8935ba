"""Each provider whose webhook is documented is understood, with the key that it signs by and without, and its soft bounces."""

import hashlib
import hmac
import json
import re
from base64 import b64encode
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from django.http import HttpResponse
from django.test import Client

from admin_console.views.email_events import PROVIDERS
from notifications.models import Suppression
from tests.console.test_environment import read_settings
from tests.factories import make_user

SECRET = "provider:correct horse battery"
KEY = "the key that the provider shows"
GRACE = "grace@people.example"
POSTAL = rsa.generate_private_key(public_exponent=65537, key_size=2048)
pytestmark = [pytest.mark.django_db, pytest.mark.filterwarnings("ignore:django-anymail has dropped official support")]

# What each posts of an address that there is not and of a mailbox that is full.
HARD: dict[str, Any] = {
    "brevo": {"event": "hard_bounce", "email": GRACE, "reason": "no such user"},
    "mailersend": {
        "type": "activity.hard_bounced",
        "data": {"type": "hard_bounced", "email": {"recipient": {"email": GRACE}}},
    },
    "mailgun": {
        "event-data": {
            "event": "failed",
            "severity": "permanent",
            "reason": "bounce",
            "recipient": GRACE,
            "timestamp": 1,
            "message": {"headers": {"message-id": "7@mail.example"}},
            "delivery-status": {"message": "no such user"},
        }
    },
    "mailjet": [{"event": "bounce", "email": GRACE, "time": 1, "error": "user unknown", "hard_bounce": True}],
    "mailtrap": {"events": [{"event": "bounce", "email": GRACE, "timestamp": 1, "message_id": "7", "response": "no such user"}]},
    "mandrill": [{"event": "hard_bounce", "ts": 1, "_id": "7", "msg": {"email": GRACE, "diag": "no such user"}}],
    "postal": {"timestamp": 1, "payload": {"original_message": {"id": 7, "to": GRACE}, "bounce": {"id": 8}}},
    "postmark": {"RecordType": "Bounce", "Type": "HardBounce", "MessageID": "7", "Email": GRACE, "Description": "no such user"},
    "resend": {
        "type": "email.bounced",
        "data": {"email_id": "7", "to": [GRACE], "bounce": {"type": "Permanent", "message": "sent a hard bounce message"}},
    },
    "sendgrid": [{"event": "bounce", "type": "bounce", "email": GRACE, "timestamp": 1, "reason": "no such user"}],
    "sparkpost": [
        {"msys": {"message_event": {"type": "bounce", "bounce_class": "10", "raw_rcpt_to": GRACE, "raw_reason": "unknown"}}}
    ],
    "unisender_go": {
        "auth": "",
        "event_name": "transactional_email_status",
        "status": "hard_bounced",
        "email": GRACE,
        "event_time": "2026-01-31 12:00:00",
        "delivery_info": {"delivery_status": "err_user_unknown"},
    },
}
SOFT: dict[str, Any] = {
    "brevo": {"event": "soft_bounce", "email": GRACE, "reason": "mailbox is full"},
    "mailersend": {
        "type": "activity.soft_bounced",
        "data": {
            "type": "soft_bounced",
            "email": {"recipient": {"email": GRACE}},
            "morph": {"object": "recipient_bounce", "reason": "mailbox is full"},
        },
    },
    "mailgun": {"event-data": HARD["mailgun"]["event-data"] | {"severity": "temporary"}},
    "mailjet": [{"event": "bounce", "email": GRACE, "time": 1, "error": "quota exceeded", "hard_bounce": False}],
    "mailtrap": {"events": [HARD["mailtrap"]["events"][0] | {"event": "soft bounce"}]},
    "mandrill": [{"event": "soft_bounce", "ts": 1, "_id": "7", "msg": {"email": GRACE, "diag": "mailbox is full"}}],
    "postal": {"timestamp": 1, "payload": {"message": {"id": 7, "to": GRACE}, "status": "SoftFail", "output": "mailbox is full"}},
    "postmark": HARD["postmark"] | {"Type": "SoftBounce", "Description": "mailbox is full"},
    "resend": {
        "type": "email.bounced",
        "data": {"to": [GRACE], "bounce": {"type": "Transient", "message": "sent a bounce message because the inbox was full"}},
    },
    "sendgrid": [{"event": "bounce", "type": "blocked", "email": GRACE, "timestamp": 1, "reason": "mailbox is full"}],
    "sparkpost": [
        {"msys": {"message_event": {"type": "bounce", "bounce_class": "22", "raw_rcpt_to": GRACE, "raw_reason": "full"}}}
    ],
    "unisender_go": HARD["unisender_go"] | {"delivery_info": {"delivery_status": "err_mailbox_full"}},
}
# By their signature only; and who may have one.
SIGNING = {"mailersend", "mailgun", "mandrill", "postal", "unisender_go"}
MAY_SIGN = SIGNING | {"mailtrap"}


def public_key() -> str:
    """Return Postal's key as Postal shows it: without the lines around it."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return "".join(POSTAL.public_key().public_bytes(serialization.Encoding.PEM, form).decode().split("\n")[1:-2])


@pytest.fixture(autouse=True)
def secret(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    give_key(settings, monkeypatch, "")


def key_for(provider: str) -> str:
    """Return the key that an operator sets up for a provider, if it has one."""
    return public_key() if provider == "postal" else KEY if provider in MAY_SIGN else ""


def give_key(settings: Any, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """Set the console up as an operator does."""
    with monkeypatch.context() as environment:
        environment.setenv("EMAIL_WEBHOOK_SECRET", SECRET)
        environment.setenv("EMAIL_WEBHOOK_SIGNING_KEY", key)
        found = read_settings()
    settings.EMAIL_WEBHOOK_SECRET, settings.ANYMAIL = found["EMAIL_WEBHOOK_SECRET"], found["ANYMAIL"]


def tell(client: Client, provider: str, told: Any, *, knows: str = SECRET) -> HttpResponse:
    """Post an event, signed as the provider does."""
    path, kind, headers = f"/email-events/{provider}/", "application/json", {}
    if provider == "mailgun":
        signature = hmac.new(KEY.encode(), b"1token", hashlib.sha256).hexdigest()
        told = told | {"signature": {"timestamp": "1", "token": "token", "signature": signature}}
    if provider == "mandrill":
        events = json.dumps(told)
        body, kind = urlencode({"mandrill_events": events}), "application/x-www-form-urlencoded"
        signed = f"http://{SECRET}@testserver{path}mandrill_events{events}"
        headers["X-Mandrill-Signature"] = b64encode(hmac.new(KEY.encode(), signed.encode(), hashlib.sha1).digest()).decode()
    else:
        body = json.dumps(told)
    if provider in ("mailersend", "mailtrap"):
        signature = hmac.new(KEY.encode(), body.encode(), hashlib.sha256).hexdigest()
        headers["Signature" if provider == "mailersend" else "Mailtrap-Signature"] = signature
    if provider == "postal":
        headers["X-Postal-Signature"] = b64encode(POSTAL.sign(body.encode(), padding.PKCS1v15(), hashes.SHA1())).decode()
    if provider == "unisender_go":
        signature = hashlib.md5(json.dumps(told | {"auth": KEY}).encode()).hexdigest()
        body = json.dumps(told | {"auth": signature})
    headers["Authorization"] = f"Basic {b64encode(knows.encode()).decode()}"
    answer = client.post(path, body, content_type=kind, headers=headers)
    assert isinstance(answer, HttpResponse)
    return answer


def test_those_that_are_documented_are_those_that_are_understood() -> None:
    docs = (Path(__file__).parents[2] / "docs" / "notifications.md").read_text()
    (named,) = re.findall(r"\*\*The provider's webhook\*\* \((.*?); understood by django-anymail\)", docs, re.DOTALL)
    assert {name.lower().replace(" ", "_") for name in re.split(r",\s+", named.replace("\n", " "))} == set(PROVIDERS)
    assert set(HARD) == set(SOFT) == set(PROVIDERS)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_who_is_set_up_is_believed_of_an_address_that_there_is_not(
    client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    make_user(email=GRACE)
    give_key(settings, monkeypatch, key_for(provider))

    assert tell(client, provider, HARD[provider]).status_code == 200

    assert Suppression.objects.get().address == GRACE


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_soft_bounce_says_nothing_of_an_address(
    client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    make_user(email=GRACE)
    give_key(settings, monkeypatch, key_for(provider))

    for _time in range(2):
        assert tell(client, provider, SOFT[provider]).status_code == 200

    assert not Suppression.objects.exists()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_who_signs_needs_the_key_and_is_told_so(client: Client, provider: str) -> None:
    make_user(email=GRACE)

    answer = tell(client, provider, HARD[provider])

    assert answer.status_code == (503 if provider in SIGNING else 200)
    assert (b"set EMAIL_WEBHOOK_SIGNING_KEY" in answer.content) == (provider in SIGNING)
    assert Suppression.objects.exists() == (provider not in SIGNING)


@pytest.mark.parametrize("provider", sorted([*SIGNING, "mailtrap"]))
def test_who_signs_with_another_key_is_not_believed(
    client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    make_user(email=GRACE)
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    monkeypatch.setattr("tests.console.test_email_providers.POSTAL", other)
    give_key(settings, monkeypatch, public_key() if provider == "postal" else f"not {KEY}")
    monkeypatch.undo()

    assert tell(client, provider, HARD[provider]).status_code == 400
    assert not Suppression.objects.exists()


@pytest.mark.parametrize("has_key", [False, True])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_stranger_is_refused_however_it_is_set_up(
    client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, provider: str, has_key: bool
) -> None:
    give_key(settings, monkeypatch, key_for(provider) if has_key else "")

    assert tell(client, provider, HARD[provider], knows="provider:wrong").status_code == 400
    assert client.post(f"/email-events/{provider}/", "[]", content_type="application/json").status_code == 400
    assert client.head(f"/email-events/{provider}/").status_code == 200  # some ask before they tell their key
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("key", [KEY, "postal's"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_once_there_is_a_key_nobody_is_believed_by_the_secret_alone(
    client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch, provider: str, key: str
) -> None:
    make_user(email=GRACE)
    give_key(settings, monkeypatch, public_key() if key == "postal's" else key)
    monkeypatch.setattr("tests.console.test_email_providers.KEY", "what a stranger guesses")
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    monkeypatch.setattr("tests.console.test_email_providers.POSTAL", other)

    has_page = (provider == "postal") if key == "postal's" else (provider in MAY_SIGN - {"postal"})
    assert tell(client, provider, HARD[provider]).status_code == (400 if has_page else 404)
    assert client.head(f"/email-events/{provider}/").status_code == (200 if has_page else 404)
    assert not Suppression.objects.exists()


@pytest.mark.parametrize("provider", sorted(MAY_SIGN - {"postal"}))
def test_nobody_is_believed_by_a_signature_that_anybody_can_make_with_postals_public_key(
    client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    make_user(email=GRACE)
    give_key(settings, monkeypatch, public_key())
    monkeypatch.setattr("tests.console.test_email_providers.KEY", public_key())

    assert tell(client, provider, HARD[provider]).status_code == 404
    assert not Suppression.objects.exists()


def test_amazon_ses_has_no_page(client: Client) -> None:
    assert tell(client, "amazon_ses", {}).status_code == 404
