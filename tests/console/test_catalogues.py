"""The translations: every text can be translated, and a language that is offered has all of them, right in form."""

import ast
import gettext
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import polib
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.utils.translation import gettext as _
from django.utils.translation import override

from admin_console import catalogues, languages
from admin_console.catalogues import APPS, Message, messages, update

ROOT = Path(__file__).parent.parent.parent
CATALOGUES = sorted((ROOT / "locale").glob("*/LC_MESSAGES/django.po"))
# The languages that are whole: all of them.
SPOKEN = {code for code, _name in settings.LANGUAGES}


# What a language does not write. In French a narrow no-break space stands before ; : ? ! and inside of « ».
FOREIGN = {
    "fr": r"[^\u202f][;?!»]|[^\u202f\d]:|«[^\u202f]|[“”'\"]",
    "de": r"[”«»\"]|“[^„]*“",
    "es": r"^[^¿]*\?|^[^¡]*!",
}


@cache
def wanted() -> list[Message]:
    return messages()


def placeholders(text: str) -> list[str]:
    return sorted(re.findall(r"%\(\w+\)[sd]|%[sd]", text))


def tags(text: str) -> list[str]:
    return sorted(re.findall(r"</?\w+[^>]*>", text))


def texts(entry: polib.POEntry) -> list[str]:
    return [text for text in (entry.msgstr, *entry.msgstr_plural.values()) if text]


def test_the_languages_that_are_offered() -> None:
    assert set(languages.offered()) == SPOKEN


@pytest.mark.parametrize("language", sorted(SPOKEN))
def test_a_language_that_is_spoken_is_whole(language: str) -> None:
    if language == "en":  # the source itself
        assert wanted()
        return
    catalogue = polib.pofile(str(ROOT / "locale" / language / "LC_MESSAGES" / "django.po"))
    translated = {(entry.msgctxt or "", entry.msgid, entry.msgid_plural) for entry in catalogue.translated_entries()}

    assert [message.text for message in wanted() if (*message.key, message.plural) not in translated] == []
    assert catalogue.metadata["Plural-Forms"] == catalogues.plural_rule(language)
    assert catalogue.metadata[languages.UNTRANSLATED] == "0"


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.parts[-3])
class TestCatalogue:
    def test_placeholders_and_tags_stay(self, path: Path) -> None:
        for entry in polib.pofile(str(path)):
            for text in texts(entry):
                originals = (entry.msgid, entry.msgid_plural or entry.msgid)
                assert placeholders(text) in [placeholders(each) for each in originals], entry.msgid
                assert tags(text) in [tags(each) for each in originals], entry.msgid

    def test_there_is_a_translation_for_each_plural_form(self, path: Path) -> None:
        catalogue = polib.pofile(str(path))
        forms = int(re.findall(r"nplurals=(\d)", catalogue.metadata["Plural-Forms"])[0])

        assert {len(entry.msgstr_plural) for entry in catalogue if entry.msgid_plural} <= {forms}

    def test_it_is_punctuated_as_the_language_is(self, path: Path) -> None:
        foreign = FOREIGN.get(path.parts[-3], r"[„«»\"]")

        assert [
            text for entry in polib.pofile(str(path)) if not entry.obsolete for text in texts(entry) if re.search(foreign, text)
        ] == []

    def test_the_compiled_catalogue_is_not_stale(self, path: Path) -> None:
        with path.with_suffix(".mo").open("rb") as file:
            compiled = dict(gettext.GNUTranslations(file)._catalog)  # type: ignore[attr-defined]
        expected: dict[Any, str] = {}
        for entry in polib.pofile(str(path)).translated_entries():
            key = f"{entry.msgctxt}\x04{entry.msgid}" if entry.msgctxt else entry.msgid
            forms: dict[Any, str] = {(key, form): text for form, text in entry.msgstr_plural.items()}
            expected |= forms or {key: entry.msgstr}

        assert {key: text for key, text in compiled.items() if key} == expected


