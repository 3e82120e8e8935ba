"""Words that admins write for emails: checked, harmless, kept version by version; and how the organisation shows itself."""

import re
import struct
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, transaction
from django.utils.formats import date_format

from notifications import customising, emails, suppression
from notifications.colours import contrast, readable
from notifications.customising import Refused, WrittenMeanwhile
from notifications.markup import as_text, dressed, harmless
from notifications.models import MailIdentity, Notification, ReplyTo, State, Wording
from notifications.people import owe_password_link
from notifications.queries import retryable
from tests.factories import NOW, change, give, make_user
from tests.mail import Received, ScriptedServer
from tests.notifications.test_delivery import deliver
from users.models import Role, User

pytestmark = pytest.mark.django_db
HOSTILE = "Eve\r\nBcc: all@evil.example <script>alert(1)</script> {{7*7}} [[organisation]] \u202egnp.exe"
HTML = "<p>Dear [[reader]],</p><p>[[changes]]</p><p>Yours, [[organisation]]</p>"
PNG = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\rIHDR" + struct.pack(">II", 200, 80) + b"\x08\x02\x00\x00\x00"


@pytest.fixture
def sue() -> User:
    return make_user("Sue Super", role=Role.SUPER_ADMIN, email="sue@people.example")


def save(actor: User, **fields: Any) -> Wording:
    words = {
        "kind": "CHANGE",
        "variant": "",
        "language": "en",
        "subject": "News for [[reader]]",
        "html": HTML,
        "text": "",
        "after": 0,
    }
    return customising.save_words(actor=actor, now=NOW, **{**words, **fields})


def changed(server: ScriptedServer, user: User, *codes: str, actor: User | None = None) -> Received:
    change(actor or make_user("Ada Admin", role=Role.ADMIN), [user], *codes)
    deliver()
    [found] = [m for m in server.messages if m.message["Message-ID"].startswith("<change.")]
    return found


