"""An email that comes back is marked, and the second time its address; nobody does that by a report of their own making."""

import io
import mailbox
import os
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from notifications import actions, bounces, suppression
from notifications.models import Notification, State, Suppression
from products.erasure import erase_user
from tests.factories import make_user
from tests.mail import ScriptedServer
from tests.notifications.test_delivery import deliver, owe
from users.models import Role, User

NOW = timezone.now()
pytestmark = pytest.mark.django_db


def report(
    letter: Notification,
    *,
    to: str = "",
    action: str = "failed",
    status: str = "5.1.1",
    says: str = "smtp; 550 5.1.1 No such user",
    original: bool = True,
) -> bytes:
    """Return what a mail system sends when an email does not arrive (RFC 3464)."""
    returned = f"""--R
Content-Type: text/rfc822-headers

Message-ID: {letter.message_id}
Subject: {letter.subject}

""" if original else ""  # fmt: skip
    text = f"""From: MAILER-DAEMON@mx.example
To: console@console.example
Subject: Undelivered Mail Returned to Sender
Content-Type: multipart/report; report-type=delivery-status; boundary="R"
MIME-Version: 1.0

--R
Content-Type: text/plain

I am sorry to tell you that your message did not arrive.

--R
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example
Arrival-Date: Sun, 22 Nov 2026 12:00:00 +0000

Final-Recipient: rfc822; {to or letter.to_address}
Action: {action}
Status: {status}
Diagnostic-Code: {says}

{returned}--R--
"""
    return text.encode()


def sent_to(user: User, code: str = "meeting") -> Notification:
    """Return an email that was sent to the user."""
    owe(user, code=code)
    deliver()
    found = Notification.objects.filter(user=user).order_by("-id").first()
    assert found
    assert found.state == State.SENT
    return found


def read(*reports: bytes) -> list[bool]:
    """Do with reports what the command does, and return which of the emails were ours."""
    return [
        actions.take_back(message_id=found.message_id, address=found.address, words=found.words, now=NOW)
        for one in reports
        for found in bounces.read(one)
    ]


def test_an_email_that_comes_back_has_failed_visibly(smtp_script: ScriptedServer) -> None:
    letter = sent_to(make_user(email="grace@people.example"))

    assert read(report(letter)) == [True]

    letter.refresh_from_db()
    assert (letter.state, letter.last_words) == (State.FAILED, "It came back. 5.1.1 550 5.1.1 No such user")
    assert Suppression.objects.get().since is None


def test_the_second_one_suppresses_the_address(smtp_script: ScriptedServer) -> None:
    grace = make_user()
    letters = [sent_to(grace, code) for code in ("meeting", "webinar")]

    read(*map(report, letters))

    found = Suppression.objects.get()
    assert (found.address, found.source, found.since) == (grace.email, "BOUNCED", NOW)


def test_that_the_mail_server_took_emails_in_between_says_nothing_of_a_mailbox_that_they_come_back_from(
    smtp_script: ScriptedServer,
) -> None:
    grace = make_user()
    read(report(sent_to(grace, "meeting")))
    sent_to(grace, "webinar")
    read(report(sent_to(grace, "training")))

    found = Suppression.objects.get()
    assert (found.failures, found.since) == (2, NOW)


@pytest.mark.parametrize("is_complaint", [False, True])
def test_of_an_address_that_no_user_has_nothing_is_kept(smtp_script: ScriptedServer, is_complaint: bool) -> None:
    grace = make_user(email="grace@people.example")
    letter = sent_to(grace)
    erase_user(actor=make_user(role=Role.SUPER_ADMIN), user=grace, now=NOW)

    for address in (letter.to_address, "stranger@people.example"):
        told = {"message_id": letter.message_id, "address": address, "words": f"550 5.1.1 No {address}", "now": NOW}
        actions.believe_provider(is_complaint=is_complaint, **told)
        assert not actions.take_back(**told)

    assert not Suppression.objects.exists()
    assert Notification.objects.get(pk=letter.pk).last_words == "The user was erased."


def test_an_address_of_any_domain_is_found_as_mail_servers_are_told_it(smtp_script: ScriptedServer) -> None:
    grace = make_user(email="grace@höpper.example")
    letters = [sent_to(grace, code) for code in ("meeting", "webinar")]

    read(*map(report, letters))

    assert Suppression.objects.get().address == letters[0].to_address == "grace@xn--hpper-jua.example"
    assert suppression.known([grace.email])[letters[0].to_address].since == NOW
    erase_user(actor=make_user(role=Role.SUPER_ADMIN), user=grace, now=NOW)
    assert not Suppression.objects.exists()


