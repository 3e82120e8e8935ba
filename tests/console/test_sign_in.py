"""Signing in and out, and choosing a new password."""

import re
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from allauth.core.internal import ratelimit
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.core.cache import cache
from django.test import Client
from django.urls import NoReverseMatch, reverse

from notifications.models import Notification
from tests.factories import give, make_user
from users.models import LastSeen, Role, User

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def _unthrottled() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


def person(**fields: Any) -> User:
    user = make_user("Ada Admin", email="ada@tests.example", **{"role": Role.ADMIN, **fields})
    user.set_password(PASSWORD)
    user.save()
    return user


def sign_in(client: Client, **changed: str) -> Any:
    return client.post(reverse("account_login"), {"login": "ada@tests.example", "password": PASSWORD, **changed})


def test_the_right_password_signs_in(client: Client) -> None:
    person()

    response = sign_in(client, login="ADA@Tests.example")

    assert response["Location"] == "/"
    assert SESSION_KEY in client.session


def test_signing_in_leads_to_the_page_that_was_asked_for(client: Client) -> None:
    person()

    assert sign_in(client, next="/users/?role=ADMIN")["Location"] == "/users/?role=ADMIN"
    client.logout()
    assert sign_in(client, next="https://elsewhere.example/")["Location"] == "/"


def test_signing_in_counts_as_seen(client: Client) -> None:
    ada = person()

    sign_in(client)

    assert LastSeen.objects.filter(user=ada).exists()


@pytest.mark.parametrize("wrong", [{"password": "wrong"}, {"login": "nobody@tests.example"}])
def test_a_wrong_password_and_an_unknown_address_look_the_same(client: Client, wrong: dict[str, str]) -> None:
    person()

    response = sign_in(client, **wrong)

    assert response.status_code == 200
    assert b"The email address or the password is not right." in response.content
    assert SESSION_KEY not in client.session


@pytest.mark.parametrize("missing", ["login", "password"])
def test_both_fields_are_needed(client: Client, missing: str) -> None:
    person()

    assert b"This field is required." in sign_in(client, **{missing: ""}).content


def test_a_suspended_member_is_told_why_they_cannot_sign_in(client: Client) -> None:
    person(role=Role.MEMBER)

    response = sign_in(client)

    assert b"You have no products at the moment" in response.content
    assert SESSION_KEY not in client.session


def test_nobody_learns_from_a_wrong_password_that_someone_is_suspended(client: Client) -> None:
    person(role=Role.MEMBER)

    assert b"no products" not in sign_in(client, password="wrong").content


def test_a_member_with_a_product_signs_in(client: Client) -> None:
    give(person(role=Role.MEMBER), "meeting")

    assert sign_in(client).status_code == 302
    assert client.get("/", follow=True).redirect_chain == [("/me/", 302)]


def test_a_suspended_admin_signs_in(client: Client) -> None:
    person(role=Role.ADMIN)

    assert sign_in(client).status_code == 302


def test_who_was_deactivated_cannot_sign_in(client: Client) -> None:
    person(is_active=False)

    response = sign_in(client)

    assert b"Your account is switched off." in response.content
    assert SESSION_KEY not in client.session


def test_guessing_passwords_is_throttled(client: Client) -> None:
    person()
    for _guess in range(5):
        sign_in(client, password="wrong")

    response = sign_in(client)

    assert b"too many attempts" in response.content
    assert SESSION_KEY not in client.session


def test_whatever_a_guess_says_of_itself_it_counts(client: Client) -> None:
    """The Host as sent, capitals, spaces: all but where it comes from is its sender's to choose."""
    person()
    for n in range(5):
        sign_in(Client(HTTP_HOST=f"testserver:{8000 + n}"), password="wrong", login=" ADA@tests.example"[n % 2 :])

    assert b"too many attempts" in sign_in(Client(HTTP_HOST="TESTSERVER", HTTP_ACCEPT="application/json")).content
    assert b"too many attempts" in sign_in(client).content


