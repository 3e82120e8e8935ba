"""An address that failed for good twice is written to no more, which everyone sees, until an admin releases it."""

from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.utils import timezone

from notifications import actions, queries, suppression
from notifications.models import Notification, State, Suppression
from tests.factories import make_user
from tests.mail import ScriptedServer
from tests.notifications.test_delivery import deliver, owe
from users.models import Role, User

NOW = timezone.now()
GONE = "550 5.1.1 No such user here"
pytestmark = pytest.mark.django_db


def fail(user: User, *codes: str) -> None:
    """Owe the user an onboarding email for each product, one after the other, and deliver."""
    for code in codes:
        owe(user, code=code)
        deliver()


def is_suppressed(user: User) -> bool:
    return Suppression.objects.filter(address=user.email, since__isnull=False).exists()


def test_after_two_hard_failures_nobody_writes_to_an_address(smtp_script: ScriptedServer) -> None:
    grace = make_user(email="grace@people.example")
    smtp_script.rules[grace.email] = GONE
    fail(grace, "meeting")
    assert not is_suppressed(grace)
    fail(grace, "webinar")
    assert is_suppressed(grace)
    smtp_script.rules.clear()

    fail(grace, "training")

    assert not smtp_script.messages
    last = Notification.objects.order_by("id").last()
    assert (last.state, last.last_code) == (State.FAILED, None)
    assert last.last_words == f"Not tried: the address is suppressed since {NOW:%Y-%m-%d}. {GONE}"


def test_an_address_that_takes_an_email_meanwhile_begins_anew(smtp_script: ScriptedServer) -> None:
    grace = make_user()
    smtp_script.rules[grace.email] = GONE
    fail(grace, "meeting")
    smtp_script.rules.clear()
    fail(grace, "webinar")
    smtp_script.rules[grace.email] = GONE

    fail(grace, "training")

    assert Suppression.objects.get().failures == 1
    assert not is_suppressed(grace)


@pytest.mark.parametrize(
    "reply",
    [
        "550 5.7.1 Relaying denied",
        "552 5.2.2 Mailbox full",
        "554 5.7.1 Your reputation",
        "450 4.1.1 Perhaps later",
        "550 5.3.0 We",
    ],
)
def test_what_is_not_the_addresss_fault_does_not_count(smtp_script: ScriptedServer, reply: str) -> None:
    grace = make_user()
    smtp_script.rules[grace.email] = reply

    fail(grace, "meeting", "webinar")

    assert not Suppression.objects.exists()


def test_a_refused_content_is_not_the_addresss_fault(smtp_script: ScriptedServer) -> None:
    grace = make_user()
    smtp_script.data_reply = "550 Looks like spam"

    fail(grace, "meeting", "webinar")

    assert not Suppression.objects.exists()


@pytest.mark.parametrize("words", ["no", "5.1.1 no", "5.1.10 null MX", "5.2.1 disabled", "mailbox unavailable"])
def test_what_says_that_there_is_no_such_mailbox_counts(words: str) -> None:
    assert suppression.is_hard(words)


def test_who_asks_for_a_new_password_is_written_to_all_the_same(smtp_script: ScriptedServer) -> None:
    grace = make_user()
    suppression.note_failure(grace.email, reason="it came back", source="BOUNCED", now=NOW, for_good=True)

    actions.queue_message(user=grace, subject="Reset", text="https://console.example/reset/secret", html="", now=NOW)
    deliver()

    assert len(smtp_script.messages) == 1
    assert is_suppressed(grace)


def test_an_admin_releases_an_address(smtp_script: ScriptedServer) -> None:
    admin, grace = make_user(role=Role.ADMIN), make_user(email="grace@people.example")
    smtp_script.rules[grace.email] = GONE
    fail(grace, "meeting", "webinar", "training")
    smtp_script.rules.clear()
    [shown] = queries.suppressed()
    assert (shown.address, shown.reason, shown.source, shown.failures) == (grace.email, GONE, "REFUSED", 2)

    with pytest.raises(PermissionDenied):
        actions.release(actor=make_user(role=Role.SUPPORT), address=grace.email)
    assert actions.release(actor=admin, address=" Grace@People.example ")
    assert not actions.release(actor=admin, address=grace.email)
    assert not queries.suppressed()

    assert actions.retry_all(actor=admin, found=Notification.objects.filter(user=grace), now=NOW) == 3
    deliver()
    assert len(smtp_script.messages) == 3


def test_asking_what_is_suppressed_costs_one_question_a_batch(
    smtp_script: ScriptedServer, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(1):
        suppression.known([f"user{number}@people.example" for number in range(500)])
