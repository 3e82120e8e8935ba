"""The page Test inbox."""

from typing import Any

import pytest
from django.test import Client

from notifications.models import SinkMessage
from notifications.sink import is_confidential
from tests.factories import make_user
from users.models import Role

pytestmark = pytest.mark.django_db

RAW = b"""From: console@127.0.0.1\r
To: %(to)s\r
Subject: %(subject)s\r
MIME-Version: 1.0\r
Content-Type: multipart/alternative; boundary="b"\r
\r
--b\r
Content-Type: text/plain; charset="utf-8"\r
\r
Look at https://support.goto.com/meeting <script>alert(1)</script>\r
--b\r
Content-Type: text/html; charset="utf-8"\r
\r
<html><head></head><body style="color:red"><script>alert(1)</script><a href="https://support.goto.com/meeting">Look</a></body></html>\r
--b--\r
"""


def received(to: str = "grace@people.example", subject: str = "Hello") -> SinkMessage:
    raw = RAW % {b"to": to.encode(), b"subject": subject.encode()}
    return SinkMessage.objects.create(sender="console@127.0.0.1", recipients=[to], raw=raw)


@pytest.fixture
def admin(client: Client) -> Client:
    client.force_login(make_user(role=Role.ADMIN))
    return client


def test_it_lists_what_was_received_newest_first(admin: Client) -> None:
    received(subject="First")
    received(subject="<b>Second</b>")

    page = admin.get("/inbox/").content.decode()

    assert page.index("&lt;b&gt;Second&lt;/b&gt;") < page.index("First")


def test_it_says_when_there_is_nothing(admin: Client) -> None:
    assert "No email yet" in admin.get("/inbox/").content.decode()
    assert "Nothing found" in admin.get("/inbox/?search=nobody").content.decode()


def test_it_finds_by_recipient(admin: Client) -> None:
    received("grace@people.example", "For Grace")
    received("ada@people.example", "For Ada")

    page = admin.get("/inbox/?search= GRACE@ ").content.decode()

    assert "For Grace" in page
    assert "For Ada" not in page
    assert admin.get("/inbox/?search=%00%25_'\"").status_code == 200


@pytest.mark.parametrize("size", [3, 120])
def test_it_costs_the_same_for_few_and_many(admin: Client, size: int, django_assert_max_num_queries: Any) -> None:
    for _ in range(size):
        received()
    admin.get("/inbox/")  # the first page of a session also notes who was seen

    with django_assert_max_num_queries(8):
        page = admin.get("/inbox/?page=2&search=people").content.decode()

    assert (">51–100 of 120<" in page) == (size == 120)


def test_a_message_is_shown_as_text_with_links_and_nothing_that_runs(admin: Client) -> None:
    page = admin.get(f"/inbox/{received().pk}/?part=text").content.decode()

    assert '<a href="https://support.goto.com/meeting"' in page
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_message_is_shown_as_html_in_a_frame_that_can_do_nothing(admin: Client) -> None:
    message = received()

    page = admin.get(f"/inbox/{message.pk}/")
    frame = admin.get(f"/inbox/{message.pk}/html/")

    assert f'src="/inbox/{message.pk}/html/"' in page.content.decode()
    assert "frame-src 'self'" in page["Content-Security-Policy"]
    assert "style-src 'self'" in page["Content-Security-Policy"]
    assert 'style="color:red"' in frame.content.decode()
    policy = frame["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "style-src 'unsafe-inline'" in policy
    assert "sandbox allow-popups" in policy
    assert "script-src" not in policy
    assert frame["X-Frame-Options"] == "SAMEORIGIN"
    assert "unsafe-inline" not in admin.get("/inbox/")["Content-Security-Policy"]


def test_there_is_none_with_a_real_mail_server(admin: Client, settings: Any) -> None:
    message = received()
    settings.MAIL_SINK = False

    for url in ("/inbox/", f"/inbox/{message.pk}/", f"/inbox/{message.pk}/html/"):
        assert admin.get(url).status_code == 404


def test_an_unknown_message_is_not_found(admin: Client) -> None:
    assert admin.get("/inbox/999999999/").status_code == 404
    assert admin.get("/inbox/999999999/html/").status_code == 404


def test_who_may_not_see_notifications_gets_a_403(client: Client) -> None:
    assert client.get("/inbox/").status_code == 302
    client.force_login(make_user(role=Role.MANAGER))
    assert client.get("/inbox/").status_code == 403
    assert client.get(f"/inbox/{received().pk}/html/").status_code == 403


def test_it_cannot_be_written_to(admin: Client) -> None:
    assert admin.post("/inbox/").status_code == 405


def test_what_lets_its_reader_in_is_confidential() -> None:
    def of(kind: str) -> bool:
        return is_confidential(f"To: a@b.example\r\nMessage-ID: <{kind}.1.2@c.example>\r\n\r\nHello\r\n".encode())

    assert [kind for kind in ("account", "invitation", "change", "onboarding", "other") if of(kind)] == ["account", "invitation"]
    assert not is_confidential(b"To: a@b.example\r\n\r\nHello\r\n")


@pytest.mark.parametrize("role", [Role.ADMIN, Role.SUPPORT])
def test_a_link_to_a_new_password_is_not_for_everyone_who_sees_emails(client: Client, role: str) -> None:
    secret = received("boss@people.example", "Choose a new password")
    SinkMessage.objects.update(confidential=True)
    client.force_login(make_user(role=role))

    assert "Choose a new password" not in client.get("/inbox/?search=boss").content.decode()
    for path in (f"/inbox/{secret.pk}/", f"/inbox/{secret.pk}/?part=text", f"/inbox/{secret.pk}/html/"):
        assert client.get(path).status_code == 404

    client.force_login(make_user(role=Role.SUPER_ADMIN))
    assert client.get(f"/inbox/{secret.pk}/").status_code == 200


@pytest.mark.parametrize("charset", ["bogus", "idna", "rot13", "unicode_escape"])
def test_a_message_that_cannot_be_read_is_shown_as_well_as_it_goes(admin: Client, charset: str) -> None:
    message = received(subject="=?unicode_escape?q?=5Cud800?=")
    raw = bytes(message.raw).replace(b"utf-8", charset.encode()).replace(b"Look at", b"\\ud800 Look at")
    SinkMessage.objects.update(raw=raw)

    assert admin.get("/inbox/").status_code == 200
    for path in (f"/inbox/{message.pk}/", f"/inbox/{message.pk}/?part=text", f"/inbox/{message.pk}/html/"):
        assert admin.get(path).status_code == 200