class TestWords:
    def test_the_words_of_an_admin_are_sent_and_the_email_knows_their_version(
        self, sue: User, smtp_script: ScriptedServer
    ) -> None:
        made = save(sue)

        received = changed(smtp_script, give(make_user("Grace Hopper"), "meeting"), "rescue")

        assert received.message["Subject"] == "News for Grace Hopper"
        assert received.text.startswith("Dear Grace Hopper,\n\nNew for you:\n  + Rescue\n\nNo longer")
        assert "Yours, Aldermoor\n\n-- \n" in received.text
        assert ">Dear Grace Hopper,</p>" in received.html
        assert Notification.objects.get(kind="CHANGE").version == made.pk

    def test_what_nobody_wrote_is_sent_in_the_consoles_own_words(self, sue: User, smtp_script: ScriptedServer) -> None:
        save(sue)

        changed(smtp_script, give(make_user(language="fr"), "meeting"), "rescue")

        assert "Bonjour" in smtp_script.messages[0].text
        assert Notification.objects.get(kind="CHANGE").version == 0

    def test_a_text_of_its_own_is_sent_as_text(self, sue: User, smtp_script: ScriptedServer) -> None:
        save(sue, text="Plainly, [[reader]]:\n\n[[changes]]")

        received = changed(smtp_script, give(make_user("Grace Hopper"), "meeting"), "rescue")

        assert received.text.startswith("Plainly, Grace Hopper:\n\nNew for you:")
        assert "Dear Grace Hopper" in received.html

    def test_who_is_suspended_is_told_so_in_whatever_words(self, sue: User, smtp_script: ScriptedServer) -> None:
        save(sue, variant="suspended")

        received = changed(smtp_script, give(make_user(), "meeting"))

        for part in (received.text, received.html):
            assert "You have no products any more, so your access is suspended" in part

    def test_a_password_reset_knows_its_version_too(self, sue: User, smtp_script: ScriptedServer) -> None:
        words = {"subject": "Your new password", "html": "<p>Hi [[reader]]</p><p>[[link]]</p><p>until [[expires]]</p>"}
        made = save(sue, kind="ACCOUNT", **words)

        owe_password_link(user=sue, address="https://console.example/reset/1/", until=NOW, now=NOW)
        deliver(now=NOW - timedelta(days=1))

        [received] = smtp_script.messages
        assert received.message["Subject"] == "Your new password"
        assert received.text.startswith(f"Hi Sue Super\n\nhttps://console.example/reset/1/\n\nuntil {date_format(NOW)}")
        assert Notification.objects.get().version == made.pk

    def test_versions_are_kept_and_an_earlier_one_can_count_again(self, sue: User) -> None:
        first, second = save(sue), save(sue, subject="Second", after=1)

        third = customising.restore(actor=sue, version=first, now=NOW)
        fourth = customising.use_own_words(actor=sue, kind="CHANGE", variant="", language="en", now=NOW)

        assert [made.number for made in (first, second, third, fourth)] == [1, 2, 3, 4]
        assert (third.subject, third.restores, fourth.is_own) == (first.subject, first, True)

    def test_words_that_count_already_make_no_version(self, sue: User) -> None:
        first = save(sue)
        own = [customising.use_own_words(actor=sue, kind="CHANGE", variant="", language="en", now=NOW) for _click in range(2)]

        again = [customising.restore(actor=sue, version=first, now=NOW), save(sue, after=3)]

        assert [version.number for version in own + again] == [2, 2, 3, 3]

    def test_of_two_who_write_at_once_the_second_is_told(self, sue: User) -> None:
        save(sue)

        with pytest.raises(WrittenMeanwhile, match="Sue Super saved another version meanwhile"):
            save(sue, subject="Late", after=0)

    @pytest.mark.parametrize("write", ["UPDATE notifications_wording SET subject = 'x'", "DELETE FROM notifications_wording"])
    def test_a_version_is_never_changed(self, owner_connection: Any, write: str) -> None:
        owner_connection.execute(
            "INSERT INTO notifications_wording (kind, variant, language, number, subject, html, text, made_by_id, made_at) "
            "VALUES ('CHANGE', '', 'en', 1, 'Old', '<p>Old</p>', '', 1, now())"
        )

        with pytest.raises(Exception, match="is refused"):
            owner_connection.execute(write)

    def test_only_who_may_writes(self) -> None:
        ada = make_user(role=Role.ADMIN)

        for act in (lambda: save(ada), lambda: customising.save_identity(actor=ada, now=NOW, organisation="Mine")):
            with pytest.raises(PermissionDenied):
                act()


class TestMistakes:
    @pytest.mark.parametrize(
        ("fields", "field", "said"),
        [
            ({"subject": "Hi [[raeder]]"}, "subject", "There is no placeholder [[raeder]] (line 1, character 4)."),
            ({"html": "<p>[[changes]]</p>\n<p>x [[7*7]]</p>"}, "html", "There is no placeholder [[7*7]] (line 2, character 6)."),
            ({"html": "<p>[[changes]]</p><p>[[reader</p>"}, "html", "In line 1, character 22, “[[” begins a placeholder that"),
            ({"subject": "[[changes]]"}, "subject", "There is no placeholder [[changes]]"),
            ({"html": "<p>Hello</p>"}, "html", "It has to hold [[changes]]."),
            ({"text": "Hello"}, "text", "It has to hold [[changes]]."),
            ({"html": "<p>So: [[changes]]</p>"}, "html", "it has to stand in a paragraph of its own"),
            ({"html": '<p>[[changes]]</p><a href="https://x.example/[[reader]]">x</a>'}, "html", "in the address of a link"),
            ({"subject": "  "}, "subject", "A subject is needed."),
            ({"html": ""}, "html", "It has to hold"),
            ({"subject": "x" * 201}, "subject", "at most 200 characters"),
            ({"html": "<p>[[changes]]</p>" + "x" * 30_000}, "html", "That is too long"),
        ],
    )
    def test_it_is_refused_beside_its_cause(self, sue: User, fields: dict[str, str], field: str, said: str) -> None:
        with pytest.raises(Refused) as refused:
            save(sue, **fields)

        assert said in refused.value.mistakes[field]
        assert not Wording.objects.exists()


