"""What the emails say, in whose language, and that nothing in a name becomes more than a name."""

import re
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.test import override_settings
from django.utils.formats import date_format
from django.utils.timezone import now

from notifications import actions, emails, outbox, people
from notifications.models import MailIdentity, Notification, ReplyTo, State
from products import tasks
from products.models import Product
from products.queries import product_names
from tests.factories import change, give, make_user, product, undo
from tests.mail import Received, ScriptedServer
from tests.notifications.test_delivery import NOW, deliver, owe
from users.invitations import LIFETIME
from users.models import ERASED_AT, Action, AdminAction, Role, User

pytestmark = pytest.mark.django_db

HOSTILE = 'Eve\r\nBcc: all@evil.example <script>alert(1)</script> {{7*7}} {% now "Y" %} %(reader)s &amp;'


def changed(server: ScriptedServer, user: User, *codes: str, **asked: Any) -> Received:
    """Change the user's products to these; return the change email."""
    before = len(server.messages)
    change(make_user(role=Role.ADMIN), [user], *codes, **asked)
    deliver()
    [found] = [m for m in server.messages[before:] if m.message["Message-ID"].startswith("<change.")]
    return found


class TestChangeEmail:
    def test_it_tells_what_is_new_what_is_gone_and_what_is_left(self, smtp_script: ScriptedServer) -> None:
        grace = give(make_user("Grace Hopper"), "meeting", "webinar")

        with override_settings(ORGANISATION_NAME="Hopper & Söhne"):
            received = changed(smtp_script, grace, "meeting", "rescue")

        assert received.message["Subject"] == "Your product access at Hopper & Söhne has changed"
        words = [" ".join(re.sub("<[^>]+>", " ", part).split()) for part in (received.text, received.html)]
        for text in (words[0].replace(" + ", " ").replace(" - ", " ").replace(" * ", " "), re.sub("[+−•] ", "", words[1])):
            text = text.replace("&amp;", "&")
            assert "Hello Grace Hopper, An administrator of Hopper & Söhne has changed which products you can use." in text
            assert "New for you: Rescue No longer available to you: GoTo Webinar" in text
            assert "What you can use now: GoTo Meeting Rescue" in text
            assert "suspended" not in text

    def test_when_nothing_is_left_it_says_that_access_is_suspended(self, smtp_script: ScriptedServer) -> None:
        received = changed(smtp_script, give(make_user(), "meeting"))

        assert received.message["Subject"] == "Your product access at Aldermoor is suspended"
        for part in (received.text, received.html):
            assert "You have no products any more, so your access is suspended" in part
            assert "What you can use now" not in part

    def test_it_is_written_in_the_readers_language(self, smtp_script: ScriptedServer) -> None:
        received = changed(smtp_script, give(make_user("Zoé Lefèvre", language="fr"), "meeting"))

        assert received.message["Subject"] == "Votre accès aux produits est suspendu (Aldermoor)"
        assert received.message["Content-Language"] == "fr"
        assert "Bonjour Zoé Lefèvre," in received.text
        assert "votre accès est donc suspendu" in received.text
        assert '<html lang="fr">' in received.html
        assert "votre accès est donc suspendu" in received.html

    def test_it_is_written_in_the_organisations_language_to_who_has_none(
        self, settings: Any, smtp_script: ScriptedServer
    ) -> None:
        settings.LANGUAGE_CODE = "fr"
        received = changed(smtp_script, give(make_user("Zoé Lefèvre"), "meeting"))

        assert received.message["Content-Language"] == "fr"
        assert "votre accès est donc suspendu" in received.text

    @pytest.mark.parametrize(
        ("reader", "organisation", "written"), [("fr", "en", "fr"), ("", "fr", "fr"), ("nl", "en", "en"), ("nl", "fr", "fr")]
    )
    def test_a_language_without_a_catalogue_falls_back(self, settings: Any, reader: str, organisation: str, written: str) -> None:
        settings.LANGUAGE_CODE = organisation

        if reader in emails.languages():
            written = reader
        assert emails.language_of(User(language=reader)) == written


