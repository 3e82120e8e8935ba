"""The translations of the emails: whole in every language they are written in. Their form: tests/console/test_catalogues.py."""

import re
from pathlib import Path
from typing import Any

import polib
import pytest
from django.template.base import Node
from django.template.loader import get_template
from django.utils.translation import gettext, override

from admin_console.catalogues import messages
from notifications import emails
from notifications.phrases import joined
from products.emails import NOTHING_LEFT

ROOT = Path(__file__).parent.parent.parent
TEMPLATES = sorted(path.name for path in (ROOT / "templates" / "emails").iterdir())
ROOMS = {"notifications/phrases.py", "notifications/emails.py", "products/emails.py", "products/guides.py", "products/news.py"}
CATALOGUES = sorted((ROOT / "locale").glob("*/LC_MESSAGES/django.po"))
MESSAGES = {
    (message.context, message.text, message.plural)
    for message in messages()
    if any(place in ROOMS or place.startswith("templates/emails/") for place in message.places)
}


def test_the_messages_are_found() -> None:
    assert {("", "Hello %(reader)s,", ""), ("", str(NOTHING_LEFT), "")} <= MESSAGES
    assert ("end of a list", "%(first)s and %(second)s", "") in MESSAGES
    assert ("", "%(users)s user was changed.", "%(users)s users were changed.") in MESSAGES
    assert len(MESSAGES) > 80


def test_every_catalogue_is_used() -> None:
    assert {"fr"} <= {path.parts[-3] for path in CATALOGUES} == emails.languages() - {"en"}


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.parts[-3])
def test_nothing_is_missing_or_fuzzy(path: Path) -> None:
    found = {(entry.msgctxt or "", entry.msgid, entry.msgid_plural) for entry in polib.pofile(str(path)).translated_entries()}

    assert sorted(MESSAGES - found) == []


# Who is told so shall not think that something is left. Read by hand: whoever translates these anew reads them again.
UNTICKED = "If all boxes are unticked, products are removed and the user shows as Suspended."
# That no product is left, that nobody signs in to one until one is given again; and what an empty choice does.
SAID = {
    "en": ("no products any more.*suspended.*cannot sign in to any .*until one is assigned", "unticked.*removed.*Suspended"),
    "fr": ("plus aucun produit.*suspendu.*ne pouvez .*aucun .*tant qu.*attribué", "décochées.*retirés.*Suspendu"),
    "it": ("Non ha più alcun prodotto.*sospeso.*non è possibile .*finché non .*assegnato", "deselezionate.*rimossi.*Sospeso"),
    "de": ("keine Produkte mehr.*gesperrt.*keinem Produkt anmelden, bis .*zugewiesen", "leer.*entfernt.*Gesperrt"),
    "es": ("Ya no tiene ningún producto.*suspendido.*no puede .*hasta que .*asignar", "desmarcadas.*quitan.*Suspendido"),
    "pt": ("não tem mais nenhum produto.*suspenso.*não pode .*até que .*atribuído", "desmarcadas.*removidos.*Suspenso"),
    "nl": ("geen producten meer.*opgeschort.*geen enkel .*totdat .*toegewezen", "geen enkel vakje.*verwijderd.*Opgeschort"),
}


@pytest.mark.parametrize("language", SAID)
def test_the_sentences_about_suspended_mean_what_they_mean(language: str) -> None:
    with override(language):
        said = str(NOTHING_LEFT), gettext(UNTICKED)

    assert SAID.keys() == emails.languages()
    for sentence, meaning in zip(said, SAID[language], strict=True):
        assert re.search(meaning, sentence), sentence


def test_templates_hide_no_translation_in_an_unknown_tag() -> None:
    for name in TEMPLATES:
        template: Any = get_template(f"emails/{name}")
        kinds = {type(node).__name__ for node in template.template.nodelist.get_nodes_by_type(Node)}
        assert not {kind for kind in kinds if "ranslate" in kind} - {"TranslateNode", "BlockTranslateNode"}


@pytest.mark.parametrize(
    ("names", "sentence"), [([], ""), (["A"], "A"), (["A", "B"], "A and B"), (["A", "B", "C", "D"], "A, B, C and D")]
)
def test_names_are_joined_as_a_sentence_lists_them(names: list[str], sentence: str) -> None:
    assert joined(names) == sentence
