"""A language that nobody speaks: all letters have accents, every text is a third longer. What stays plain was not translated."""

import re
import string
from typing import Any

from django.utils.translation import trans_real

CODE = "xx"
LETTERS = str.maketrans(dict(zip(string.ascii_letters, "åƀçđéƒĝĥíĵķĺɱñóþǫřšţúṽŵẋýžÅƁÇĐÉƑĜĤÍĴĶĹṀÑÓÞǪŘŠŢÚṼŴẊÝŽ", strict=True)))
# What is not for readers: placeholders of Python and of formats, tags, references to characters.
KEPT = re.compile(r"(%\(\w+\)[a-z]|%[sd%]|\{\w*\}|<[^>]*>|&#?\w+;)")


def pseudo(text: str) -> str:
    """Return a text as it is in this language."""
    if not re.search("[A-Za-z]", KEPT.sub("", text)):
        return text
    parts = KEPT.split(text)
    longer = re.sub("~{6}", "~~~~~ ", "~" * max(1, round(0.35 * len(KEPT.sub("", text)) - 0.5)))
    return "".join(part if number % 2 else part.translate(LETTERS) for number, part in enumerate(parts)) + longer


class Pseudo:
    """The catalogue of this language, as far as Django asks one: it has a translation for every text."""

    def gettext(self, message: str) -> str:
        return pseudo(message.rpartition("\x04")[2])  # after a context

    def ngettext(self, singular: str, plural: str, number: float) -> str:
        return self.gettext(singular if number == 1 else plural)

    def language(self) -> str:
        return CODE

    def to_language(self) -> str:
        return CODE


def speak(monkeypatch: Any) -> None:
    """Let the console answer everybody in this language, for the time of a test."""
    monkeypatch.setitem(trans_real._translations, CODE, Pseudo())  # type: ignore[attr-defined]  # Django's cache of catalogues
    monkeypatch.setattr("admin_console.languages.of", lambda request: CODE)
