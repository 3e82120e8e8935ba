"""Every view says who may see it, and what happens to those who may not."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import SESSION_KEY
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, path

from admin_console.access import may_sign_in, public, requires
from tests.factories import give, make_user
from users.models import Action, AdminAction, Capability, LastSeen, Role, User

pytestmark = pytest.mark.django_db


def every_pattern(resolver: URLResolver, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLPattern):
            yield prefix + str(pattern.pattern), pattern.callback
        else:
            yield from every_pattern(pattern, prefix + str(pattern.pattern))


def says_who(view: Any) -> bool:
    """Return whether a view says who may see it: ours by a decorator, Django admin's by asking its site."""
    return hasattr(view, "access") or hasattr(view, "admin_site") or hasattr(view, "model_admin")


def test_every_view_says_who_may_see_it() -> None:
    silent = [where for where, view in every_pattern(get_resolver()) if not says_who(view)]

    assert silent == ["admin/login/"]  # Django admin's own, never reached: ours comes before it


def test_django_admin_has_no_sign_in_of_its_own(client: Client) -> None:
    assert client.get("/admin/login/?next=/admin/users/").headers["Location"] == "/accounts/login/?next=/admin/users/"


def test_a_view_that_says_nothing_is_found() -> None:
    def silent(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    assert not says_who(path("x/", silent).callback)
    assert says_who(path("x/", public(silent)).callback)
    assert says_who(path("x/", requires(Capability.VIEW_USERS)(silent)).callback)


def test_who_is_signed_out_comes_back_after_signing_in(client: Client) -> None:
    response = client.get("/users/?role=ADMIN&page=2")

    assert response.status_code == 302
    assert response["Location"] == "/accounts/login/?next=/users/%3Frole%3DADMIN%26page%3D2"


def test_who_is_signed_out_in_a_fragment_comes_back_to_the_page(client: Client) -> None:
    page = {"HX-Request": "true", "HX-Current-URL": "http://testserver/users/?role=ADMIN"}

    response = client.post("/users/selection/ticks/", {"of": "1"}, headers=page)

    assert response.status_code == 200
    assert response["HX-Redirect"] == "/accounts/login/?next=/users/%3Frole%3DADMIN"


def test_an_address_that_is_none_leads_home(client: Client) -> None:
    broken = {"HX-Request": "true", "HX-Current-URL": "http://["}

    assert client.get("/users/", headers=broken)["HX-Redirect"] == "/accounts/login/?next=/"
    assert client.post("/users/selection/clear/", headers={"Referer": "http://["})["Location"].endswith("?next=/")


def test_a_new_password_that_is_not_owed_was_not_asked_for(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise OperationalError

    monkeypatch.setattr("admin_console.access.owe_password_link", fail)
    with pytest.raises(OperationalError):
        client.post("/accounts/password/reset/", {"email": give(make_user(role=Role.ADMIN), "meeting").email})

    assert not AdminAction.objects.filter(action=Action.USER_PASSWORD_ASKED).exists()


def test_who_is_signed_out_at_a_write_comes_back_to_the_form(client: Client) -> None:
    before = {"Referer": "http://testserver/users/?page=3"}
    elsewhere = {"Referer": "https://elsewhere.example/users/?page=3"}

    assert client.post("/users/selection/clear/", headers=before)["Location"].endswith("?next=/users/%3Fpage%3D3")
    assert client.post("/users/selection/clear/", headers=elsewhere)["Location"].endswith("?next=/")


def test_a_role_without_the_capability_gets_a_403_that_says_so(client: Client) -> None:
    client.force_login(give(make_user("Mia Member"), "meeting"))

    response = client.get("/users/")

    assert response.status_code == 403
    assert "Your role does not include this: See users and what they hold." in response.content.decode()


def test_a_fragment_without_the_capability_is_a_toast(client: Client) -> None:
    client.force_login(make_user(role=Role.SUPPORT))

    response = client.post("/users/selection/clear/", headers={"HX-Request": "true"})

    assert response.status_code == 403
    assert response["HX-Retarget"] == "#toasts"
    assert b"<html" not in response.content


def test_unknown_pages_are_404(client: Client) -> None:
    response = client.get("/nothing/here/")

    assert response.status_code == 404
    assert b"it is not yours to see" in response.content


def test_a_form_without_its_token_is_refused_with_a_sentence() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user(role=Role.ADMIN))

    response = client.post("/users/selection/clear/")

    assert response.status_code == 403
    assert b"nothing was changed" in response.content


@pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}])
def test_a_database_that_is_gone_is_a_503_that_asks_to_try_again(
    client: Client, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    def gone(*_args: Any, **_named: Any) -> None:
        raise OperationalError("server closed the connection unexpectedly")

    client.force_login(make_user(role=Role.ADMIN))
    client.raise_request_exception = False
    monkeypatch.setattr("admin_console.views.manage_users.Choices.of", gone)

    response = client.get("/users/", headers=headers)

    assert response.status_code == 503
    assert response["Retry-After"] == "5"
    assert b"The database does not answer" in response.content
    assert b"connection unexpectedly" not in response.content


def test_any_other_failure_is_a_500_without_its_inside(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    client.force_login(make_user(role=Role.ADMIN))
    client.raise_request_exception = False
    monkeypatch.setattr("admin_console.views.manage_users.Choices.of", lambda _actor: 1 / 0)

    response = client.get("/users/")

    assert response.status_code == 500
    assert b"has been logged" in response.content
    assert b"division" not in response.content


def test_signed_in_pages_are_kept_in_no_cache(client: Client) -> None:
    client.force_login(make_user(role=Role.ADMIN))

    assert "no-store" in client.get("/users/")["Cache-Control"]
    assert "no-store" not in Client().get("/accounts/password/reset/done/").get("Cache-Control", "")


@pytest.mark.parametrize(
    ("role", "active", "holds", "may"),
    [
        (Role.MEMBER, True, ["meeting"], True),
        (Role.MEMBER, True, [], False),
        (Role.MEMBER, False, ["meeting"], False),
        (Role.MANAGER, True, [], True),
        (Role.SUPER_ADMIN, True, [], True),
        (Role.SUPPORT, False, [], False),
    ],
)
def test_who_may_sign_in(role: str, active: bool, holds: list[str], may: bool) -> None:
    user = make_user(role=role, is_active=active)
    if holds:
        give(user, *holds)

    assert may_sign_in(User.objects.get(pk=user.pk)) is may


def test_a_member_who_is_suspended_meanwhile_is_signed_out(client: Client) -> None:
    mia = give(make_user("Mia Member"), "meeting")
    client.force_login(mia)
    assert client.get("/me/").status_code == 200

    give(mia)

    assert client.get("/me/")["Location"] == "/accounts/login/?next=/me/"
    assert SESSION_KEY not in client.session


def test_who_is_deactivated_meanwhile_is_signed_out(client: Client) -> None:
    ada = make_user("Ada Admin", role=Role.ADMIN)
    client.force_login(ada)

    User.objects.filter(pk=ada.pk).update(is_active=False)

    assert client.get("/users/")["Location"] == "/accounts/login/?next=/users/"


def test_a_request_marks_its_user_as_seen(client: Client) -> None:
    ada = make_user("Ada Admin", role=Role.ADMIN, seen=timedelta(days=3))
    client.force_login(ada)

    client.get("/users/")
    first = LastSeen.objects.get(user=ada).at
    client.get("/users/")

    assert first > LastSeen.objects.get(user=ada).first_at
    assert LastSeen.objects.get(user=ada).at == first


def test_the_start_page_of_a_role_that_opens_the_console_is_manage_users(client: Client) -> None:
    for role in (Role.MANAGER, Role.ADMIN, Role.SUPER_ADMIN, Role.SUPPORT):
        client.force_login(make_user(role=role))
        assert client.get("/")["Location"] == "/users/"


def test_the_start_page_of_a_member_says_what_they_hold(client: Client) -> None:
    client.force_login(give(make_user("Mia Member"), "meeting"))

    response = client.get("/", follow=True)

    assert response.redirect_chain == [("/me/", 302)]
    assert b"GoTo Meeting" in response.content
    assert b"GoTo Webinar" not in response.content


def test_the_style_guide_is_for_developers_only(client: Client, settings: Any) -> None:
    assert client.get("/styleguide/").status_code == 404
    settings.STYLEGUIDE = True
    assert client.get("/styleguide/").status_code == 200
