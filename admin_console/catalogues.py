"""The catalogues of translations: what there is to translate in the source, and each language's .po and .mo file in step with it.

A tool for those who work on the console: it needs polib, which the running console does not.
"""

import ast
import gettext
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import django
import polib
from django.conf import settings
from django.utils.translation.template import templatize

from admin_console.languages import UNTRANSLATED

APPS = ("users", "notifications", "products", "admin_console")
# Of each function its arguments that are texts, in order: c(ontext), s(ingular), p(lural).
ARGUMENTS = {"gettext": "s", "gettext_noop": "s", "ngettext": "sp", "pgettext": "cs", "npgettext": "csp"}
LITERAL = r"""u?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
CALL = re.compile(rf"\b(?:_|n?p?gettext)\((?:\s*{LITERAL}\s*,?)+(?:\s*count)?\)")  # what `templatize` makes of a template


class NotExtractable(Exception):
    """A text that is put together before it is translated: no catalogue can hold it."""


@dataclass
class Message:
    """A text to translate, where it is used, and what translators should know."""

    context: str
    text: str
    plural: str
    places: list[str] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str]:
        """By which a catalogue finds it."""
        return self.context, self.text


def messages() -> list[Message]:
    """Return everything to translate, in the order of the files. Raises NotExtractable."""
    found: dict[tuple[str, str], Message] = {}
    for path in _sources():
        place = str(path.relative_to(settings.BASE_DIR))
        for message in _of_python(path) if path.suffix == ".py" else _of_template(path):
            known = found.setdefault(message.key, message)
            known.plural = known.plural or message.plural
            known.places += [place] if place not in known.places else []
            known.comments += [comment for comment in message.comments if comment not in known.comments]
    return list(found.values())


def update(path: Path, language: str, wanted: list[Message]) -> polib.POFile:
    """Bring a .po file and its .mo file in step with the messages, and return it. What is wanted no more stays as obsolete."""
    old = polib.pofile(str(path)) if path.exists() else polib.POFile()
    known = {(entry.msgctxt or "", entry.msgid): entry for entry in old}
    catalogue = polib.POFile(wrapwidth=0)
    plural_forms = plural_rule(language)
    for message in wanted:
        catalogue.append(_entry(message, known.pop(message.key, None), _number_of_forms(plural_forms)))
    for entry in known.values():
        if entry.translated() or entry.obsolete:
            entry.obsolete = True
            catalogue.append(entry)
    waiting = len(catalogue.untranslated_entries()) + len(catalogue.fuzzy_entries())
    catalogue.metadata = {
        "Language": language,
        "MIME-Version": "1.0",
        "Content-Type": "text/plain; charset=UTF-8",
        "Content-Transfer-Encoding": "8bit",
        "Plural-Forms": plural_forms,
        UNTRANSLATED: str(waiting),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    catalogue.save(str(path))
    if catalogue.translated_entries():
        catalogue.save_as_mofile(str(path.with_suffix(".mo")))
    return catalogue


def plural_rule(language: str) -> str:
    """Return how the language forms plurals, as Django's own catalogue has it: so both agree."""
    path = Path(django.__file__).parent / "conf" / "locale" / language / "LC_MESSAGES" / "django.mo"
    with path.open("rb") as file:
        return gettext.GNUTranslations(file).info()["plural-forms"]


def _number_of_forms(rule: str) -> int:
    return int(re.findall(r"nplurals=(\d)", rule)[0])


def _sources() -> Iterator[Path]:
    root = Path(settings.BASE_DIR)
    for app in APPS:
        yield from (path for path in sorted((root / app).rglob("*.py")) if "migrations" not in path.parts)
    yield from (path for path in sorted((root / "templates").rglob("*")) if path.suffix in (".html", ".txt"))


def _of_python(path: Path) -> Iterator[Message]:
    source = path.read_text()
    tree, lines = ast.parse(source), source.splitlines()
    names = {
        alias.asname or alias.name: alias.name.removesuffix("_lazy")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "django.utils.translation"
        for alias in node.names
    }
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        order = ARGUMENTS.get(names.get(node.func.id, ""), "")
        if order and (message := _message(node, order, f"{path}:{node.lineno}")):
            above = lines[node.lineno - 2].strip() if node.lineno > 1 else ""
            message.comments = [above.removeprefix("# ")] if above.startswith("# Translators:") else []
            yield message


def _of_template(path: Path) -> Iterator[Message]:
    for call in CALL.findall(templatize(path.read_text(), origin=str(path))):
        node = ast.parse(call, mode="eval").body
        assert isinstance(node, ast.Call)
        assert isinstance(node.func, ast.Name)
        message = _message(node, ARGUMENTS["gettext" if node.func.id == "_" else node.func.id], str(path))
        if message:
            yield message


def _message(call: ast.Call, order: str, where: str) -> Message | None:
    """Return what a call translates; nothing when that is a variable, whose text is marked elsewhere."""
    given = call.args[: len(order)]
    if any(isinstance(each, ast.JoinedStr | ast.BinOp) for each in given):
        raise NotExtractable(f"{where}: a text that is put together cannot be translated; expected one with placeholders.")
    texts = {kind: each.value for kind, each in zip(order, given, strict=False) if isinstance(each, ast.Constant)}
    if len(texts) < len(order):
        return None
    return Message(str(texts.get("c", "")), str(texts["s"]), str(texts.get("p", "")))


def _entry(message: Message, old: polib.POEntry | None, forms: int) -> polib.POEntry:
    """Return the message with the translation that it had; fuzzy, if now it has a plural and had none, or the other way round."""
    entry = polib.POEntry(
        msgctxt=message.context or None,
        msgid=message.text,
        msgid_plural=message.plural,
        comment="\n".join(message.comments),
        occurrences=[(place, "") for place in message.places],
    )
    texts = [*old.msgstr_plural.values(), old.msgstr] if old else []
    texts = [text for text in texts if text] or [""]
    if message.plural:  # of two forms and three, the first is for one and the last for most
        entry.msgstr_plural = dict(enumerate(texts if len(texts) == forms else [texts[0], *[texts[-1]] * (forms - 1)]))
    else:
        entry.msgstr = texts[0]
    turned = texts[0] and old and bool(old.msgid_plural) != bool(message.plural)
    entry.flags = ["fuzzy"] if old and ("fuzzy" in old.flags or turned) else []
    return entry
