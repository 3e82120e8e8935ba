"""The translations of the emails: complete, with the placeholders of the original, and compiled."""

import ast
import gettext
import re
from pathlib import Path
from typing import Any

import pytest
from django.template.base import Node, Token
from django.template.loader import get_template
from django.templatetags.i18n import BlockTranslateNode, TranslateNode

from notifications import emails

ROOT = Path(__file__).parent.parent.parent
TEMPLATES = sorted(path.name for path in (ROOT / "templates" / "emails").iterdir())
CATALOGUES = sorted((ROOT / "locale").glob("*/LC_MESSAGES/django.po"))


def messages_of_template(name: str) -> set[str]:
    """Return what a template of an email has translated."""
    found = {node.filter_expression.var.literal for node in nodes(name, TranslateNode)}
    for node in nodes(name, BlockTranslateNode):
        tokens: list[Token] = node.singular
        found.add("".join(f"%({t.contents})s" if t.token_type.name == "VAR" else t.contents for t in tokens))
    return found


def nodes(name: str, kind: type[Node]) -> list[Any]:
    template: Any = get_template(f"emails/{name}")
    return list(template.template.nodelist.get_nodes_by_type(kind))


def messages_of_code(path: str) -> set[str]:
    """Return what a module has translated."""
    calls = (node for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.Call))
    arguments = (call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id == "_")
    return {str(argument.value) for argument in arguments if isinstance(argument, ast.Constant)}


MESSAGES = messages_of_code("products/emails.py").union(*map(messages_of_template, TEMPLATES))


def entries(path: Path) -> dict[str, tuple[str, bool]]:
    """Return the translations of a .po file, and whether each is fuzzy. Plural forms are looked at by whoever adds the first."""
    found = {}
    for block in re.split(r"\n\s*\n", path.read_text()):
        texts = {"msgid": "", "msgstr": ""}
        key = ""
        for line in block.splitlines():
            if match := re.match(r"(msgid|msgstr|) ?(\".*\")$", line):
                key = match[1] or key
                texts[key] += ast.literal_eval(match[2])
        found[texts["msgid"]] = (texts["msgstr"], bool(re.search(r"^#,.*\bfuzzy\b", block, re.MULTILINE)))
    return found


def placeholders(text: str) -> list[str]:
    return sorted(re.findall(r"%\(\w+\)[sd]", text))


def test_the_messages_are_found() -> None:
    assert "Hello %(reader)s," in MESSAGES
    assert "Your product access is suspended" in MESSAGES
    assert len(MESSAGES) > 30


def test_every_catalogue_is_used() -> None:
    assert {"fr"} <= {path.parts[-3] for path in CATALOGUES} == emails.languages() - {"en"}


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.parts[-3])
class TestCatalogue:
    def test_nothing_is_missing_or_fuzzy(self, path: Path) -> None:
        found = entries(path)

        assert [text for text in sorted(MESSAGES) if not found.get(text, ("", False))[0]] == []
        assert [text for text, (_translation, fuzzy) in found.items() if fuzzy] == []

    def test_placeholders_stay(self, path: Path) -> None:
        translated = {text: translation for text, (translation, _fuzzy) in entries(path).items() if text and translation}

        assert [text for text, translation in translated.items() if placeholders(text) != placeholders(translation)] == []

    def test_the_compiled_catalogue_is_not_stale(self, path: Path) -> None:
        with path.with_suffix(".mo").open("rb") as file:
            compiled = gettext.GNUTranslations(file)

        assert [text for text, (translation, _f) in entries(path).items() if text and compiled.gettext(text) != translation] == []
        assert {text for text in compiled._catalog if text} == {text for text in entries(path) if text}  # type: ignore[attr-defined]


def test_templates_hide_no_translation_in_an_unknown_tag() -> None:
    for name in TEMPLATES:
        kinds = {type(node).__name__ for node in nodes(name, Node)}
        assert not {kind for kind in kinds if "ranslate" in kind} - {"TranslateNode", "BlockTranslateNode"}
