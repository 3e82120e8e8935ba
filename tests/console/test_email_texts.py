"""The pages on which a Super admin writes what emails say and chooses how they look."""

import struct
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils.timezone import now

from notifications.models import MailIdentity, Notification, Suppression, Wording
from tests.factories import give, make_user
from users.models import Role, User

pytestmark = pytest.mark.django_db
EDITOR = "/emails/change/-/en/"
HTML = "<p>Dear [[reader]],</p>\n<p>[[changes]]</p>"
PNG = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\rIHDR" + struct.pack(">II", 200, 80) + b"\x08\x02\x00\x00\x00"


@pytest.fixture(autouse=True)
def sue(client: Client) -> User:
    """Return a Super admin who is signed in."""
    sue = make_user("Sue Super", role=Role.SUPER_ADMIN, email="sue@people.example")
    client.force_login(sue)
    return sue


def written(**fields: Any) -> dict[str, Any]:
    return {"subject": "News for [[reader]]", "html": HTML, "text": "", "about": "", "after": 0, "do": "save", **fields}


def identity(**fields: Any) -> dict[str, Any]:
    return {"organisation": "Hopper", "accent": "#aa0044", "reply_to": "NOBODY", **fields}


class TestOverview:
    def test_it_lists_every_email_in_every_language(self, client: Client) -> None:
        client.post(EDITOR, written())

        page = client.get("/emails/").text

        for name in (
            "Change of products: Something is left",
            "Invitation",
            "How to start with a product: OpenVoice",
            "Password reset",
        ):
            assert name in page
        assert page.count(">Version 1<") == 1
        assert 'href="/emails/onboarding/meeting/nl/"' in page

    @pytest.mark.parametrize("page", ["/emails/", "/emails/identity/", EDITOR, f"{EDITOR}preview/"])
    def test_it_is_for_super_admins(self, client: Client, page: str) -> None:
        client.force_login(make_user(role=Role.ADMIN))

        assert client.get(page).status_code == 403
        assert client.post(page).status_code in (403, 405)


