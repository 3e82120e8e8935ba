"""Several clicks at once: each test commits in a database of its own."""

import pytest
from django.test import Client

from notifications import actions, customising
from notifications.message_ids import message_id_of
from notifications.models import Notification, State, Suppression, Wording
from tests.factories import NOW, give, make_user
from tests.notifications.test_customising import save
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
    told = {"message_id": letter.message_id, "address": grace.email, "words": "5.1.1 No such user", "now": NOW}

    at_once(*[lambda: actions.believe_provider(is_complaint=False, **told)] * 6)

    assert Suppression.objects.get().failures == 1