def test_nobody_is_kept_out_by_guesses_from_elsewhere(client: Client) -> None:
    person()
    elsewhere = Client(REMOTE_ADDR="127.0.0.2")
    for _guess in range(6):
        sign_in(elsewhere, password="wrong")

    sign_in(client)

    assert SESSION_KEY in client.session


def test_guessing_from_many_places_is_throttled_in_the_end(client: Client, settings: Any) -> None:
    settings.ACCOUNT_RATE_LIMITS = {**settings.ACCOUNT_RATE_LIMITS, "login_failed_anywhere": "3/h/key"}
    person()
    for n in range(3):
        sign_in(Client(REMOTE_ADDR=f"127.0.1.{n}"), password="wrong")

    assert b"too many attempts" in sign_in(client).content


def test_an_ipv6_network_is_one_place(client: Client, settings: Any) -> None:
    settings.ACCOUNT_RATE_LIMITS = {**settings.ACCOUNT_RATE_LIMITS, "login_failed_anywhere": "6/h/key"}
    person()
    for n in range(1, 9):
        sign_in(Client(REMOTE_ADDR=f"2001:db8::{n}"), password="wrong")

    sign_in(client)

    assert SESSION_KEY in client.session


def test_an_ipv4_address_written_as_an_ipv6_one_is_a_place_of_its_own(client: Client) -> None:
    person()
    for _guess in range(6):
        sign_in(Client(REMOTE_ADDR="::ffff:192.0.2.1"), password="wrong")
    mine = Client(REMOTE_ADDR="::ffff:192.0.2.2")

    sign_in(mine)

    assert SESSION_KEY in mine.session


def test_a_few_places_keep_nobody_out(client: Client) -> None:
    """Thirty places, each guessing as often as it may, leave room for whom the account is."""
    rates = {action: ratelimit.get_rates(app="allauth.account", action=action) for action in settings.ACCOUNT_RATE_LIMITS}
    [place] = [rate for rate in rates["login_failed"] if rate.per == "key"]
    [anywhere] = rates["login_failed_anywhere"]

    assert anywhere.amount > 30 * place.amount * (anywhere.duration / place.duration)


def test_a_new_password_lets_in_whom_guesses_kept_out(client: Client, settings: Any) -> None:
    settings.ACCOUNT_RATE_LIMITS = {**settings.ACCOUNT_RATE_LIMITS, "login_failed_anywhere": "3/h/key"}
    person()
    for n in range(4):
        sign_in(Client(REMOTE_ADDR=f"127.0.1.{n}"), password="wrong")
    assert b"too many attempts" in sign_in(client).content

    choose_password(client, "a new battery staple")

    assert sign_in(client, password="a new battery staple").status_code == 302


def test_a_new_password_lets_in_whom_their_own_guesses_kept_out(client: Client) -> None:
    person()
    for _guess in range(5):
        sign_in(client, password="wrong")
    assert b"too many attempts" in sign_in(client).content

    choose_password(Client(HTTP_HOST="testserver:8000"), "a new battery staple")

    assert sign_in(client, password="a new battery staple").status_code == 302


def test_guessing_from_one_place_at_many_addresses_is_throttled(client: Client) -> None:
    statuses = {sign_in(client, login=f"guess{n}@tests.example", password="wrong").status_code for n in range(31)}

    assert 429 in statuses


def test_nobody_signs_up(client: Client) -> None:
    with pytest.raises(NoReverseMatch):
        reverse("account_signup")
    assert client.get("/accounts/signup/").status_code == 404
    assert b"ign up" not in client.get(reverse("account_login")).content


def test_signing_out_takes_a_post(client: Client) -> None:
    client.force_login(person())

    assert client.get(reverse("account_logout")).status_code == 200
    assert SESSION_KEY in client.session
    assert client.post(reverse("account_logout"))["Location"] == reverse("account_login")
    assert SESSION_KEY not in client.session


