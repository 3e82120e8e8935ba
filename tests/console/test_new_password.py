"""A new password that somebody chooses while others change them: each test commits in a database of its own."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from allauth.account.models import EmailAddress
from django.conf import settings
from django.contrib.auth import base_user
from django.contrib.auth.hashers import check_password, make_password
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils.timezone import now

from admin_console.views import account
from notifications.models import Notification
from products.erasure import erase_user
from tests.database import Database, waits_for_lock
from tests.factories import NOW, make_user
from tests.processes import wait_until
from users import actions, models
from users.invitations import token_of
from users.models import Action, AdminAction, Role, User

OLD, NEW = "correct horse battery", "a new battery staple"


@pytest.fixture
def sue(committed_db: Database) -> User:
    """Return a Super admin."""
    return make_user("Sue Super", role=Role.SUPER_ADMIN)


@pytest.fixture
def ada(committed_db: Database) -> User:
    """Return an admin who knows their password."""
    return make_user("Ada Admin", email="ada@tests.example", role=Role.ADMIN, password=make_password(OLD))


def opened_link(client: Client) -> str:
    """Ask for the email with the link, open that, and return where the new password is posted."""
    client.post(reverse("account_reset_password"), {"email": "ada@tests.example"})
    message = Notification.objects.latest("id").message
    assert message
    link = re.search(rf"{settings.CONSOLE_URL}(/\S+)", str(message["text"]))
    assert link
    return client.get(link[1], follow=True).request["PATH_INFO"]


def while_hashed(monkeypatch: pytest.MonkeyPatch, verb: Callable[[], Any]) -> None:
    """Let the verb happen, on a connection of its own, while the next password that is chosen is made a hash."""
    left = [verb]

    def meanwhile() -> None:
        try:
            left.pop()()
        finally:
            connection.close()

    def hashed(password: str | None) -> str:
        if password is not None and left:
            with ThreadPoolExecutor(1) as threads:
                threads.submit(meanwhile).result(20)
        return make_password(password)

    for module in (base_user, models):
        monkeypatch.setattr(module, "make_password", hashed)


def row(user: User) -> dict[str, Any]:
    return dict(User.objects.filter(pk=user.pk).values().get())


def edited(sue: User, ada: User) -> None:
    actions.edit_user(actor=sue, user=ada, first_name="Ada", last_name="Admin", email="new@tests.example")


def corrected(sue: User, ada: User) -> None:
    edited(ada, ada)  # as whoever may correct their own: the password stays


def erased(sue: User, ada: User) -> None:
    erase_user(actor=sue, user=ada, now=NOW)


def deactivated(sue: User, ada: User) -> None:
    User.objects.filter(pk=ada.pk).update(is_active=False)


def chosen(sue: User, ada: User) -> None:
    User.objects.filter(pk=ada.pk).update(password=make_password("chosen by another link"))


@pytest.mark.parametrize("verb", [edited, corrected, erased, deactivated, chosen])
def test_what_ends_a_link_meanwhile_is_not_undone_by_it(
    monkeypatch: pytest.MonkeyPatch, client: Client, sue: User, ada: User, verb: Callable[[User, User], None]
) -> None:
    if verb is corrected:
        User.objects.filter(pk=ada.pk).update(role=Role.SUPER_ADMIN)
        ada.refresh_from_db()
    where, between = opened_link(client), []

    def meanwhile() -> None:
        verb(sue, ada)
        between.append(row(ada))

    while_hashed(monkeypatch, meanwhile)
    response = client.post(where, {"password1": NEW, "password2": NEW})

    assert (response.status_code, b"This link no longer works" in response.content) == (410, True)
    assert [row(ada)] == between
    assert not AdminAction.objects.filter(action=Action.USER_PASSWORD_SET).exists()
    assert not EmailAddress.objects.exists()


def test_a_role_taken_meanwhile_stays_taken_and_the_password_is_the_new_one(
    monkeypatch: pytest.MonkeyPatch, client: Client, sue: User, ada: User
) -> None:
    where, before = opened_link(client), row(ada)
    while_hashed(monkeypatch, lambda: actions.change_role(actor=sue, user=ada, role=Role.SUPPORT))

    response = client.post(where, {"password1": NEW, "password2": NEW})

    after = row(ada)
    assert response["Location"] == reverse("account_reset_password_from_key_done")
    assert check_password(NEW, after["password"])
    assert after == {**before, "role": Role.SUPPORT, "password": after["password"]}
    recorded = AdminAction.objects.filter(subject_id=ada.pk).order_by("-id")[0]
    assert (recorded.action, recorded.actor, recorded.words) == (Action.USER_PASSWORD_SET, ada, {"from": "127.0.0.1"})


def test_a_password_waits_for_who_changes_the_user_and_looks_again(
    committed_db: Database, superuser_connection: psycopg.Connection, client: Client, sue: User, ada: User
) -> None:
    where = opened_link(client)

    def choose() -> Any:
        try:
            return client.post(where, {"password1": NEW, "password2": NEW})
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as threads, psycopg.connect(committed_db.console) as other:
        other.execute("UPDATE users_user SET email = 'new@tests.example' WHERE id = %s", [ada.pk])
        response = threads.submit(choose)
        wait_until(lambda: waits_for_lock(superuser_connection), 10)
        other.commit()
        assert response.result(20).status_code == 410

    assert (row(ada)["email"], check_password(OLD, row(ada)["password"])) == ("new@tests.example", True)


def test_who_accepts_an_invitation_is_not_signed_in_as_who_has_another_address_meanwhile(
    monkeypatch: pytest.MonkeyPatch, client: Client, sue: User
) -> None:
    ada = make_user("Ada Admin", email="ada@tests.example", role=Role.ADMIN, password="!never chosen")
    monkeypatch.setattr(account, "prefer", lambda **_preferences: edited(sue, ada))
    where = reverse("accept_invitation", args=[token_of(ada, invited_at=now())])

    response = client.post(where, {"new_password1": NEW, "new_password2": NEW, "language": "", "time_zone": ""})

    assert response["Location"] == reverse("me")
    assert client.get(reverse("me")).status_code == 302  # to sign in


def test_a_hash_that_is_made_anew_at_signing_in_takes_no_new_password_back(
    monkeypatch: pytest.MonkeyPatch, settings: Any, client: Client, ada: User
) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.ScryptPasswordHasher", *settings.PASSWORD_HASHERS]
    while_hashed(monkeypatch, lambda: User.objects.filter(pk=ada.pk).update(password=make_password(NEW)))
    client.post(reverse("account_login"), {"login": ada.email, "password": OLD})

    assert check_password(NEW, row(ada)["password"])
    assert client.get("/users/").status_code == 302  # signed out again

    User.objects.filter(pk=ada.pk).update(password=make_password(OLD, hasher="md5"))
    client.post(reverse("account_login"), {"login": ada.email, "password": OLD})

    assert row(ada)["password"].startswith("scrypt$")
    assert client.get("/users/").status_code == 200


def test_whom_the_start_lets_in_keeps_what_they_became_meanwhile(
    committed_db: Database, superuser_connection: psycopg.Connection
) -> None:
    ada = make_user("Ada Lovlace", email="ada@tests.example")

    def begin() -> bool:
        try:
            return actions.ensure_first_super_admin(email=ada.email, password=NEW, now=NOW)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as threads, psycopg.connect(committed_db.console) as other:
        other.execute("UPDATE users_user SET last_name = 'Lovelace' WHERE id = %s", [ada.pk])
        begun = threads.submit(begin)
        wait_until(lambda: waits_for_lock(superuser_connection), 10)
        other.commit()
        assert begun.result(20)

    assert (row(ada)["last_name"], row(ada)["role"]) == ("Lovelace", Role.SUPER_ADMIN)