def test_a_report_read_twice_counts_once(smtp_script: ScriptedServer) -> None:
    letter = sent_to(make_user())

    assert read(report(letter), report(letter)) == [True, True]
    assert Suppression.objects.get().failures == 1


def test_when_the_first_of_two_copies_comes_back_there_is_no_second(smtp_script: ScriptedServer) -> None:
    letter = sent_to(make_user())
    waiting = Notification.objects.filter(pk=letter.pk)
    waiting.update(state=State.QUEUED, possible_duplicate=True, sent_at=None, not_before=NOW)

    assert read(report(letter)) == [True]
    deliver()

    assert waiting.get().state == State.FAILED
    assert (len(smtp_script.messages), Suppression.objects.get().failures) == (1, 1)

    actions.retry(actor=make_user(role=Role.ADMIN), ids=[letter.pk], now=NOW)
    read(report(letter))  # a second time, or of the second copy

    assert waiting.get().state == State.QUEUED
    assert Suppression.objects.get().failures == 1


def test_what_the_report_and_the_provider_both_tell_counts_once(smtp_script: ScriptedServer) -> None:
    letter = sent_to(make_user())
    told = {"message_id": letter.message_id, "address": letter.to_address, "words": "550 5.1.1 No such user", "now": NOW}

    read(report(letter))
    for _time in range(2):
        actions.believe_provider(is_complaint=False, **told)

    found = Suppression.objects.get()
    assert (found.failures, found.since) == (1, None)


def test_a_provider_counts_for_an_address_to_which_the_named_email_did_not_go(smtp_script: ScriptedServer) -> None:
    letter, _ada = sent_to(make_user()), make_user(email="ada@people.example")
    read(report(letter))

    told = {"message_id": letter.message_id, "words": "550 5.1.1 No such user", "now": NOW}
    actions.believe_provider(is_complaint=False, address="ada@people.example", **told)

    assert Suppression.objects.get(address="ada@people.example").failures == 1


def test_it_can_be_sent_again(smtp_script: ScriptedServer) -> None:
    letter = sent_to(make_user())
    read(report(letter))

    assert actions.retry(actor=make_user(role=Role.ADMIN), ids=[letter.pk], now=NOW) == 1
    deliver()

    assert Notification.objects.get(pk=letter.pk).state == State.SENT


@pytest.mark.parametrize("told", [{"action": "delayed", "status": "4.4.7"}, {"action": "delivered", "status": "2.0.0"}])
def test_what_is_only_late_has_not_failed(smtp_script: ScriptedServer, told: dict[str, str]) -> None:
    letter = sent_to(make_user())

    assert read(report(letter, **told)) == []
    assert Notification.objects.get().state == State.SENT


def test_a_full_mailbox_is_a_failure_but_not_the_addresss_fault(smtp_script: ScriptedServer) -> None:
    letter = sent_to(make_user())

    assert read(report(letter, status="5.2.2", says="smtp; 552 5.2.2 Over quota")) == [True]

    assert not Suppression.objects.exists()


def test_nobody_can_suppress_an_address_by_a_report_about_what_we_did_not_send(smtp_script: ScriptedServer) -> None:
    letter, ada = sent_to(make_user()), make_user()

    assert read(report(letter, to=ada.email), report(letter, original=False)) == [False, False]
    letter.message_id = f"<onboarding.1.{ada.pk}@console.example>"
    assert read(report(letter, to=ada.email)) == [False]

    assert not Suppression.objects.exists()
    assert not Notification.objects.exclude(state=State.SENT).exists()


def test_who_got_one_email_cannot_report_that_anothers_came_back(smtp_script: ScriptedServer) -> None:
    of_mallory, of_ada = sent_to(make_user()), sent_to(make_user())
    kind, about, user, seal = of_mallory.message_id.strip("<>").partition("@")[0].split(".")
    guesses = [
        f"<{kind}.{about}.{of_ada.user_id}.{guessed}@127.0.0.1>" for guessed in (seal, "0" * 16, seal[::-1], "", "%", "\ud800")
    ]
    guesses += [of_mallory.message_id, f"<{kind}.{about}.{of_ada.user_id}@127.0.0.1>"]  # there was no seal in earlier versions

    for guess in guesses:
        assert not actions.take_back(message_id=guess, address=of_ada.to_address, words="5.1.1", now=NOW), guess

    assert user == str(of_mallory.user_id)
    assert not Suppression.objects.exists()
    assert not Notification.objects.exclude(state=State.SENT).exists()