class TestEditor:
    def test_it_begins_with_the_consoles_own_words(self, client: Client) -> None:
        page = client.get(EDITOR).text

        assert "Your product access at [[organisation]] has changed" in page
        assert "&lt;p&gt;Hello [[reader]],&lt;/p&gt;" in page
        for placeholder in ("[[reader]]", "[[changes]]", "[[actor]]", "[[holds]]"):
            assert f"<code>{placeholder}</code>" in page

    @pytest.mark.parametrize("kind", ["onboarding/meeting", "invitation/-", "role/-", "finished/-", "seats/-", "account/-"])
    def test_every_kind_has_one(self, client: Client, kind: str) -> None:
        assert client.get(f"/emails/{kind}/fr/").status_code == 200

    @pytest.mark.parametrize("page", ["/emails/birthday/-/en/", "/emails/change/-/tlh/", "/emails/onboarding/rescue/en/"])
    def test_there_is_none_for_what_there_is_not(self, client: Client, page: str) -> None:
        assert client.get(page).status_code == 404

    def test_words_are_saved_as_the_next_version(self, client: Client) -> None:
        saved = client.post(EDITOR, written(), follow=True)

        assert "Version 1 is saved and counts from now on." in saved.text
        assert Wording.objects.get().html == HTML

    def test_what_emails_cannot_hold_is_left_out_and_said(self, client: Client) -> None:
        saved = client.post(EDITOR, written(html=HTML + "<script>x</script>"), follow=True)

        assert "What emails cannot hold was left out of the HTML." in saved.text

    def test_a_mistake_is_told_beside_its_cause_and_nothing_is_lost(self, client: Client) -> None:
        refused = client.post(EDITOR, written(subject="Hi [[raeder]]", text="All of my text [[changes]]"))

        assert refused.status_code == 422
        assert "There is no placeholder [[raeder]] (line 1, character 4)." in refused.text
        assert 'value="Hi [[raeder]]"' in refused.text
        assert "All of my text" in refused.text
        assert not Wording.objects.exists()

    def test_whoever_saves_second_is_told_and_can_save_on(self, client: Client) -> None:
        client.post(EDITOR, written())

        late = client.post(EDITOR, written(subject="Late"))

        assert late.status_code == 422
        assert "Sue Super saved another version meanwhile." in late.text
        assert 'value="Late"' in late.text
        assert 'name="after" value="1"' in late.text

    def test_an_earlier_version_is_restored(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        client.post(EDITOR, written())
        client.post(EDITOR, written(subject="Second", after=1))

        client.post(f"{EDITOR}restore/", {"number": "1"})
        page = client.get(EDITOR).text
        client.post(f"{EDITOR}restore/")

        assert 'value="News for [[reader]]"' in page
        assert list(Wording.objects.order_by("number").values_list("subject", flat=True)) == [
            *("News for [[reader]]", "Second", "News for [[reader]]", "")
        ]
        for number in ("77", "²", "9" * 5_000):
            assert client.post(f"{EDITOR}restore/", {"number": number}).status_code == 404
        monkeypatch.setattr("notifications.customising._last", lambda *_: 0)  # as it was before somebody else was quicker
        page = client.post(f"{EDITOR}restore/", {"number": "1"}, follow=True).text
        assert "Sue Super saved another version meanwhile." in page

    def test_a_test_is_sent_and_what_was_written_stays(self, client: Client, sue: User) -> None:
        sent = client.post(EDITOR, written(do="test", subject="Draft for [[reader]]"))

        owed = Notification.objects.get()
        assert (owed.user, owed.kind) == (sue, "TEST")
        assert owed.message["subject"] == "[Test] Draft for Sue Super"
        assert 'value="Draft for [[reader]]"' in sent.text
        assert not Wording.objects.exists()

    def test_who_asks_for_a_test_that_nobody_sends_is_told_why(self, client: Client, sue: User) -> None:
        Suppression.objects.create(address=sue.email, reason="550 gone", source="REFUSED", failed_at=now(), since=now())

        refused = client.post(EDITOR, written(do="test", subject="Draft for [[reader]]"))

        assert refused.status_code == 422
        assert f"No test is sent: {sue.email} is a suppressed address." in refused.text
        assert 'value="Draft for [[reader]]"' in refused.text
        assert not Notification.objects.exists()

    def test_a_test_has_no_words_of_its_own(self, client: Client) -> None:
        assert "Test email" not in client.get("/emails/").text
        assert client.get("/emails/test/-/en/").status_code == 404


class TestPreview:
    def test_it_shows_what_is_written_with_the_data_of_a_user(self, client: Client) -> None:
        grace = give(make_user("Grace Hopper"), "rescue")

        shown = client.post(f"{EDITOR}preview/", written(about=grace.email, do="html"))

        assert "Dear Grace Hopper," in shown.text
        assert "Rescue" in shown.text
        assert "sandbox" in shown["Content-Security-Policy"]
        assert shown["X-Frame-Options"] == "SAMEORIGIN"
        assert client.post(f"{EDITOR}preview/", written(do="text")).text.startswith("News for Sue Super\n\nDear Sue Super,")

    def test_it_shows_what_counts_now(self, client: Client) -> None:
        assert "Hello Sue Super," in client.get(f"{EDITOR}preview/").text
        assert client.get(f"{EDITOR}preview/?part=text")["Content-Type"] == "text/plain; charset=utf-8"

    def test_it_shows_mistakes(self, client: Client) -> None:
        shown = client.post(f"{EDITOR}preview/", written(html="<p>[[nothing]]</p>", about="nobody@people.example"))

        assert "There is no user with this email." in shown.text
        assert "It cannot be sent like this" in shown.text


class TestIdentity:
    def test_it_is_saved_and_shown(self, client: Client) -> None:
        logo = SimpleUploadedFile("logo.png", PNG, "image/png")

        client.post("/emails/identity/", identity(logo=logo, reply_to="ACTOR", names_actor="on"))
        page = client.get("/emails/identity/").text

        kept = MailIdentity.objects.get()
        assert (kept.organisation, kept.accent, bytes(kept.logo), kept.reply_to) == ("Hopper", "#aa0044", PNG, "ACTOR")
        assert "data:image/png;base64," in page
        assert "data:image/png;base64," in client.get(f"{EDITOR}preview/").text

    def test_the_logo_stays_until_it_is_taken_away(self, client: Client) -> None:
        client.post("/emails/identity/", identity(logo=SimpleUploadedFile("logo.png", PNG)))
        client.post("/emails/identity/", identity(organisation="Two"))
        client.post("/emails/identity/", identity(no_logo="on"))

        assert [bool(kept.logo) for kept in MailIdentity.objects.order_by("id")] == [True, True, False]

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"accent": "red"}, "A colour is written like #2f6fde."),
            ({"reply_to": "ADDRESS"}, "An address is needed for the replies."),
            ({"sender_address": "nobody"}, "“nobody” is not an email."),
            ({"logo": SimpleUploadedFile("logo.png", b"GIF89a" + b"x" * 40)}, "A logo has to be a PNG."),
            ({"logo": SimpleUploadedFile("logo.png", PNG + b"x" * 3_000_000)}, "A logo has at most 32 kB."),
        ],
    )
    def test_a_mistake_is_told_and_nothing_is_lost(self, client: Client, fields: dict[str, Any], said: str) -> None:
        refused = client.post("/emails/identity/", identity(**fields))

        assert refused.status_code == 422
        assert said in refused.text
        assert 'value="Hopper"' in refused.text
        assert not MailIdentity.objects.exists()

    def test_the_form_needs_its_token(self, sue: User) -> None:
        client = Client(enforce_csrf_checks=True)
        client.force_login(sue)

        assert client.post("/emails/identity/", identity()).status_code == 403
        assert not MailIdentity.objects.exists()
