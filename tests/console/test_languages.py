"""In which language and time zone the console answers, and the switches for language and shortcuts."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client
from django.utils import translation
from django.utils.formats import date_format

from admin_console import languages
from admin_console.templatetags.console import ago
from notifications.models import Notification
from tests.factories import give, make_user
from users.models import Role, User

pytestmark = pytest.mark.django_db
SIGN_IN = "/accounts/login/"
PASSWORD = "correct horse battery staple"


@pytest.fixture(autouse=True)
def _french_and_german_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let these be offered, whatever the catalogues hold."""
    monkeypatch.setattr(languages, "offered", lambda: {"en": "English", "fr": "Français", "de": "Deutsch"})
    monkeypatch.setattr("admin_console.templatetags.console.offered", languages.offered)


def spoken(client: Client, path: str = SIGN_IN, **headers: str) -> str:
    """Return the language in which a page says to be."""
    response = client.get(path, headers=headers)
    language = response.content.decode().partition('<html lang="')[2].partition('"')[0]
    assert response["Content-Language"] == language
    return language


def test_only_whole_catalogues_are_offered(settings: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import polib

    monkeypatch.undo()
    for code, untranslated in (("de", "0"), ("fr", "7"), ("it", None)):
        catalogue = polib.POFile()
        catalogue.metadata = {"Content-Type": "text/plain; charset=UTF-8"} | (
            {languages.UNTRANSLATED: untranslated} if untranslated else {}
        )
        (tmp_path / code / "LC_MESSAGES").mkdir(parents=True)
        catalogue.save_as_mofile(str(tmp_path / code / "LC_MESSAGES" / "django.mo"))
    settings.LOCALE_PATHS = [tmp_path]

    assert languages.offered.__wrapped__() == {"en": "English", "de": "Deutsch"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ("fr-CH, de;q=0.5", "fr"),
        ("it, de;q=0.5", "de"),
        ("nl", "en"),
        ("", "en"),
        ("*", "en"),
        ("x" * 900, "en"),
        ("de-DE,fr;q=0.9", "de"),
    ],
)
def test_before_sign_in_the_browser_chooses(client: Client, accepted: str, expected: str) -> None:
    assert spoken(client, **{"Accept-Language": accepted}) == expected


@pytest.mark.parametrize("accepted", ["", "nl", "*"])
def test_where_nobody_chose_the_organisations_language_is_spoken(client: Client, settings: Any, accepted: str) -> None:
    settings.LANGUAGE_CODE = "fr"
    assert spoken(client, **{"Accept-Language": accepted}) == "fr"
    assert "Mot de passe" in client.get(SIGN_IN).text
    assert spoken(client, **{"Accept-Language": "en"}) == "en"
    assert "Password" in client.get(SIGN_IN, headers={"Accept-Language": "en"}).text

    client.force_login(make_user(role=Role.ADMIN))
    assert spoken(client, "/users/", **{"Accept-Language": accepted}) == "fr"


def test_the_users_language_counts_more_than_the_browsers(client: Client) -> None:
    client.force_login(make_user(role=Role.ADMIN, language="fr"))

    assert spoken(client, "/users/", **{"Accept-Language": "de"}) == "fr"


def test_a_language_that_is_not_offered_is_not_spoken(client: Client) -> None:
    client.force_login(make_user(role=Role.ADMIN, language="nl"))

    assert spoken(client, "/users/", **{"Accept-Language": "de"}) == "de"


def test_nothing_of_it_stays_for_the_next_request(client: Client) -> None:
    assert spoken(client, **{"Accept-Language": "fr"}) == "fr"
    assert translation.get_language() == "en"
    assert spoken(client) == "en"


def test_errors_are_told_in_the_language_too(client: Client) -> None:
    assert spoken(client, "/nothing/", **{"Accept-Language": "de"}) == "de"