class TestOnboardingEmail:
    @pytest.mark.parametrize("code", ["meeting", "webinar", "training", "openvoice", "rescue"])
    @pytest.mark.parametrize("language", ["en", "fr"])
    def test_it_says_how_to_start(self, smtp_script: ScriptedServer, code: str, language: str) -> None:
        owe(make_user("Grace Hopper", language=language), code=code)

        deliver()

        [received] = smtp_script.messages
        name = product(code).name
        assert received.message["Subject"] == {"en": f"How to start with {name}", "fr": f"Bien démarrer avec {name}"}[language]
        for number in "123":
            assert f"  {number}. " in received.text
        if code != "rescue":
            assert "https://support.goto.com/" in received.text
            assert ">https://support.goto.com/</a>" in received.html  # the link shows its host

    def test_it_says_who_gave_the_product_and_what_is_held(self, smtp_script: ScriptedServer) -> None:
        MailIdentity.objects.create(names_actor=True)
        ada, grace = make_user("Ada Admin", role=Role.ADMIN), give(make_user("Grace Hopper"), "rescue")
        change(ada, [grace], "meeting", mode="ADD", notify=False)

        deliver()

        [received] = smtp_script.messages
        for part in (received.text, received.html):
            words = " ".join(re.sub(r"<[^>]+>|[*•]", " ", part).split())
            assert "Ada Admin has assigned GoTo Meeting to you: you can now use it at Aldermoor." in words
            assert "What you can use now: GoTo Meeting Rescue" in words

    def test_of_a_product_that_was_taken_again_before_it_is_sent_with_the_product_given_again(
        self, smtp_script: ScriptedServer
    ) -> None:
        ada, grace, alan = make_user(role=Role.ADMIN), make_user(), make_user()
        made = change(ada, [grace, alan], "meeting", "webinar", notify=False)
        undo(ada, made)
        change(ada, [grace, alan], "webinar", notify=False)

        deliver()

        fates = Notification.objects.filter(kind="ONBOARDING", about=product("meeting").pk).values_list("user", "state")
        assert set(fates.all()) == {(grace.pk, State.NEEDLESS), (alan.pk, State.NEEDLESS)}
        assert {m.message["Subject"] for m in smtp_script.messages} == {"How to start with GoTo Webinar"}

        change(ada, [grace], "meeting", notify=False)
        deliver()
        change(ada, [grace], notify=False)
        change(ada, [grace], "meeting", notify=False)
        deliver()

        assert set(fates.all()) == {(grace.pk, State.SENT), (alan.pk, State.NEEDLESS)}
        [*_webinars, last] = smtp_script.messages
        assert last.message["Subject"] == "How to start with GoTo Meeting"
        assert len(smtp_script.messages) == 3

    @pytest.mark.parametrize("onboarding", [True, False])
    def test_given_again_just_when_it_was_found_needless_it_is_sent_even_so(
        self, smtp_script: ScriptedServer, onboarding: bool
    ) -> None:
        ada, grace = make_user(role=Role.ADMIN), make_user()
        undo(ada, change(ada, [grace], "meeting", notify=False))

        with outbox.claimed(place=0, limit=10, now=now()) as batch:
            [claimed] = batch.notifications
            change(ada, [grace], "meeting", notify=False)
            batch.decide(claimed, outbox.Fate(State.NEEDLESS))
        Product.objects.update(onboarding=onboarding)
        tasks.owe_again()
        deliver()

        assert [m.message["Subject"] for m in smtp_script.messages] == ["How to start with GoTo Meeting"] * onboarding

    def test_a_change_owes_nothing_again_to_those_it_does_not_concern(self, smtp_script: ScriptedServer) -> None:
        ada, alan, grace, mary = make_user(role=Role.ADMIN), make_user(), make_user(), make_user()
        undo(ada, change(ada, [grace], "meeting", notify=False))
        deliver()
        give(grace, "meeting")  # by an import of what was held already: of that nobody is told

        change(ada, [alan, mary], "meeting", notify=False)

        assert Notification.objects.get(user=grace, kind="ONBOARDING").state == State.NEEDLESS

    def test_it_is_sent_though_the_product_is_renamed_while_it_is_written(
        self, smtp_script: ScriptedServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def renamed_meanwhile() -> dict[int, str]:
            Product.objects.filter(code="meeting").update(name="GoTo Meet")
            return product_names()

        monkeypatch.setattr("products.emails.product_names", renamed_meanwhile)
        change(make_user(role=Role.ADMIN), [make_user()], "meeting", notify=False)

        deliver()

        assert len(smtp_script.messages) == 1

    def test_it_is_sent_once_in_a_life(self, smtp_script: ScriptedServer) -> None:
        grace = make_user()

        for codes in (["meeting"], [], ["meeting"]):
            changed(smtp_script, grace, *codes)

        assert Notification.objects.filter(user=grace, kind="ONBOARDING").count() == 1

    def test_it_is_sent_even_without_notifying(self, smtp_script: ScriptedServer) -> None:
        change(make_user(role=Role.ADMIN), [make_user()], "meeting", "rescue", notify=False)

        deliver()

        assert [m.message["Subject"] for m in smtp_script.messages] == ["How to start with GoTo Meeting"]


def test_who_was_erased_meanwhile_is_neither_named_nor_replied_to(smtp_script: ScriptedServer) -> None:
    MailIdentity.objects.create(names_actor=True, reply_to=ReplyTo.ACTOR)
    ada, grace = make_user("Ada Admin", role=Role.ADMIN), make_user()
    change(ada, [grace], "meeting")
    User.objects.filter(pk=ada.pk).update(email=f"{ada.pk}{ERASED_AT}")

    deliver()

    assert len(smtp_script.messages) == 2  # how to start with it, and the change
    for received in smtp_script.messages:
        assert "An administrator" in received.text
        assert "Erased" not in received.text
        assert received.message["Reply-To"] is None


class TestLinks:
    """That let somebody in end: then they are of no use to anybody."""

    @pytest.fixture
    def boss(self) -> User:
        return make_user(role=Role.SUPER_ADMIN)

    @pytest.fixture
    def grace(self) -> User:
        return make_user(password="!never")

    def test_an_invitation_whose_link_has_ended_is_not_sent(self, smtp_script: ScriptedServer, boss: User, grace: User) -> None:
        people.invite(actor=boss, user=grace, now=NOW)

        deliver(now=NOW + LIFETIME * 1.1)

        [fate] = Notification.objects.all()
        assert (fate.state, fate.last_words) == (
            State.FAILED, "Its link had ended before it could be sent; send another invitation."
        )  # fmt: skip
        assert smtp_script.messages == []

    def test_a_password_link_that_has_ended_is_not_sent(self, smtp_script: ScriptedServer, grace: User) -> None:
        for days in (1, 3):
            until = NOW + timedelta(days=days)
            people.owe_password_link(user=grace, address=f"https://console.example/{days}", until=until, now=NOW)

        deliver(now=NOW + timedelta(days=2))

        [received] = smtp_script.messages
        assert "https://console.example/3" in received.text
        [ended] = Notification.objects.filter(state=State.FAILED)
        assert ended.last_words == "Its link had ended before it could be sent; it has to be asked for again."
        assert ended.message is None

    def test_an_invitation_that_waits_keeps_no_other_from_being_sent_once_its_link_has_ended(
        self, smtp_script: ScriptedServer, boss: User, grace: User
    ) -> None:
        assert people.invite(actor=boss, user=grace, now=NOW)
        assert not people.invite(actor=boss, user=grace, now=NOW + LIFETIME * 0.9)

        assert people.invite(actor=boss, user=grace, now=NOW + LIFETIME * 1.1)


def test_the_day_on_which_a_link_ends_is_that_of_its_reader(smtp_script: ScriptedServer) -> None:
    boss, zones = make_user(role=Role.SUPER_ADMIN), [ZoneInfo("Pacific/Kiritimati"), ZoneInfo("Pacific/Pago_Pago")]
    readers = [make_user(password="!never", time_zone=zone.key) for zone in zones]  # never on the same day
    for reader in readers:
        give(reader, "rescue")
        people.invite(actor=boss, user=reader, now=NOW)
        people.owe_password_link(user=reader, address="https://console.example/", until=NOW + LIFETIME, now=NOW)

    deliver()

    for reader, zone in zip(readers, zones, strict=True):
        invited_at = AdminAction.objects.get(action=Action.USER_INVITED, subject_id=reader.pk).at
        for received, since in zip(smtp_script.to(reader.email), (invited_at, NOW), strict=True):
            assert date_format((since + LIFETIME).astimezone(zone), "DATE_FORMAT") in received.text


class TestEveryEmail:
    def test_headers(self, smtp_script: ScriptedServer) -> None:
        grace = give(make_user(email="grace@people.example"), "meeting")
        received = changed(smtp_script, grace).message

        about = Notification.objects.get().about
        assert re.fullmatch(rf"<change\.{about}\.{grace.pk}\.[0-9a-f]{{16}}@127\.0\.0\.1>", received["Message-ID"])
        assert received["From"] == "console@127.0.0.1"
        assert received["To"] == "grace@people.example"
        assert received["Auto-Submitted"] == "auto-generated"
        assert received["X-Auto-Response-Suppress"] == "All"
        assert received["Date"].datetime == NOW.replace(microsecond=0)

    @pytest.mark.parametrize("language", ["en", "fr"])
    def test_it_is_small_self_contained_and_travels_in_short_lines(self, smtp_script: ScriptedServer, language: str) -> None:
        received = changed(smtp_script, give(make_user("😀" * 60, language=language), *["meeting", "webinar"]), "rescue")

        assert "😀" * 60 in received.text
        assert len(received.raw) < 100_000
        assert max(len(line) for line in received.raw.split(b"\r\n")) < 100
        assert b"\n" not in received.raw.replace(b"\r\n", b"")
        assert not re.search(r"<(img|link|script|iframe|form)|src=|url\(|@import", received.html, re.IGNORECASE)
        assert '<meta name="color-scheme" content="light dark">' in received.html

    def test_a_hostile_name_stays_a_name(self, smtp_script: ScriptedServer) -> None:
        grace = give(make_user(), "meeting")
        User.objects.filter(pk=grace.pk).update(first_name=HOSTILE[:60], last_name=HOSTILE[60:])
        Product.objects.filter(code="meeting").update(name="<b>Meet</b>\r\nBcc: x@evil.example {{ facts }}")

        with override_settings(ORGANISATION_NAME="<i>Org</i>\r\nBcc: y@evil.example {{7*7}}"):
            received = changed(smtp_script, grace)

        assert received.recipients == [grace.email]
        assert "Bcc" not in received.message
        assert set(received.message.keys()) == {
            *("To", "Message-ID", "Date", "From", "Subject", "Content-Language", "Auto-Submitted"),
            *("X-Auto-Response-Suppress", "MIME-Version", "Content-Type"),
        }
        assert "<script>" not in received.html
        assert "&lt;script&gt;" in received.html
        assert not re.search("<b>|<i>", received.html)
        assert "Eve Bcc: all@evil.example <script>" in received.text
        for part in (received.text, received.html):
            assert "{{7*7}}" in part
            assert "49" not in part.replace("&#x", "")
            assert "%(reader)s" in part

    def test_a_line_that_begins_with_a_dot_arrives(self, smtp_script: ScriptedServer) -> None:
        actions.queue_message(user=make_user(), subject="Dots", text=".\n..two\n.end", html="", now=NOW)

        deliver()

        assert smtp_script.messages[0].text == ".\n..two\n.end\n"
