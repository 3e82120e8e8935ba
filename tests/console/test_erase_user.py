"""The page on which a user is erased: what it says, what has to be typed, and who may."""

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests.factories import change, make_user, make_users
from users.actions import edit_user
from users.models import Action, AdminAction, Role, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada(client: Client) -> User:
    """Return a Super admin who is signed in."""
    ada = make_user("Ada Admin", role=Role.SUPER_ADMIN)
    client.force_login(ada)
    return ada


@pytest.fixture
def grace() -> User:
    return make_user("Grace Hopper", email="grace@tests.example")


def test_the_email_typed_erases_the_user(client, ada, grace):
    page = reverse("erase_user", args=[grace.pk])
    assert page in client.get(reverse("user", args=[grace.pk])).text
    assert "Erase Grace Hopper" in client.get(page).text

    answer = client.post(page, {"email": "Grace@tests.example "}, follow=True)
    assert f"Erased user #{grace.pk}" in answer.text
    assert "Grace" not in answer.text
    assert page not in answer.text
    assert reverse("user_products", args=[grace.pk]) not in answer.text
    assert client.get(reverse("user_products", args=[grace.pk])).status_code == 403
    assert AdminAction.objects.get(action=Action.USER_ERASED).actor == ada
    assert client.get(page).status_code == 404


def test_the_page_says_what_else_is_found_by_names_that_any_admin_may_have_edited(client, ada, grace):
    page = reverse("erase_user", args=[grace.pk])
    assert "about others" not in client.get(page).text
    assert "called before" not in client.get(page).text

    eve = make_user("Eve Admin", role=Role.ADMIN)
    edit_user(actor=eve, user=grace, first_name="Ask", last_name="Mallory", email="grace@tests.example")
    edit_user(actor=eve, user=grace, first_name="Grace", last_name="Hopper", email="grace@tests.example")
    change(eve, make_users(1), "meeting", reason="Ask Mallory")
    text = client.get(page).text
    assert "as they were called before, too: Ask Mallory." in text
    assert "2 records that are about others name them" in text


def test_what_somebody_was_called_before_is_read_once_a_page(client, ada, grace):
    page = reverse("erase_user", args=[grace.pk])
    for ask in (client.get, client.post):
        with CaptureQueriesContext(connection) as asked:
            ask(page)
        assert sum(Action.USER_EDITED in query["sql"] for query in asked) == 1


def test_anything_else_typed_erases_nothing(client, ada, grace):
    for typed in ("", "Grace Hopper", "ada@tests.example"):
        answer = client.post(reverse("erase_user", args=[grace.pk]), {"email": typed})
        assert answer.status_code == 422
        assert "This is not the email of this user." in answer.text

    grace.refresh_from_db()
    assert grace.name == "Grace Hopper"


def test_the_last_super_admin_cannot_be_erased(client, ada):
    answer = client.post(reverse("erase_user", args=[ada.pk]), {"email": ada.email})

    assert answer.status_code == 422
    assert "last Super admin" in answer.text
    assert User.objects.get(pk=ada.pk).name == "Ada Admin"


@pytest.mark.parametrize("role", [Role.MANAGER, Role.ADMIN, Role.SUPPORT])
def test_others_may_not_erase(client, grace, role):
    client.force_login(make_user(role=role))
    page = reverse("erase_user", args=[grace.pk])

    assert client.get(page).status_code == 403
    assert client.post(page, {"email": grace.email}).status_code == 403
    assert User.objects.get(pk=grace.pk).name == "Grace Hopper"


def test_who_is_signed_out_is_asked_to_sign_in(client, grace):
    assert client.post(reverse("erase_user", args=[grace.pk])).status_code == 302


def test_nobody_is_not_found(client, ada):
    assert client.get(reverse("erase_user", args=[999_999])).status_code == 404