def test_a_file_is_written_in_the_language_to_its_end(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = make_user(role=Role.ADMIN, language="fr")
    client.force_login(ada)
    heard: list[str | None] = []

    def pieces(question: Any) -> Iterator[bytes]:
        for _ in range(2):
            heard.append(translation.get_language())
            yield b""

    monkeypatch.setattr("admin_console.views.as_of.asof.users_as_csv", pieces)

    response: Any = client.get("/products/1/as-of.csv")
    b"".join(response.streaming_content)

    assert heard == ["fr", "fr"]
    assert translation.get_language() == "en"


def test_health_is_told_without_a_query(client: Client, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert client.get("/healthz", headers={"Accept-Language": "fr"}).status_code == 200


class TestSigningIn:
    def sign_in(self, client: Client, user: User, **posted: str) -> User:
        user.set_password(PASSWORD)
        user.save()
        posted = {"login": user.email, "password": PASSWORD, **posted}
        client.post(SIGN_IN, posted, headers={"Accept-Language": "de-AT"})
        user.refresh_from_db()
        return user

    def test_who_has_no_language_and_zone_gets_the_browsers(self, client: Client) -> None:
        ada = self.sign_in(client, make_user(role=Role.ADMIN), time_zone="Europe/Vienna")

        assert (ada.language, ada.time_zone) == ("de", "Europe/Vienna")

    def test_who_has_some_keeps_them(self, client: Client) -> None:
        ada = self.sign_in(client, make_user(role=Role.ADMIN, language="nl", time_zone="Asia/Tokyo"), time_zone="Europe/Vienna")

        assert (ada.language, ada.time_zone) == ("nl", "Asia/Tokyo")

    def test_a_zone_that_nobody_knows_is_let_go(self, client: Client) -> None:
        ada = self.sign_in(client, make_user(role=Role.ADMIN), time_zone="Mars/Olympus")

        assert (ada.language, ada.time_zone) == ("de", "")


class TestChoosing:
    def test_a_user_keeps_it_and_comes_back(self, client: Client) -> None:
        ada = make_user(role=Role.ADMIN, time_zone="Asia/Tokyo")
        client.force_login(ada)

        response = client.post("/language/", {"language": "fr"}, headers={"Referer": "http://testserver/users/?role=ADMIN"})

        ada.refresh_from_db()
        assert response["Location"] == "/users/?role=ADMIN"
        assert (ada.language, ada.time_zone) == ("fr", "Asia/Tokyo")
        assert spoken(client, "/users/") == "fr"

    def test_signed_out_the_browser_keeps_it(self, client: Client) -> None:
        response = client.post("/language/", {"language": "de"}, headers={"Referer": f"http://testserver{SIGN_IN}?next=/me/"})

        assert response["Location"] == f"{SIGN_IN}?next=/me/"
        assert spoken(client, **{"Accept-Language": "fr"}) == "de"

    @pytest.mark.parametrize(
        "before", ["https://elsewhere.example/users/", "", "http://[", "http://testserver//elsewhere.example/users/"]
    )
    def test_from_elsewhere_it_leads_home(self, client: Client, before: str) -> None:
        assert client.post("/language/", {"language": "de"}, headers={"Referer": before})["Location"] == "/"

    @pytest.mark.parametrize("language", ["nl", "xx", "", "../fr"])
    def test_what_is_not_offered_is_refused(self, client: Client, language: str) -> None:
        assert client.post("/language/", {"language": language}).status_code == 400

    def test_it_is_chosen_by_post_only(self, client: Client) -> None:
        assert client.get("/language/?language=de").status_code == 405

    def test_every_page_has_the_switch(self, client: Client) -> None:
        assert 'value="fr" lang="fr"' in client.get(SIGN_IN).content.decode()
        client.force_login(make_user(role=Role.ADMIN))
        assert 'value="fr" lang="fr"' in client.get("/users/").content.decode()


def test_an_email_is_in_its_readers_language_whoever_acts(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link to a password is composed while the admin's page is answered."""
    client.force_login(make_user("Ada Admin", role=Role.SUPER_ADMIN, language="fr"))
    grace = give(make_user("Grace Hopper", language="en"), "meeting")

    client.post(f"/users/{grace.pk}/role/", {"role": "SUPPORT"})
    client.post("/accounts/password/reset/", {"email": grace.email}, headers={"Accept-Language": "fr"})
    client.logout()
    client.post("/accounts/password/reset/", {"email": grace.email}, headers={"Accept-Language": "fr"})

    told = [(each.language, each.message["subject"]) for each in Notification.objects.filter(user=grace, kind="ACCOUNT")]
    assert told
    assert {language for language, _subject in told} == {"en"}
    assert all("password" in subject for _language, subject in told)


def test_an_email_to_who_has_no_language_is_in_the_organisations(client: Client, settings: Any) -> None:
    settings.LANGUAGE_CODE = "fr"
    grace = give(make_user("Grace Hopper"), "meeting")
    client.post("/accounts/password/reset/", {"email": grace.email}, headers={"Accept-Language": "de"})

    [told] = Notification.objects.filter(user=grace, kind="ACCOUNT")
    assert (told.language, "mot de passe" in told.message["subject"]) == ("fr", True)


class TestShortcuts:
    def test_the_list_is_a_page_and_a_dialog(self, client: Client) -> None:
        client.force_login(make_user(role=Role.ADMIN))

        assert b"Switch them off" in client.get("/shortcuts/").content
        assert client.get("/shortcuts/", headers={"HX-Request": "true"}).content.strip().startswith(b"<dialog")

    def test_they_can_be_switched_off_and_on(self, client: Client) -> None:
        client.force_login(make_user(role=Role.ADMIN))

        assert client.post("/shortcuts/")["Location"] == "/shortcuts/"
        assert b"Switch them on" in client.get("/shortcuts/").content
        assert client.post("/shortcuts/", {"on": "yes"}, headers={"HX-Request": "true"}).status_code == 204
        assert b"Switch them off" in client.get("/shortcuts/").content

    def test_signed_out_one_signs_in_first(self, client: Client) -> None:
        assert client.get("/shortcuts/")["Location"].startswith(SIGN_IN)


@pytest.mark.parametrize(
    ("language", "day", "moment", "short"),
    [
        ("en", "March 4, 2026", "March 4, 2026, 2:05 p.m.", "Mar 4, 2026"),
        ("fr", "4 mars 2026", "4 mars 2026 14:05", "4 mar 2026"),
        ("it", "4 marzo 2026", "4 marzo 2026 14:05", "4 mar 2026"),
        ("de", "4. März 2026", "4. März 2026 14:05", "4. Mär 2026"),
        ("es", "4 de marzo de 2026", "4 de marzo de 2026 a las 14:05", "4 mar 2026"),
        ("pt", "4 de março de 2026", "4 de março de 2026 às 14:05", "4 mar 2026"),
        ("nl", "4 maart 2026", "4 maart 2026 14:05", "4 mrt 2026"),
    ],
)
def test_dates_are_written_as_the_language_writes_them(
    language: str, day: str, moment: str, short: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = datetime(2026, 3, 4, 14, 5, tzinfo=UTC)
    monkeypatch.setattr("admin_console.templatetags.console.now", lambda: datetime(2026, 9, 1, tzinfo=UTC))

    with translation.override(language):
        assert date_format(at, "DATE_FORMAT") == day
        assert date_format(at, "DATETIME_FORMAT") == moment
        assert ago(at) == short