class TestHtml:
    @pytest.mark.parametrize(
        ("written", "kept"),
        [
            ("<p onclick=x>a<script>b</script><img src=x onerror=y></p>", "<p>a</p>"),
            ('<a href="javascript:alert(1)">x</a>', "<a>x</a>"),
            ('<a href="/users/">x</a>', "<a>x</a>"),
            ('<p style="position:fixed" class="x">x</p>', "<p>x</p>"),
            ("<table><tr><td>x</td></tr></table><iframe src=y></iframe><form><input></form>", "x"),
            ("{{7*7}} {% now %}", "{{7*7}} {% now %}"),
            ("<style>p { display: none }</style><p>x</p><!-- y -->", "<p>x</p>"),
        ],
    )
    def test_what_could_do_harm_is_left_out(self, written: str, kept: str) -> None:
        assert harmless(written) == kept

    def test_a_link_shows_its_host(self) -> None:
        html = dressed('<a href="https://help.example/a?b=c&amp;d">Help</a>', accent="#000000", blocks=[])

        assert ">Help (help.example)</a>" in html
        assert dressed('<a href="https://help.example/">help.example</a>', accent="#000000", blocks=[]).count("help.example") == 2

    @pytest.mark.parametrize(
        "address",
        [
            r"https://evil.example\@help.example/",
            "https:evil.example",
            "https:///evil.example/",
            r"http:\\help.example@EVIL.example",
            "https://evil.example?help.example",
        ],
    )
    def test_it_is_the_host_that_a_browser_would_go_to(self, address: str) -> None:
        assert "(evil.example)</a>" in dressed(f'<a href="{address}">help.example</a>', accent="#000000", blocks=[])

    def test_a_host_within_another_one_is_not_shown(self) -> None:
        links = '<a href="https://evil.ex/">https://evil.example/</a>, <a href="mailto:a@b.example">us</a>'
        html = dressed(links, accent="#000000", blocks=[])

        assert "https://evil.example/ (evil.ex)</a>" in html
        assert ">us</a>" in html

    def test_it_is_told_as_text(self) -> None:
        html = "<h2>Title</h2><p>One<br>two &amp; <strong>three</strong></p><ul><li>a</li><li>b</li></ul><ol><li>c</li></ol>"
        link = (
            '<p>See <a href="https://help.example/x">help</a> or <a href="mailto:a@b.example">a@b.example</a>.</p><hr><p>End</p>'
        )

        assert as_text(html + link) == (
            "Title\n\nOne\ntwo & three\n\n  - a\n  - b\n\n  1. c\n\n"
            "See help (https://help.example/x) or a@b.example.\n\n---\n\nEnd"
        )