class TestTheCommand:
    @pytest.fixture
    def locale(self, tmp_path: Path, settings: Any) -> Path:
        """Return an empty folder of catalogues."""
        settings.LOCALE_PATHS = [tmp_path]
        return tmp_path

    def test_it_makes_a_catalogue_of_everything(self, locale: Path) -> None:
        call_command("messages", "de")

        catalogue = polib.pofile(str(locale / "de" / "LC_MESSAGES" / "django.po"))
        assert len(catalogue) == len(wanted()) > 800
        assert catalogue.metadata[languages.UNTRANSLATED] == str(len(wanted()))
        assert not (locale / "de" / "LC_MESSAGES" / "django.mo").exists()

    def test_an_unknown_language_is_refused(self, locale: Path) -> None:
        with pytest.raises(CommandError, match="There is no language xx"):
            call_command("messages", "xx")

    def test_translations_stay_and_what_is_gone_can_come_back(self, tmp_path: Path) -> None:
        path = tmp_path / "django.po"
        here, gone = Message("", "Here", ""), Message("in a list", "Gone", "")
        catalogue = update(path, "de", [here, gone])
        for entry, text in zip(catalogue, ["Da", "Weg"], strict=True):
            entry.msgstr = text
        catalogue.save(str(path))

        assert [entry.msgstr for entry in update(path, "de", [here])] == ["Da", "Weg"]
        assert [entry.msgid for entry in update(path, "de", [here]).obsolete_entries()] == ["Gone"]
        assert [entry.msgstr for entry in update(path, "de", [gone, here]).translated_entries()] == ["Weg", "Da"]

    def test_a_text_that_gets_a_plural_waits_for_a_look(self, tmp_path: Path) -> None:
        path = tmp_path / "django.po"
        catalogue = update(path, "fr", [Message("", "%(n)s user", "")])
        catalogue[0].msgstr = "%(n)s utilisateur"
        catalogue.save(str(path))

        again = update(path, "fr", [Message("", "%(n)s user", "%(n)s users")])

        assert [len(entry.msgstr_plural) for entry in again.fuzzy_entries()] == [3]
        assert again.metadata[languages.UNTRANSLATED] == "1"

    def test_what_it_writes_does_not_change_when_nothing_changed(self, tmp_path: Path) -> None:
        path = tmp_path / "django.po"
        update(path, "nl", wanted())
        first = path.read_text()
        update(path, "nl", wanted())

        assert path.read_text() == first

    @pytest.mark.parametrize(
        ("code", "found"),
        [
            ('_("a" "b")', [("", "ab", "")]),
            ('ngettext("a", "b", 3)', [("", "a", "b")]),
            ('pgettext("here", "a")', [("here", "a", "")]),
            ("_(text)", []),
        ],
    )
    def test_what_is_found_in_code(self, tmp_path: Path, code: str, found: list[tuple[str, str, str]]) -> None:
        (tmp_path / "room.py").write_text(f"from django.utils.translation import gettext_lazy as _, ngettext, pgettext\n{code}\n")

        assert [(each.context, each.text, each.plural) for each in catalogues._of_python(tmp_path / "room.py")] == found

    @pytest.mark.parametrize("code", ['_(f"{name}")', '_("a" + name)', '_("%s" % name)'])
    def test_what_is_put_together_first_is_refused(self, tmp_path: Path, code: str) -> None:
        (tmp_path / "room.py").write_text(f"from django.utils.translation import gettext as _\n{code}\n")

        with pytest.raises(catalogues.NotExtractable, match="expected one with placeholders"):
            list(catalogues._of_python(tmp_path / "room.py"))

    def test_what_is_found_in_a_template(self, tmp_path: Path) -> None:
        (tmp_path / "page.html").write_text(
            '{% translate "It\'s" %}{% dash _("None") %}{{ x|default:_("Never") }}{% translate "May" context "month" %}'
            '{% blocktranslate count counter=n with a=b %}{{ a }} "user"{% plural %}{{ a }} users{% endblocktranslate %}'
        )

        assert [(each.context, each.text, each.plural) for each in catalogues._of_template(tmp_path / "page.html")] == [
            ("", "It's", ""),
            ("", "None", ""),
            ("", "Never", ""),
            ("month", "May", ""),
            ("", '%(a)s "user"', "%(a)s users"),
        ]


@cache
def modules() -> list[tuple[Path, ast.Module]]:
    paths = [path for app in APPS for path in sorted((ROOT / app).rglob("*.py")) if "migrations" not in path.parts]
    return [(path.relative_to(ROOT), ast.parse(path.read_text())) for path in paths]


@cache
def translating(tree: ast.Module, *, lazily: bool) -> set[str]:
    """Return the names under which a module calls gettext's functions, the lazy ones or the others."""
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "django.utils.translation"
        for alias in node.names
        if "gettext" in alias.name and alias.name.endswith("_lazy") == lazily
    }


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what runs when a module is imported."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from at_import(child)


def test_nothing_is_translated_before_the_language_is_known() -> None:
    early = [
        f"{path}:{node.lineno}"
        for path, tree in modules()
        for node in at_import(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in translating(tree, lazily=False)
    ]

    assert early == []


def test_no_sentence_is_put_together_of_translated_pieces() -> None:
    glued = [
        f"{path}:{node.lineno}"
        for path, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add)
        for side, other in ((node.left, node.right), (node.right, node.left))
        if not (isinstance(other, ast.Constant) and other.value == " ")  # between whole sentences
        if isinstance(side, ast.Call) and isinstance(side.func, ast.Name)
        if side.func.id in translating(tree, lazily=False) | translating(tree, lazily=True)
    ]

    assert glued == []


def test_every_number_is_written_as_the_language_writes_it() -> None:
    """A count that a template shows by itself has no separators; one that is filled in goes through intcomma."""
    bare = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / "templates").rglob("*.html"))
        for name in re.findall(
            r"(?<!\")\{\{ (\w+(?:\.\w+)*\.(?:count|targets|changed|unchanged|skipped|selected|users|seats|used|free)) \}\}",
            path.read_text(),
        )
    ]

    assert bare == []


def test_the_settings_know_the_seven_languages() -> None:
    assert [code for code, _name in settings.LANGUAGES] == ["en", "fr", "it", "de", "es", "pt", "nl"]


def test_the_labels_of_the_glossary_are_those_of_the_catalogues() -> None:
    rows = [
        line.strip("| ").split(" | ")
        for line in (ROOT / "docs" / "translating.md").read_text().splitlines()
        if line[:4] == "| **"
    ]

    assert len(rows) >= 9
    for words in rows:
        labels, *translations = [cell.strip("*").split(", ") for cell in words]
        for language, translated in zip(["fr", "it", "de", "es", "pt", "nl"], translations, strict=True):
            with override(language):
                assert [_(label) for label in labels] == translated, language
