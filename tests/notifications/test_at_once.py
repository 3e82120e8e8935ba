"""Several clicks, reports and senders at once: each test commits in a database of its own."""

from typing import Any

import psycopg
import pytest
from django.test import Client
from django.utils import timezone

from notifications import actions, customising
from notifications.message_ids import message_id_of
from notifications.models import Notification, State, Suppression, Wording
from tests.database import Database
from tests.factories import NOW, change, give, make_user
from tests.mail import ScriptedServer
from tests.notifications.test_customising import save
from tests.notifications.test_delivery import LATER, deliver
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
