"""The page of one email: its fate, and what it said, written again; and the ways to it from a user and from a change."""

import re
import uuid
from dataclasses import replace
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.utils.timezone import now

from notifications import customising, people
from notifications.actions import deliver_due
from notifications.emails import KINDS
from notifications.models import MailIdentity, MailServer, Notification, State, Suppression, Wording
from products.models import BulkChange
from tests.console.pages import shown
from tests.console.test_notifications import owed
from tests.factories import NOW, change, give, ids, make_group, make_user, undo
from users.models import Role, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def grace() -> User:
    return make_user("Grace Hopper", email="grace@people.example", language="en")


@pytest.fixture
def letter(ada: User, grace: User) -> Notification:
    """Return the email that told Grace of a change, sent in the console's own words."""
    give(grace, "rescue")
    change(ada, [grace], "meeting", notify=True, now=now())
    letter = Notification.objects.get(user=grace, kind="CHANGE")
    fate = {"state": State.SENT, "sent_at": now(), "to_address": grace.email, "language": "en", "version": 0, "attempts": 1}
    Notification.objects.filter(pk=letter.pk).update(
        **fate, last_code=250, last_words="2.0.0 Queued as 4711", subject="As it was"
    )
    return letter


def text_of(client: Client, letter: Notification) -> str:
    return shown(client.get(f"/notifications/{letter.pk}/?part=text"))


def test_it_tells_its_fate(client: Client, ada: User, grace: User, letter: Notification) -> None:
    Notification.objects.filter(pk=letter.pk).update(possible_duplicate=True, message_id="<change.1.2@console.example>")

    words = shown(client.get(f"/notifications/{letter.pk}/"))

    assert f"Change of products · Change #{letter.about} Sent possible duplicate" in words
    assert "User Grace Hopper grace@people.example State Sent possible duplicate Owed" in words
    assert "Attempts 1 The server’s last words 250 2.0.0 Queued as 4711 Language English" in words
    assert "Message-ID &lt;change.1.2@console.example&gt;" in words
    assert "nobody can know whether the server had it already" in words


def test_nobody_reads_the_seal_of_a_message_id_on_any_page(client: Client, letter: Notification, reader: User) -> None:
    shown_as, seal = f"<change.{letter.about}.{letter.user_id}@console.example>", "0123456789abcdef"
    Notification.objects.filter(pk=letter.pk).update(message_id=shown_as.replace("@", f".{seal}@"))

    for listing, one in [
        ("/notifications/?search=", f"/notifications/{letter.pk}/"),
        ("/admin/notifications/notification/?q=", f"/admin/notifications/notification/{letter.pk}/change/"),
    ]:
        page, found = (unescape(client.get(each).content.decode()) for each in (one, listing + shown_as))
        assert shown_as in page
        assert one in found
        assert seal not in page + found


def test_it_is_shown_as_it_was_sent(client: Client, ada: User, grace: User, letter: Notification) -> None:
    give_more = change(ada, [grace], "webinar", notify=False, now=now())  # what happened since is not in it

    words = text_of(client, letter)

    assert give_more.changed == 1
    assert "Hello Grace Hopper" in words
    assert "GoTo Meeting" in words
    assert "Rescue" in words
    assert "GoTo Webinar" not in words
    assert "This is written again, in the console’s own words, from what is on record." in words
    assert "Today its subject would be “" in words  # another one than As it was


