"""The webhook of a mail provider: what it says of addresses is believed when it knows the secret."""

import json
from base64 import b64encode
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from notifications.models import Notification, State, Suppression
from tests.factories import make_user
from tests.mail import ScriptedServer
from tests.mail import smtp_script as smtp_script
from tests.notifications.test_delivery import deliver, owe

SECRET = "postmark:correct horse battery"
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def secret(settings: Any) -> None:
    settings.EMAIL_WEBHOOK_SECRET = SECRET
    settings.ANYMAIL = {"WEBHOOK_SECRET": SECRET}


def tell(client: Client, *, knows: str = SECRET, provider: str = "postmark", **event: Any) -> HttpResponse:
    """Post an event as Postmark does."""
    told = {"RecordType": "Bounce", "Type": "HardBounce", "MessageID": "883953f4", **event}
    return post(client, provider, told, knows=knows)


def post(client: Client, provider: str, told: Any, *, knows: str = SECRET) -> HttpResponse:
    """Post what a provider tells."""
    signed_in = {"Authorization": f"Basic {b64encode(knows.encode()).decode()}"} if knows else {}
    answer = client.post(f"/email-events/{provider}/", json.dumps(told), content_type="application/json", headers=signed_in)
    assert isinstance(answer, HttpResponse)
    return answer


def test_two_bounces_suppress_an_address(client: Client) -> None:
    make_user(email="grace@people.example")
    told = {"Email": "Grace@people.example", "Description": "smtp;550 5.1.1 No such user"}
    for called in ("883953f4", "883953f5"):
        assert tell(client, MessageID=called, **told).status_code == 200

    found = Suppression.objects.get()
    assert (found.address, found.source, found.failures) == ("grace@people.example", "BOUNCED", 2)
    assert found.since


@pytest.mark.parametrize("names", [{}, {"MessageID": "", "ID": 42}])
def test_a_bounce_that_the_provider_repeats_counts_once_whatever_it_calls_the_email(
    client: Client, names: dict[str, Any]
) -> None:
    make_user(email="grace@people.example")
    for _time in range(3):
        assert tell(client, **names, Email="grace@people.example", Description="550 5.1.1 No such user").status_code == 200

    found = Suppression.objects.get()
    assert (found.failures, found.since) == (1, None)


@pytest.mark.filterwarnings("ignore:django-anymail has dropped official support")
def test_what_it_told_together_with_what_came_too_soon_counts_once_when_all_of_it_comes_again(
    client: Client, smtp_script: ScriptedServer
) -> None:
    grace, _ada = make_user(), make_user(email="ada@people.example")
    owe(grace)
    deliver()
    letter = Notification.objects.get()
    both = [
        {"event": "bounce", "email": email, "smtp-id": called, "timestamp": 1, "reason": "550 5.1.1 No such user"}
        for email, called in (("ada@people.example", "<foreign@mail.example>"), (grace.email, letter.message_id))
    ]

    answers = []
    for state in (State.CLAIMED, State.CLAIMED, State.SENT):
        Notification.objects.update(state=state)
        answers.append(post(client, "sendgrid", both).status_code)

    assert answers == [503, 503, 200]
    assert set(Suppression.objects.values_list("address", "failures", "since")) == {
        ("ada@people.example", 1, None),
        (grace.email, 1, None),
    }


def test_a_complaint_about_an_email_that_came_back_counts_all_the_same(client: Client) -> None:
    make_user(email="grace@people.example")
    tell(client, Email="grace@people.example", Description="550 5.1.1 No such user")
    tell(client, RecordType="SpamComplaint", Type="SpamComplaint", Email="grace@people.example")

    assert Suppression.objects.get().since


def test_an_email_known_by_our_message_id_is_marked(client: Client, smtp_script: ScriptedServer) -> None:
    grace = make_user()
    owe(grace)
    deliver()
    letter = Notification.objects.get()

    tell(client, Email=grace.email, MessageID=letter.message_id.strip("<>"), Description="550 5.1.1 No such user")

    letter.refresh_from_db()
    assert (letter.state, letter.last_words) == (State.FAILED, "It came back. 550 5.1.1 No such user")


def test_a_provider_that_is_quicker_than_the_sender_is_asked_to_tell_it_again(
    client: Client, smtp_script: ScriptedServer
) -> None:
    grace = make_user()
    owe(grace)
    deliver()
    Notification.objects.update(state=State.CLAIMED)
    told = {"Email": grace.email, "MessageID": Notification.objects.get().message_id, "Description": "550 5.1.1 No such user"}
    assert tell(client, **told).status_code == 503
    Notification.objects.update(state=State.SENT)

    assert tell(client, **told).status_code == 200

    assert Notification.objects.get().state == State.FAILED
    assert Suppression.objects.get().failures == 1


def test_a_complaint_suppresses_at_once(client: Client) -> None:
    make_user(email="grace@people.example")
    tell(client, RecordType="SpamComplaint", Type="SpamComplaint", Email="grace@people.example")

    found = Suppression.objects.get()
    assert (found.source, found.since is not None) == ("COMPLAINED", True)


@pytest.mark.parametrize(
    "event",
    [
        {"RecordType": "Delivery", "Recipient": "grace@people.example"},
        {"Type": "Transient", "Email": "grace@people.example"},
        {"Type": "DMARCPolicy", "Email": "grace@people.example"},
        {"Email": "grace@people.example", "Description": "smtp;552 5.2.2 Mailbox full"},
    ],
)
def test_what_is_not_the_addresss_fault_says_nothing_of_it(client: Client, event: dict[str, str]) -> None:
    make_user(email="grace@people.example")
    assert tell(client, **event).status_code == 200

    assert not Suppression.objects.exists()


@pytest.mark.parametrize("knows", ["", "postmark:wrong horse", "no colon"])
def test_who_does_not_know_the_secret_is_not_believed(client: Client, knows: str) -> None:
    make_user(email="grace@people.example")
    assert tell(client, knows=knows, Email="grace@people.example").status_code == 400
    assert not Suppression.objects.exists()


def test_without_a_secret_there_is_no_such_page(client: Client, settings: Any) -> None:
    settings.EMAIL_WEBHOOK_SECRET = ""
    settings.ANYMAIL = {}

    assert tell(client, Email="grace@people.example").status_code == 404


def test_a_provider_that_nobody_knows_has_no_page(client: Client) -> None:
    assert tell(client, provider="pigeon", Email="grace@people.example").status_code == 404
    assert client.get("/email-events/postmark/").status_code == 405