class TestIdentity:
    def test_the_organisation_shows_itself_as_it_chose(self, sue: User, smtp_script: ScriptedServer) -> None:
        chosen = {"organisation": "Hopper & Söhne", "sender_name": "Søren, IT", "sender_address": "it@hopper.example"}
        customising.save_identity(actor=sue, now=NOW, accent="#AA0044", logo=PNG, **chosen)

        received = changed(smtp_script, give(make_user(), "meeting"), "rescue")

        assert received.message["From"].addresses[0].display_name == "Søren, IT"
        assert received.message["From"].addresses[0].addr_spec == "it@hopper.example"
        assert received.sender == "console@127.0.0.1"  # bounces go to whom the operator named
        assert received.message["Subject"] == "Your product access at Hopper & Söhne has changed"
        assert "#aa0044" in received.html
        [logo] = [part for part in received.message.walk() if part.get_content_type() == "image/png"]
        assert logo.get_content() == PNG
        assert f'src="cid:{logo["Content-ID"][1:-1]}"' in received.html

    @pytest.mark.parametrize(
        ("chosen", "replies"),
        [
            ({}, None),
            ({"reply_to": ReplyTo.ADDRESS, "reply_address": "help@hopper.example"}, "help@hopper.example"),
            ({"reply_to": ReplyTo.ACTOR}, "ada@people.example"),
        ],
    )
    def test_replies_go_where_it_chose(
        self, sue: User, smtp_script: ScriptedServer, chosen: dict[str, Any], replies: str | None
    ) -> None:
        customising.save_identity(actor=sue, now=NOW, **chosen)
        ada = make_user("Ada Admin", role=Role.ADMIN, email="ada@people.example")

        received = changed(smtp_script, give(make_user(), "meeting"), "rescue", actor=ada)

        assert received.message["Reply-To"] == replies
        assert ("Nobody reads replies to it." in received.text) is (replies is None)

    def test_addresses_of_any_domain_are_written_as_mail_servers_take_them(self, sue: User, smtp_script: ScriptedServer) -> None:
        chosen = {"sender_address": "it@höpper.example", "reply_to": ReplyTo.ADDRESS, "reply_address": "help@höpper.example"}
        customising.save_identity(actor=sue, now=NOW, **chosen)

        received = changed(smtp_script, give(make_user(), "meeting"), "rescue")

        assert received.message["From"].addresses[0].addr_spec == "it@xn--hpper-jua.example"
        assert received.message["Reply-To"] == "help@xn--hpper-jua.example"

    @pytest.mark.parametrize("names", [True, False])
    def test_who_acted_is_named_when_it_wishes(self, sue: User, smtp_script: ScriptedServer, names: bool) -> None:
        customising.save_identity(actor=sue, now=NOW, names_actor=names)

        received = changed(smtp_script, give(make_user(), "meeting"), "rescue")

        for part in (received.text, received.html):
            assert ("Ada Admin" in part) is names
            assert "has changed which products you can use" in part

    @pytest.mark.parametrize(
        ("chosen", "field"),
        [
            ({"accent": "red"}, "accent"),
            ({"accent": "#fff;background:url(x)"}, "accent"),
            ({"sender_address": "a@b\r\nBcc: c@d.example"}, "sender_address"),
            ({"sender_address": "a@b.invalid"}, "sender_address"),
            ({"reply_to": ReplyTo.ADDRESS}, "reply_address"),
            ({"logo": b"<svg onload=x>"}, "logo"),
            ({"logo": PNG + b"x" * 32_000}, "logo"),
            ({"logo": PNG[:16] + struct.pack(">II", 9_000, 9_000)}, "logo"),
        ],
    )
    def test_what_cannot_be_is_refused(self, sue: User, chosen: dict[str, Any], field: str) -> None:
        with pytest.raises(Refused) as refused:
            customising.save_identity(actor=sue, now=NOW, **chosen)

        assert set(refused.value.mistakes) == {field}

    def test_it_is_kept_version_by_version(self, sue: User) -> None:
        customising.save_identity(actor=sue, now=NOW, organisation="One")
        customising.save_identity(actor=sue, now=NOW, accent="#112233")

        assert list(MailIdentity.objects.order_by("id").values_list("organisation", "accent")) == [
            ("One", "#2f6fde"),
            ("One", "#112233"),
        ]
        with pytest.raises(DatabaseError, match="is refused"), transaction.atomic():
            MailIdentity.objects.update(organisation="x")

    @pytest.mark.parametrize("colour", ["#ffff00", "#2f6fde", "#000000", "#ffffff", "#1e232b"])
    def test_links_are_readable_in_every_colour(self, colour: str) -> None:
        for paper in ("#ffffff", "#1e232b"):
            found = readable(colour, paper)
            assert contrast(tuple(bytes.fromhex(found[1:])), tuple(bytes.fromhex(paper[1:]))) >= 4.5