def test_its_html_is_framed_and_nothing_of_it_runs(client: Client, ada: User, grace: User, letter: Notification) -> None:
    User.objects.filter(pk=grace.pk).update(first_name="<script>alert(1)</script>")

    page = client.get(f"/notifications/{letter.pk}/").content.decode()
    frame = client.get(f"/notifications/{letter.pk}/html/")

    assert re.search(rf'<iframe [^>]*src="/notifications/{letter.pk}/html/"[^>]* sandbox="allow-popups ', page)
    assert "<script>alert" not in frame.content.decode()
    assert 'base target="_blank"' in frame.content.decode()
    policy = frame["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "sandbox allow-popups" in policy
    assert "frame-ancestors 'self'" in policy


def test_it_is_written_in_the_words_and_under_the_name_of_its_time(
    client: Client, ada: User, grace: User, letter: Notification
) -> None:
    author = make_user(role=Role.SUPER_ADMIN)
    words = {"kind": "CHANGE", "variant": "", "language": "en", "subject": "First", "text": "", "now": now()}
    html = "<p>[[organisation]] wrote this first.</p><p>[[changes]]</p>"
    first = customising.save_words(actor=author, html=html, after=0, **words)
    customising.save_words(actor=author, html="<p>And this second.</p><p>[[changes]]</p>", after=1, **words)
    MailIdentity.objects.create(organisation="Then Ltd", made_at=now() - timedelta(hours=2), made_by=author)
    MailIdentity.objects.create(organisation="Now Ltd", made_at=now(), made_by=author)
    Notification.objects.filter(pk=letter.pk).update(version=first.pk, sent_at=now() - timedelta(hours=1))

    shown_words = text_of(client, letter)

    assert "Then Ltd wrote this first." in shown_words
    assert "This is written again, in version 1 of its words" in shown_words
    assert Wording.objects.count() == 2


def test_one_that_waits_is_shown_as_it_would_be_sent(client: Client, ada: User, grace: User) -> None:
    give(grace, "meeting")
    waiting = owed(grace, state=State.DEFERRED, not_before=now(), last_words="451 Later")

    words = text_of(client, waiting)

    assert "As it would be sent now It was not tried yet." in words
    assert "GoTo Meeting" in words
    assert "Next try" in words
    assert "451 Later" in words


def test_of_one_that_is_not_needed_any_more_it_is_said_why_and_it_is_no_failure(client: Client, ada: User, grace: User) -> None:
    made = change(ada, [grace], "rescue", notify=True, now=now())
    undo(ada, made)
    deliver_due(now=now())
    letter = Notification.objects.get(user=grace, kind="CHANGE")

    words = text_of(client, letter)

    assert f"Change of products · Change #{made.pk} Not needed" in words
    assert "It cannot be shown It need not be sent: what it was to tell was taken back before." in words
    assert "Nothing is left to tell: what it was to tell was taken back before it was sent." in words
    assert "Try again" not in words
    assert "Change emails 1 owed 1 not needed" in shown(client.get(f"/changes/{made.pk}/"))
    assert f"/notifications/{letter.pk}/" in client.get("/notifications/?state=NEEDLESS").content.decode()
    assert f"/notifications/{letter.pk}/" not in client.get("/notifications/?state=UNSENT").content.decode()


def test_what_was_held_when_it_was_sent_is_shown_though_no_email_told_of_it(
    client: Client, ada: User, grace: User, letter: Notification
) -> None:
    change(ada, [grace], "meeting", "central", notify=False, now=now())
    Notification.objects.filter(pk=letter.pk).update(sent_at=now())
    change(ada, [grace], "webinar", notify=False, now=now())

    words = text_of(client, letter)

    assert "+ GoTo Meeting" in words
    assert "* Central" in words
    assert "Webinar" not in words


def test_a_link_that_lets_its_reader_in_is_shown_to_nobody_else(client: Client, grace: User) -> None:
    boss = make_user(role=Role.SUPER_ADMIN)
    client.force_login(boss)
    grace.set_unusable_password()
    grace.save()
    people.invite(actor=boss, user=grace, now=now())
    invitation = Notification.objects.get(kind="INVITATION")
    people.owe_password_link(user=grace, address="https://console.example/secret-link", until=NOW, now=now())
    password = Notification.objects.get(kind="ACCOUNT")

    html = client.get(f"/notifications/{invitation.pk}/html/").content.decode()

    assert "Choose your password" in html
    assert "/invitation/" not in html + text_of(client, invitation)
    assert "Its link is left out" in text_of(client, invitation)
    assert "secret-link" not in client.get(f"/notifications/{password.pk}/").content.decode()
    assert "It cannot be shown Its text is not kept" in text_of(client, password)
    assert client.get(f"/notifications/{password.pk}/html/").status_code == 404


def test_one_that_cannot_be_written_again_says_so_beside_its_fate(
    client: Client, letter: Notification, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(asked: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(KINDS, "CHANGE", replace(KINDS["CHANGE"], facts=break_down))

    words = shown(client.get(f"/notifications/{letter.pk}/"))

    assert f"because of a mistake in the console, whose log says more: notification {letter.pk}." in words
    assert "250 2.0.0 Queued as 4711" in words
    assert client.get(f"/notifications/{letter.pk}/html/").status_code == 404


def test_of_an_erased_user_nothing_is_shown(client: Client, ada: User, grace: User, letter: Notification) -> None:
    User.objects.filter(pk=grace.pk).update(email=f"{grace.pk}@erased.invalid")

    assert "Its reader was erased" in text_of(client, letter)
    assert client.get(f"/notifications/{letter.pk}/html/").status_code == 404


def test_what_was_told_in_another_email_leads_there(client: Client, ada: User, grace: User, letter: Notification) -> None:
    change(ada, [grace], "webinar", notify=True, now=now())
    told = Notification.objects.filter(user=grace, kind="CHANGE").latest("id")
    Notification.objects.filter(pk=told.pk).update(told_by=letter.pk)

    page = client.get(f"/notifications/{told.pk}/")

    assert "another email tells what it would have told" in shown(page)
    assert f'Told in</dt><dd><a href="/notifications/{letter.pk}/">' in page.content.decode()
    assert f"Also tells of Change #{told.about}" in shown(client.get(f"/notifications/{letter.pk}/"))
    assert "GoTo Webinar" in text_of(client, letter)


def test_one_that_failed_is_tried_again(client: Client, ada: User, grace: User, letter: Notification) -> None:
    Notification.objects.filter(pk=letter.pk).update(state=State.FAILED)
    assert "Try again" in shown(client.get(f"/notifications/{letter.pk}/"))

    response = client.post(f"/notifications/{letter.pk}/retry/")

    assert (response.status_code, response["Location"]) == (303, f"/notifications/{letter.pk}/")
    assert "1 email is tried again." in shown(client.get(f"/notifications/{letter.pk}/"))
    client.post(f"/notifications/{letter.pk}/retry/")
    assert "There was nothing to try again." in shown(client.get(f"/notifications/{letter.pk}/"))
    assert client.post("/notifications/4711/retry/").status_code == 404


def test_it_says_that_its_address_is_suppressed(client: Client, ada: User, grace: User, letter: Notification) -> None:
    Suppression.objects.create(address=grace.email, reason="550 gone", source="REFUSED", failed_at=now(), since=now())

    words = shown(client.get(f"/notifications/{letter.pk}/"))

    assert "Nobody writes to grace@people.example since" in words
    assert "The mail server refused it: 550 gone Release" in words


def test_an_unknown_one_is_404(client: Client, ada: User) -> None:
    assert client.get("/notifications/4711/").status_code == 404
    assert client.get("/notifications/4711/html/").status_code == 404


# From a user, and from a change


def test_the_page_of_a_user_leads_to_their_emails(client: Client, ada: User, grace: User, letter: Notification) -> None:
    page = client.get(f"/users/{grace.pk}/").content.decode()

    assert f'href="/notifications/?user={grace.pk}"' in page
    assert f'href="/notifications/{letter.pk}/"' in page


def test_the_page_of_a_change_counts_its_emails_and_leads_to_them(client: Client, ada: User, grace: User) -> None:
    made = change(ada, [grace, make_user(), make_user(), make_user()], "meeting", notify=True, now=now())
    letters = list(Notification.objects.filter(kind="CHANGE").order_by("id"))
    for each, state in zip(letters, (State.SENT, State.DEFERRED, State.UNKNOWN), strict=False):
        Notification.objects.filter(pk=each.pk).update(state=state)

    page = client.get(f"/changes/{made.pk}/")

    assert "Change emails 4 owed 1 sent 2 waiting 1 of them deferred 1 failed Onboarding: GoTo Meeting 4 owed 4 waiting" in shown(
        page
    )
    assert "Sending those that wait takes about 1 s." in shown(page)
    ways = re.findall(r'href="(/notifications/\?[^"]+)">([^<]+)<', page.content.decode())
    assert [words for _way, words in ways] == [
        "4 owed", "1 sent", "2 waiting", "1 of them deferred", "1 failed", "4 owed", "4 waiting",
    ]  # fmt: skip
    for way, words in ways:
        found = client.get(way.replace("&amp;", "&"), headers={"HX-Request": "true", "HX-Target": "results"}).content.decode()
        assert len(re.findall(r'href="/notifications/\d+/"', found)) == int(words.split()[0]), way


def test_a_manager_sees_how_many_and_no_way_to_them(client: Client, grace: User) -> None:
    group = make_group()
    manager = make_user(role=Role.MANAGER, manages=[group])
    client.force_login(manager)
    made = change(manager, [make_user(groups=[group])], "meeting", notify=True, now=now())

    page = client.get(f"/changes/{made.pk}/")

    assert "Change emails 1 owed 1 waiting" in shown(page)
    assert "/notifications/" not in page.content.decode()


def test_before_a_change_or_its_undo_it_is_said_that_the_mail_server_does_not_answer(
    client: Client, ada: User, grace: User, settings: Any
) -> None:
    settings.EMAIL_RATE = 1
    server = MailServer.objects.create(down_since=now() - timedelta(minutes=7))
    made = change(ada, [grace, make_user(), make_user()], "rescue", notify=False, now=now())
    posted = {"key": uuid.uuid4(), "mode": "REPLACE", "shown": "REPLACE", "product": ids("meeting"), "expected": 1}

    def previews(query: str = "?notify=on") -> list[str]:
        dialog = client.post("/users/products/preview/", {**posted, "user": [grace.pk]}, headers={"HX-Request": "true"})
        of_undo = {"HX-Request": "true", "HX-Target": "undo-preview"}
        return [shown(dialog), shown(client.get(f"/changes/{made.pk}/undo/{query}", headers=of_undo))]

    down = "The mail server stopped answering 7 minutes ago. It is tried at least once a minute, and all of them are sent"
    for told, minutes in zip(previews(), (2, 3), strict=True):  # of the first, an onboarding email too
        assert down in told
        assert f"Sending them takes about {minutes} min." in told
    assert down not in previews("")[1]
    MailServer.objects.filter(pk=server.pk).update(down_since=None)
    assert not any("stopped answering" in told for told in previews())


def test_how_long_the_emails_take_is_told_before_and_while_it_runs(client: Client, ada: User, grace: User, settings: Any) -> None:
    settings.EMAIL_RATE = 1
    ticked = {"key": uuid.uuid4(), "mode": "REPLACE", "shown": "REPLACE", "product": ids("meeting"), "expected": 2}

    def previewed() -> str:
        posted = {**ticked, "user": [grace.pk, ada.pk]}
        return shown(client.post("/users/products/preview/", posted, headers={"HX-Request": "true"}))

    assert "Sending them takes about 4 min." in previewed()
    settings.EMAIL_RATE = 60
    assert "Sending them takes" not in previewed()

    settings.EMAIL_RATE, settings.BULK_AT_ONCE = 1, 1
    made = change(ada, [grace, make_user()], "rescue", notify=True, now=now())
    assert made.state == BulkChange.State.RUNNING
    assert "Sending all emails takes about 2 min." in shown(client.get(f"/changes/{made.pk}/"))
