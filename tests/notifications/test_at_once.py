"""Several clicks, reports and senders at once: each test commits in a database of its own."""

import threading
from functools import partial
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone
from django.utils.module_loading import import_string

from notifications import actions, bounces, customising
from notifications.message_ids import message_id_of
from notifications.models import Notification, State, Suppression, Wording
from products.erasure import erase_user
from tests.database import Database
from tests.factories import NOW, change, give, make_user
from tests.mail import ScriptedServer
from tests.notifications.test_customising import save
from tests.notifications.test_delivery import LATER, deliver, owe
from tests.notifications.test_merging import told
from tests.products.test_at_once import at_once
from users.models import Action, AdminAction, Role, User

pytestmark = pytest.mark.usefixtures("committed_db")


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_of_several_clicks_one_invites() -> None:
    ada, grace = make_user(role=Role.ADMIN), give(make_user(password="!never"), "rescue")
    clients = [signed_in(ada) for _click in range(6)]

    answers = at_once(*(lambda client=client: client.post(f"/users/{grace.pk}/invite/") for client in clients))

    assert [answer.status_code for answer in answers] == [303] * 6
    assert Notification.objects.filter(user=grace, kind="INVITATION").count() == 1
    assert AdminAction.objects.filter(action=Action.USER_INVITED, subject_id=grace.pk).count() == 1


def test_of_several_clicks_one_restores() -> None:
    sue = make_user(role=Role.SUPER_ADMIN)
    first = save(sue)
    save(sue, subject="Second", after=1)

    restored = at_once(*[lambda: customising.restore(actor=sue, version=first, now=NOW)] * 6)

    assert [version.number for version in restored] == [3] * 6
    assert list(Wording.objects.order_by("number").values_list("number", "subject")) == [
        (1, first.subject),
        (2, "Second"),
        (3, first.subject),
    ]


def test_of_several_reports_of_one_email_one_counts() -> None:
    grace = make_user()
    letter = Notification.objects.create(user=grace, kind="ONBOARDING", about=1, lane=1, state=State.SENT, to_address=grace.email)
    Notification.objects.update(message_id=message_id_of(letter, "console.example"))
    letter.refresh_from_db()
    reported = {"message_id": letter.message_id, "address": grace.email, "words": "5.1.1 No such user", "now": NOW}

    at_once(*[lambda: actions.believe_provider(is_complaint=False, **reported)] * 6)

    assert Suppression.objects.get().failures == 1


def test_what_an_email_told_earlier_shares_its_fate_whoever_looks_at_it_meanwhile(
    committed_db: Database, smtp_script: ScriptedServer
) -> None:
    admin, grace = make_user(role=Role.ADMIN), make_user()
    change(admin, [grace], "rescue")
    change(admin, [grace], "rescue", "central")
    smtp_script.rules[grace.email] = "DROP AFTER DATA"
    deliver(now=timezone.now())
    smtp_script.rules.clear()

    with psycopg.connect(committed_db.console) as sender:
        sender.execute("SELECT FROM notifications_notification WHERE id = %s FOR UPDATE", [told(grace)[0].pk])

        class Taken(list[Any]):
            def append(self, received: Any) -> None:
                super().append(received)
                sender.rollback()

        smtp_script.messages = Taken()
        deliver(now=timezone.now() + LATER)

    assert len(smtp_script.messages) == 1
    assert [one.state for one in told(grace)] == [State.SENT] * 2


def test_of_who_is_erased_while_an_email_is_on_its_way_no_refusal_is_kept(smtp_script: ScriptedServer) -> None:
    sue, ada, grace = make_user(role=Role.SUPER_ADMIN), make_user(), make_user()
    smtp_script.rules[grace.email] = "550 5.1.1 No such user"
    owe(ada, grace)

    class Erasing(list[Any]):
        def append(self, received: Any) -> None:
            super().append(received)
            erase_user(actor=sue, user=grace, now=NOW)
            connection.close()

    smtp_script.messages = Erasing()
    deliver(now=timezone.now())

    assert [sent.recipients for sent in smtp_script.messages] == [[ada.email]]
    assert not Suppression.objects.exists()


@pytest.mark.parametrize("at", ["products.erasure._forget_sessions", "notifications.suppression.forget"])
@pytest.mark.parametrize("is_complaint", [False, True])
def test_what_is_told_in_the_moment_of_an_erasure_is_forgotten_too(
    monkeypatch: pytest.MonkeyPatch, at: str, is_complaint: bool
) -> None:
    sue, grace = make_user(role=Role.SUPER_ADMIN), make_user()
    letter = Notification.objects.create(user=grace, kind="ONBOARDING", about=1, lane=1, state=State.SENT, to_address=grace.email)
    Notification.objects.update(message_id=message_id_of(letter, "console.example"))
    letter.refresh_from_db()
    words, outcomes = f"5.1.1 No {grace.email}", list[Any]()
    Suppression.objects.create(address=grace.email, failures=1, reason=words, source=Suppression.Source.BOUNCED, failed_at=NOW)
    reported = partial(
        actions.believe_provider,
        is_complaint=is_complaint,
        message_id=letter.message_id,
        address=grace.email,
        words=words,
        now=NOW,
    )
    telling = threading.Thread(target=lambda: outcomes.extend(at_once(reported)))
    forget = import_string(at)

    def forget_while_it_is_told(*asked: Any) -> None:
        forget(*asked)
        telling.start()
        telling.join(timeout=0.5)

    monkeypatch.setattr(at, forget_while_it_is_told)
    erase_user(actor=sue, user=grace, now=NOW)
    telling.join()

    assert outcomes == [None]  # no deadlock
    assert not Suppression.objects.exists()
    letter.refresh_from_db()
    assert letter.last_words == "The user was erased."


def test_an_email_that_comes_back_before_its_sender_has_settled_that_it_is_sent_is_to_be_reported_again(
    smtp_script: ScriptedServer,
) -> None:
    grace = make_user()
    owe(grace)

    class Returning(list[Any]):
        def append(self, received: Any) -> None:
            super().append(received)
            with pytest.raises(bounces.StillBeingSent):
                came_back()
            connection.close()
            smtp_script.data_reply = "250 It came back"

    def came_back() -> None:
        [received] = smtp_script.messages
        told = {"message_id": received.message["Message-ID"], "address": grace.email, "words": "5.1.1 No such user", "now": NOW}
        actions.believe_provider(is_complaint=False, **told)

    smtp_script.messages = Returning()
    deliver(now=timezone.now())
    letter = Notification.objects.get()
    assert (letter.state, letter.last_words) == (State.SENT, "It came back")
    assert not Suppression.objects.exists()

    came_back()

    assert Notification.objects.get().state == State.FAILED
    assert Suppression.objects.get().failures == 1
