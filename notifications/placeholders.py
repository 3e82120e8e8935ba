"""The language that emails are written in: text in which [[name]] stands for something. Nothing else in it means anything.

No template code is run: a text is cut at its placeholders, and the values are put between the pieces.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from typing import NamedTuple, Self

from django.utils.functional import Promise
from django.utils.translation import gettext as _

from users.typed import JOINERS

_OPENED = re.compile(r"\[\[")
_PLACEHOLDER = re.compile(r"\[\[ ?([a-z_]+) ?\]\]")


class Value(NamedTuple):
    """What is put in for a placeholder: into text, and into HTML."""

    text: str
    html: str

    @classmethod
    def plain(cls, text: object) -> Self:
        """Return some words as a value: what they hold stays words."""
        line = one_line(str(text))
        return cls(line, escape(line))


@dataclass(frozen=True)
class Placeholder:
    """One of the placeholders of a kind of email."""

    name: str
    label: str | Promise  # what it stands for, as an admin reads it
    is_block: bool = False  # more than words in a line: has to stand in a paragraph of its own
    is_needed: bool = False  # without it the email would not say what it is for

    def __str__(self) -> str:
        return written(self.name)


class Mistake(ValueError):
    """A text cannot be an email's: the message says why, `line` and `column` say where (from 1), both 0 when nowhere."""

    def __init__(self, message: str, line: int = 0, column: int = 0) -> None:
        super().__init__(message)
        self.line, self.column = line, column


@dataclass(frozen=True)
class Pieces:
    """A text cut at its placeholders: there is one literal more than there are names."""

    literals: tuple[str, ...]
    names: tuple[str, ...]

    def filled(self, values: Mapping[str, Value], *, as_html: bool = False) -> str:
        """Return the text with the values put in, as words or as HTML. Raises KeyError when one is missing."""
        found = [self.literals[0]]
        for name, literal in zip(self.names, self.literals[1:], strict=True):
            found += [values[name][as_html], literal]
        return "".join(found)

    def partly_filled(self, values: Mapping[str, Value]) -> "Pieces":
        """Return the text with those values put in as words that there are; what they hold is never a placeholder."""
        literals, names = [self.literals[0]], []
        for name, literal in zip(self.names, self.literals[1:], strict=True):
            if name in values:
                literals[-1] += values[name].text + literal
            else:
                names.append(name)
                literals.append(literal)
        return Pieces(tuple(literals), tuple(names))


def written(name: str) -> str:
    """Return a placeholder as it stands in a text."""
    return f"[[{name}]]"


def cut(text: str) -> Pieces:
    """Return the text cut at its placeholders."""
    parts = _PLACEHOLDER.split(text)
    return Pieces(tuple(parts[::2]), tuple(parts[1::2]))


def check(text: str, known: Iterable[Placeholder]) -> None:
    """See that every “[[” of the text begins a known placeholder. Raises Mistake at the first one that does not."""
    names = {placeholder.name for placeholder in known}
    for opened in _OPENED.finditer(text):
        found = _PLACEHOLDER.match(text, opened.start())
        if found and found[1] in names:
            continue
        line, column = text.count("\n", 0, opened.start()) + 1, opened.start() - text.rfind("\n", 0, opened.start())
        wrong = re.match(r"\[\[[^\[\]\n]{0,60}\]\]", text[opened.start() :])
        if wrong is None:
            message = _("In line %(line)s, character %(column)s, “[[” begins a placeholder that “]]” does not end.")
        else:
            message = _("There is no placeholder %(written)s (line %(line)s, character %(column)s).")
        raise Mistake(message % {"line": line, "column": column, "written": wrong[0] if wrong else ""}, line, column)


def one_line(text: str) -> str:
    """Return the text without line breaks, control characters and marks that turn the direction of what follows.

    They could forge a header or a paragraph, or show a name as another one. What joins letters stays: some names need it.
    """
    line = " ".join(text.split())
    return line if line.isprintable() else "".join(c for c in line if c.isprintable() or c in JOINERS)
