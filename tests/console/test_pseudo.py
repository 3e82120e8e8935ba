"""No page says anything that cannot be translated: in a language where every letter has an accent, plain words are hard-coded."""

import re
import uuid
from html.parser import HTMLParser
from typing import Any
from zoneinfo import available_timezones

import pytest
from django.conf import settings
from django.test import Client

from products import actions
from products.models import BulkChange, Product
from tests import pseudo
from tests.factories import change, give, ids, limit, make_group, make_user, run, undo
from users.models import Role

pytestmark = pytest.mark.django_db

SPOKEN_ATTRIBUTES = ("title", "aria-label", "placeholder", "alt", "data-title")
SILENT = {"script", "style", "svg", "code", "kbd", "pre"}
VOID = {"meta", "link", "input", "img", "br", "hr", "use"}
# What is no text of the console: addresses, placeholders, and the names of things in themselves.
DATA = re.compile(
    r"\S+@\S+|https?://\S+|(?<!\w)/[\w/-]*/|\[\[?\w+\]?\]|manage\.py \S+ \S+( --\S+)?|\b(UTC|GoTo|HTML|CSV|Ctrl)\b|"
    + "|".join(re.escape(name) for _code, name in settings.LANGUAGES)
)


class Reader(HTMLParser):
    """Reads out of a page what people read, or have read to them."""

    def __init__(self) -> None:
        super().__init__()
        self.inside: list[tuple[str, bool]] = []  # each element that is open, and whether it is silent
        self.heard: list[str] = []

    @property
    def is_silent(self) -> bool:
        return any(silent for _tag, silent in self.inside)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        spoken = [given.get(name) for name in SPOKEN_ATTRIBUTES]
        if not self.is_silent:
            self.heard += [text for text in spoken if text]
        if tag not in VOID:
            # An image says its name, and nothing that it is made of.
            unheard = tag in SILENT or given.get("aria-hidden") == "true" or given.get("role") == "img"
            self.inside.append((tag, unheard or given.get("translate") == "no"))

    def handle_endtag(self, tag: str) -> None:
        while self.inside and self.inside.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not self.is_silent:
            self.heard.append(data)


def plain_words(page: str, known: set[str]) -> list[str]:
    """Return the words of a page that are neither translated nor data."""
    reader = Reader()
    reader.feed(page)
    texts = [" ".join(text.split()) for text in reader.heard]
    found = []
    for text in texts:
        rest = text
        for name in sorted(known, key=len, reverse=True):
            rest = rest.replace(name, "")
        if re.search("[A-Za-z]{2,}", DATA.sub("", rest)):
            found.append(text)
    return found


@pytest.fixture
def organisation(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return people, products and changes whose names are in no Latin letters; everything is answered in the pseudo-language."""
    ada = make_user("Άδα Λάβλεϊς", email="ada@tests.example", role=Role.SUPER_ADMIN)
    group = make_group("Πωλήσεις")
    people = [give(make_user(f"Ζωή {number}", groups=[group]), "meeting") for number in range(3)]
    make_user("Νίκος", role=Role.MANAGER, manages=[group])
    limit("rescue", 5)
    done = run(change(ada, people, "webinar", "rescue", reason="Λόγος"))
    undone = undo(ada, done)
    emptied = change(ada, people[:1], mode="REPLACE")
    actions.tick_users(owner=ada, user_ids={each.pk for each in people}, ticked=True, now=emptied.requested_at)
    pseudo.speak(monkeypatch)
    return {
        "ada": ada,
        "person": people[0].pk,
        "group": group.pk,
        "change": done.pk,
        "undo": undone.pk,
        "product": ids("rescue")[0],
    }


@pytest.fixture
def known(organisation: dict[str, Any]) -> set[str]:
    """Return the names that data brings along."""
    return {*Product.objects.values_list("name", flat=True), *available_timezones(), settings.ORGANISATION_NAME}


PAGES = [
    "/users/",
    "/users/?search=ουδείς",
    "/users/?status=0&sort=0&role=MEMBER&search=α",
    "/users/?count=yes",
    "/users/add/",
    "/users/{person}/",
    "/users/{person}/products/",
    "/users/{person}/role/",
    "/users/{person}/groups/",
    "/users/{person}/as-of/",
    "/users/{person}/as-of/?at=2020-01-01T00:00&until=2030-01-01T00:00",
    "/users/products/?user={person}",
    "/users/products/?user={person}&mode=ADD&shown=ADD",
    "/groups/",
    "/groups/?search=ουδείς",
    "/groups/add/",
    "/groups/{group}/",
    "/groups/{group}/delete/",
    "/changes/",
    "/changes/?state=RUNNING",
    "/changes/{change}/",
    "/changes/{undo}/",
    "/changes/{undo}/undo/",
    "/products/",
    "/products/{product}/",
    "/products/{product}/as-of/",
    "/evidence/",
    "/emails/",
    "/emails/identity/",
    "/inbox/",
    "/me/",
    "/find/",
    "/find/?text=a",
    "/shortcuts/",
    "/nowhere/",
    "/accounts/logout/",
    "/admin/",
    "/admin/products/accesschange/",
    "/admin/products/bulkchange/",
    "/admin/users/user/",
    "/admin/users/adminaction/",
    "/admin/notifications/notification/",
]


BEFORE_SIGN_IN = ["/accounts/login/", "/accounts/password/reset/", "/accounts/password/reset/done/", "/invitation/none/"]


def test_no_page_has_hard_coded_text(client: Client, organisation: dict[str, Any], known: set[str]) -> None:
    found = {}
    for path in BEFORE_SIGN_IN:
        found[path] = plain_words(client.get(path).content.decode(), known)
    client.force_login(organisation["ada"])
    for path in PAGES:
        response = client.get(path.format(**organisation), follow=True)
        assert response.status_code in (200, 404, 422), path
        found[path] = plain_words(response.content.decode(), known)

    assert {path: words for path, words in found.items() if words} == {}


def test_neither_previews_nor_results_have_hard_coded_text(client: Client, organisation: dict[str, Any], known: set[str]) -> None:
    client.force_login(organisation["ada"])
    found = {}
    for mode in ("REPLACE", "ADD", "REMOVE"):
        chosen = {"mode": mode, "shown": mode, "product": ids("meeting", "rescue"), "user": organisation["person"]}
        for address in ("/users/products/preview/", "/users/products/apply/"):
            response = client.post(address, {**chosen, "key": str(uuid.uuid4()), "expected": 1}, follow=True)
            found[mode, address] = plain_words(response.content.decode(), known)

    assert {where: words for where, words in found.items() if words} == {}
    assert BulkChange.objects.filter(actor=organisation["ada"]).count() >= 5


def test_hard_coded_text_would_be_found() -> None:
    page = f"<p>{pseudo.pseudo('Translated')}</p><p title='Hard'>Coded</p><a href='/users/'>Grace</a><script>let it = 1</script>"

    assert plain_words(page, {"Grace"}) == ["Hard", "Coded"]
    assert pseudo.pseudo("%(count)s of <b>%s</b>").startswith("%(count)s óƒ <b>%s</b>")
