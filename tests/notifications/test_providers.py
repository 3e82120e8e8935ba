"""What mail providers ask of senders: to sign in, and to put up with their limits."""

from typing import Any

import pytest

from notifications import actions
from notifications.models import MailServer, Notification, State
from tests.factories import make_user, make_users
from tests.mail import ScriptedServer
from tests.notifications.test_delivery import NOW, deliver, fate, owe, states

pytestmark = pytest.mark.django_db
LOGIN = ("postmaster@console.example", "app pass=word")


def sign_in_with(settings: Any, name: str, password: str) -> None:
    """Tell senders how to sign in."""
    mailer = settings.MAILERS["default"]
    options = {**mailer["OPTIONS"], "username": name, "password": password}
    settings.MAILERS = {"default": {**mailer, "OPTIONS": options}}


@pytest.mark.parametrize("mechanisms", ["PLAIN", "LOGIN", "XOAUTH2 LOGIN PLAIN"])
def test_senders_sign_in_as_the_server_offers_it(smtp_script: ScriptedServer, settings: Any, mechanisms: str) -> None:
    smtp_script.login, smtp_script.mechanisms = LOGIN, mechanisms
    sign_in_with(settings, *LOGIN)
    grace = make_user()
    owe(grace)

    deliver()

    assert fate(grace).state == State.SENT
    assert len(smtp_script.to(grace.email)) == 1


@pytest.mark.parametrize(
    ("name", "password", "words"),
    [
        (LOGIN[0], "wrong", "5.7.8 Username and password not accepted"),
        ("", "", "5.7.0 Authentication required"),
    ],
)
def test_who_is_not_signed_in_keeps_every_email_and_says_why(
    smtp_script: ScriptedServer, settings: Any, name: str, password: str, words: str
) -> None:
    smtp_script.login = LOGIN
    sign_in_with(settings, name, password)
    users = make_users(2)
    owe(*users)

    deliver()

    assert smtp_script.messages == []
    assert states(users) == [State.DEFERRED] * 2
    assert [fate(user).attempts for user in users] == [0, 0]
    assert MailServer.objects.get().last_words == words


@pytest.mark.parametrize("pipelining", [True, False])
def test_a_limit_for_each_connection_takes_more_connections(smtp_script: ScriptedServer, pipelining: bool) -> None:
    smtp_script.per_connection, smtp_script.pipelining = 2, pipelining
    users = make_users(11)
    owe(*users)

    assert actions.deliver_due(now=NOW)
    assert (len(smtp_script.messages), smtp_script.connections) == (2 * actions.CONNECTIONS, actions.CONNECTIONS)
    deliver()

    assert states(users) == [State.SENT] * 11
    assert [len(smtp_script.to(user.email)) for user in users] == [1] * 11
    assert set(Notification.objects.values_list("attempts", "possible_duplicate")) == {(1, False)}
    assert not MailServer.objects.filter(slowed_at__isnull=False).exists()


def test_a_server_without_extensions_is_told_in_short_lines_of_ascii(smtp_script: ScriptedServer) -> None:
    smtp_script.pipelining = False
    zoe = make_user("Zoë Ångström-Ünlü-Łukasiewicz", language="fr")
    owe(zoe)

    deliver()

    [received] = smtp_script.to(zoe.email)
    assert received.raw.isascii()
    assert max(map(len, received.raw.splitlines())) <= 78
    assert zoe.name in received.text