def test_a_new_password_is_chosen_by_a_link_sent_by_email(client: Client) -> None:
    person()

    saved = choose_password(client, "a new battery staple")

    assert saved["Location"] == reverse("account_reset_password_from_key_done")
    assert sign_in(client).status_code == 200
    assert sign_in(client, password="a new battery staple").status_code == 302


def test_the_link_is_owed_like_every_email_in_the_language_of_its_reader(client: Client) -> None:
    ada = person(language="fr")

    client.post(reverse("account_reset_password"), {"email": "ada@tests.example"})

    owed = Notification.objects.get()
    assert (owed.user, owed.language, owed.state) == (ada, "fr", "QUEUED")
    assert owed.message
    assert "/accounts/password/reset/key/" in owed.message["text"]
    assert "/accounts/password/reset/key/" in owed.message["html"]
    assert "\n" not in owed.message["subject"]


@pytest.mark.parametrize(("language", "written"), [("de", "de"), ("", "en")])
def test_the_link_is_written_in_a_language_that_there_is(client: Client, language: str, written: str) -> None:
    person(language=language)

    client.post(reverse("account_reset_password"), {"email": "ada@tests.example"})

    assert Notification.objects.get().language == written


def test_a_link_works_once(client: Client) -> None:
    ada = person()
    client.post(reverse("account_reset_password"), {"email": "ada@tests.example"})
    link = re.search(rf"{settings.CONSOLE_URL}(/\S+)", reset_letter())
    assert link
    ada.set_password("set meanwhile by someone")
    ada.save()

    assert b"This link no longer works" in client.get(link[1], follow=True).content


def test_an_unknown_address_is_answered_the_same_and_gets_no_email(client: Client) -> None:
    response = client.post(reverse("account_reset_password"), {"email": "nobody@tests.example"})

    assert response["Location"] == reverse("account_reset_password_done")
    assert not Notification.objects.exists()


@pytest.mark.parametrize(("email", "owed"), [("ada@tests.example", 6), ("nobody@tests.example", 0)])
def test_nobody_is_flooded_with_links_nor_told_who_has_an_account(monkeypatch: pytest.MonkeyPatch, email: str, owed: int) -> None:
    clock: Any = SimpleNamespace(now=time.time(), time=lambda: clock.now, monotonic=time.monotonic, sleep=time.sleep)
    monkeypatch.setattr(ratelimit, "time", clock)
    person()
    answers = []
    for n, minutes in enumerate([0, 10, 10, 10, 10, 10, 60]):
        clock.now += minutes * 60
        answers.append(Client(REMOTE_ADDR=f"127.0.1.{n}").post(reverse("account_reset_password"), {"email": email}))

    assert [answer.status_code for answer in answers] == [302, 302, 302, 302, 302, 429, 302]
    assert b"Please wait a few minutes and try again." in answers[5].content
    assert Notification.objects.count() == owed


def test_a_weak_new_password_is_refused(client: Client) -> None:
    person()

    assert b"at least 12 characters" in choose_password(client, "short").content


@pytest.mark.parametrize("name", ["account_login", "account_reset_password"])
def test_the_pages_open(client: Client, name: str) -> None:
    response = client.get(reverse(name))

    assert response.status_code == 200
    assert b"<h1>" in response.content


def reset_letter() -> str:
    """Return the text of the email with the link."""
    message = Notification.objects.latest("id").message
    assert message
    return str(message["text"])


def choose_password(client: Client, password: str) -> Any:
    """Ask for the email with the link, and post the password where it leads to."""
    asked = client.post(reverse("account_reset_password"), {"email": "ada@tests.example"})
    assert asked["Location"] == reverse("account_reset_password_done")
    link = re.search(rf"{settings.CONSOLE_URL}(/\S+)", reset_letter())
    assert link
    form = client.get(link[1], follow=True)
    return client.post(form.request["PATH_INFO"], {"password1": password, "password2": password})