def test_an_email_of_an_earlier_version_is_sent_under_its_message_id_and_no_report_of_it_is_believed(
    smtp_script: ScriptedServer,
) -> None:
    grace = make_user()
    owe(grace)
    unsealed = f"<onboarding.{Notification.objects.get().about}.{grace.pk}@console.example>"
    Notification.objects.update(message_id=unsealed, possible_duplicate=True)

    deliver()

    letter = Notification.objects.get()
    assert [m.message["Message-ID"] for m in smtp_script.messages] == [letter.message_id] == [unsealed]
    assert read(report(letter)) == [False]
    assert Notification.objects.get().state == State.SENT


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\xff\xfe",
        b"Subject: Out of office\n\nI am away.",
        b"Content-Type: multipart/report; boundary=R\n\n--R\nContent-Type: message/delivery-status\n\n",
        b"Content-Type: message/delivery-status\n\nAction: failed\nFinal-Recipient: \xff\n",
        b"Content-Type: multipart/report; boundary=R\n\n--R\nContent-Type: text/rfc822-headers; charset=nobody\n\nx\n--R--",
    ],
)
def test_what_is_no_report_says_nothing(content: bytes) -> None:
    assert read(content) == [] or read(content) == [False]


@pytest.mark.parametrize("named", ["<a@[", "<a@[(", "=?utf-8?q?=ff?=", "\x00", "<" * 2_000])
def test_no_message_stops_the_reading_of_those_after_it(named: str) -> None:
    status = "Original-Recipient: rfc822; grace@tests.example\nAction: failed\nStatus: 5.1.1\n"
    content = f"""Content-Type: multipart/report; report-type=delivery-status; boundary=R

--R
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example

{status}
--R
Content-Type: message/rfc822

Message-ID: {named}

--R--
"""
    found = bounces.read(content.encode())
    assert [each.address for each in found] == ["grace@tests.example"]
    assert bounces.returned(found[0].message_id, found[0].address) is None


def test_the_command_reads_the_mail_servers_pipe(smtp_script: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    letter, told = sent_to(make_user()), io.StringIO()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(report(letter))))

    call_command("read_bounces", stdout=told)

    assert told.getvalue() == "1 messages read, 1 emails came back\n"
    assert Notification.objects.get().state == State.FAILED


def test_the_command_reads_each_message_of_a_maildir_once(smtp_script: ScriptedServer, tmp_path: Path) -> None:
    letter, told = sent_to(make_user()), io.StringIO()
    box = mailbox.Maildir(tmp_path / "bounces")
    box.add(report(letter))
    box.add(b"Subject: Hello\n\nNo report.")

    for _time in range(2):
        call_command("read_bounces", maildir=str(tmp_path / "bounces"), stdout=told)

    assert told.getvalue() == "2 messages read, 1 emails came back\n0 messages read, 0 emails came back\n"


@pytest.fixture
def being_sent(smtp_script: ScriptedServer) -> Notification:
    """Return an email that the server took, and whose sender did not settle yet what became of it."""
    letter = sent_to(make_user())
    Notification.objects.update(state=State.CLAIMED)
    return letter


def test_of_a_report_that_comes_too_soon_the_mail_server_is_told_to_hand_it_over_again(
    being_sent: Notification, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = io.StringIO()

    def hand_over() -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(report(being_sent))))
        call_command("read_bounces", stdout=told)

    with pytest.raises(CommandError) as refused:
        hand_over()
    Notification.objects.update(state=State.SENT)
    hand_over()

    assert refused.value.returncode == os.EX_TEMPFAIL
    assert told.getvalue() == "1 messages read, 1 emails came back\n"
    assert Notification.objects.get().state == State.FAILED


def test_in_a_maildir_it_waits_for_the_next_time_and_holds_up_no_other(being_sent: Notification, tmp_path: Path) -> None:
    told, box = io.StringIO(), mailbox.Maildir(tmp_path / "bounces")
    for letter in (being_sent, sent_to(make_user())):
        box.add(report(letter))

    for _time in range(2):
        call_command("read_bounces", maildir=str(tmp_path / "bounces"), stdout=told)
        Notification.objects.filter(state=State.CLAIMED).update(state=State.SENT)

    assert told.getvalue() == "1 messages read, 1 emails came back\n" * 2
    assert {letter.state for letter in Notification.objects.all()} == {State.FAILED}