class TestHostileNames:
    def test_they_stay_names_in_the_words_of_an_admin(self, sue: User, smtp_script: ScriptedServer) -> None:
        save(sue, subject="[[actor]] → [[reader]]: [[added]]", html=HTML + "<p>[[actor]] [[added]]</p>")
        customising.save_identity(actor=sue, now=NOW, names_actor=True, organisation=HOSTILE[:80], reply_to=ReplyTo.ACTOR)
        reader, actor = give(make_user(), "meeting"), make_user(role=Role.ADMIN)
        User.objects.filter(pk__in=[reader.pk, actor.pk]).update(first_name=HOSTILE[:60], last_name=HOSTILE[60:])
        actor.refresh_from_db()

        received = changed(smtp_script, reader, "rescue", actor=actor)

        assert received.recipients == [reader.email]
        assert "Bcc" not in received.message
        assert "<script" not in received.html
        assert "&lt;script&gt;" in received.html
        for part in (received.message["Subject"], received.text, received.html):
            assert "\u202e" not in part
            assert "{{7*7}}" in part
            assert "[[organisation]]" in part  # a name is never a placeholder
        assert not re.search(r"(?m)^Bcc:", received.text)


class TestTest:
    def test_it_is_sent_to_who_asked_with_the_data_of_whom_they_named(self, sue: User, smtp_script: ScriptedServer) -> None:
        grace = give(make_user("Grace Hopper"), "rescue")
        kind = emails.KINDS["CHANGE"]

        customising.send_test(actor=sue, kind=kind, variant="", language="en", about=grace, now=NOW)
        deliver()

        [received] = smtp_script.messages
        assert received.recipients == ["sue@people.example"]
        assert received.message["Subject"] == "[Test] Your product access at Aldermoor has changed"
        assert "Hello Grace Hopper," in received.text

    def test_it_is_called_a_test_and_nothing_else(self, sue: User, smtp_script: ScriptedServer) -> None:
        for kind in ("ACCOUNT", "INVITATION"):
            customising.send_test(actor=sue, kind=emails.KINDS[kind], variant="", language="en", about=sue, now=NOW)
        deliver()

        letters = Notification.objects.all()
        assert [(letter.kind, letter.state, letter.message) for letter in letters] == [("TEST", State.SENT, None)] * 2
        assert str(emails.KINDS["TEST"].label) == "Test email"
        assert not emails.KINDS["TEST"].variants()  # nobody writes what it says

    def test_none_goes_to_a_suppressed_address(self, sue: User, smtp_script: ScriptedServer) -> None:
        test = {"actor": sue, "kind": emails.KINDS["CHANGE"], "variant": "", "language": "en", "about": sue, "now": NOW}
        customising.send_test(**test)
        for _time in range(2):
            suppression.note_failure(sue.email, reason="550 5.1.1 Gone", source="REFUSED", now=NOW)

        with pytest.raises(Refused, match="is a suppressed address"):
            customising.send_test(**test)
        deliver()

        [asked_for_before] = Notification.objects.all()
        assert (asked_for_before.state, smtp_script.messages) == (State.FAILED, [])
        assert not Notification.objects.filter(retryable(NOW)).exists()
        assert asked_for_before.last_words.startswith("Not tried: the address is suppressed")

    def test_every_email_can_be_shown_in_every_language(self, sue: User) -> None:
        for kind in emails.KINDS.values():
            for variant in kind.variants():
                for language in emails.languages():
                    message = customising.shown(kind, variant, language, reader=sue, now=NOW)
                    assert "[[" not in message.subject + message.text + message.html
                    assert f'<html lang="{language}">' in message.html
                    assert len(message.html) < 30_000
                    assert not re.search(r"<(img|link|script|iframe|form)|src=|url\(|@import", message.html, re.IGNORECASE)
