"""The translations of the emails: complete, with the placeholders of the original, and compiled."""

import ast
import gettext
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.template.base import Node, Token
from django.template.loader import get_template
from django.templatetags.i18n import BlockTranslateNode, TranslateNode

from notifications import emails
from notifications.phrases import joined
from products.emails import NOTHING_LEFT

ROOT = Path(__file__).parent.parent.parent
TEMPLATES = sorted(path.name for path in (ROOT / "templates" / "emails").iterdir())
ROOMS = ["notifications/phrases.py", "notifications/emails.py", "products/emails.py", "products/guides.py", "products/news.py"]
CATALOGUES = sorted((ROOT / "locale").glob("*/LC_MESSAGES/django.po"))
type Message = tuple[str, str, str]  # context, singular, plural


def messages_of_template(name: str) -> set[Message]:
    """Return what a template of an email has translated."""
    found = {("", node.filter_expression.var.literal, "") for node in nodes(name, TranslateNode)}
    for node in nodes(name, BlockTranslateNode):
        found.add(("", written(node.singular), written(node.plural or [])))
    return found


def written(tokens: list[Token]) -> str:
    return "".join(f"%({t.contents})s" if t.token_type.name == "VAR" else t.contents for t in tokens)


def nodes(name: str, kind: type[Node]) -> list[Any]:
    template: Any = get_template(f"emails/{name}")
    return list(template.template.nodelist.get_nodes_by_type(kind))


def messages_of_code(path: str) -> Iterator[Message]:
    """Yield what a module has translated."""
    for call in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
            texts = [str(argument.value) for argument in call.args if isinstance(argument, ast.Constant)]
            match call.func.id, texts:
                case "_" | "gettext", [text]:
                    yield "", text, ""
                case "ngettext", [text, plural]:
                    yield "", text, plural
                case "pgettext", [context, text]:
                    yield context, text, ""


MESSAGES = {*(message for path in ROOMS for message in messages_of_code(path))}.union(*map(messages_of_template, TEMPLATES))


@dataclass
class Entry:
    """One message of a .po file."""

    texts: dict[str, str] = field(default_factory=dict)  # by msgctxt, msgid, msgid_plural, msgstr, msgstr[0] …
    fuzzy: bool = False

    @property
    def message(self) -> Message:
        return self.texts.get("msgctxt", ""), self.texts["msgid"], self.texts.get("msgid_plural", "")

    @property
    def translations(self) -> list[str]:
        return [text for key, text in self.texts.items() if key.startswith("msgstr")]


def entries(path: Path) -> dict[Message, Entry]:
    """Return the messages of a .po file, without its header."""
    found = {}
    for block in re.split(r"\n\s*\n", path.read_text()):
        entry, key = Entry(fuzzy=bool(re.search(r"^#,.*\bfuzzy\b", block, re.MULTILINE))), ""
        for line in block.splitlines():
            if match := re.match(r"(msgctxt|msgid_plural|msgid|msgstr(?:\[\d\])?|) ?(\".*\")$", line):
                key = match[1] or key
                entry.texts[key] = entry.texts.get(key, "") + ast.literal_eval(match[2])
        if entry.texts.get("msgid"):
            found[entry.message] = entry
    return found


def placeholders(text: str) -> list[str]:
    return sorted(re.findall(r"%\(\w+\)[sd]", text))


def test_the_messages_are_found() -> None:
    assert {("", "Hello %(reader)s,", ""), ("", str(NOTHING_LEFT), "")} <= MESSAGES
    assert ("end of a list", "%(first)s and %(second)s", "") in MESSAGES
    assert ("", "%(users)s user was changed.", "%(users)s users were changed.") in MESSAGES
    assert len(MESSAGES) > 80


def test_every_catalogue_is_used() -> None:
    assert {"fr"} <= {path.parts[-3] for path in CATALOGUES} == emails.languages() - {"en"}


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.parts[-3])
class TestCatalogue:
    def test_nothing_is_missing_or_fuzzy(self, path: Path) -> None:
        found = entries(path)

        assert [message for message in sorted(MESSAGES) if message not in found or not all(found[message].translations)] == []
        assert [message for message, entry in found.items() if entry.fuzzy] == []

    def test_there_is_a_translation_for_each_plural_form(self, path: Path) -> None:
        with path.with_suffix(".mo").open("rb") as file:
            forms = int(re.search(r"nplurals=(\d)", gettext.GNUTranslations(file).info()["plural-forms"])[1])

        assert {len(entry.translations) for entry in entries(path).values() if entry.message[2]} <= {forms}

    def test_placeholders_stay(self, path: Path) -> None:
        for (_context, text, plural), entry in entries(path).items():
            assert {tuple(placeholders(translation)) for translation in entry.translations if translation} <= {
                tuple(placeholders(text)),
                tuple(placeholders(plural or text)),
            }, text

    def test_the_compiled_catalogue_is_not_stale(self, path: Path) -> None:
        with path.with_suffix(".mo").open("rb") as file:
            compiled = dict(gettext.GNUTranslations(file)._catalog)  # type: ignore[attr-defined]
        expected: dict[Any, str] = {}
        for (context, text, plural), entry in entries(path).items():
            key = f"{context}\x04{text}" if context else text
            if plural:
                expected |= {(key, form): translation for form, translation in enumerate(entry.translations)}
            else:
                expected[key] = entry.translations[0]

        assert {key: text for key, text in compiled.items() if key} == expected


def test_templates_hide_no_translation_in_an_unknown_tag() -> None:
    for name in TEMPLATES:
        kinds = {type(node).__name__ for node in nodes(name, Node)}
        assert not {kind for kind in kinds if "ranslate" in kind} - {"TranslateNode", "BlockTranslateNode"}


@pytest.mark.parametrize(
    ("names", "sentence"), [([], ""), (["A"], "A"), (["A", "B"], "A and B"), (["A", "B", "C", "D"], "A, B, C and D")]
)
def test_names_are_joined_as_a_sentence_lists_them(names: list[str], sentence: str) -> None:
    assert joined(names) == sentence
