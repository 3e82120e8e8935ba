"""By what a person is called, in all the ways in which that may be written somewhere: found there, and overwritten."""

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from html import escape
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus

from django.db import connection

from notifications.wordings import identity
from users.models import Action, AdminAction, User, full_name

ERASED = "[erased]"  # stands where a name or an address stood
LEAST = 3  # letters of a name that is looked for by itself
# As it is, in the address of a page, in JSON, in HTML, in letters and accents apart as some keyboards write them.
WAYS: Sequence[Callable[[str], str]] = (
    str,
    quote,
    quote_plus,
    lambda name: json.dumps(name, ensure_ascii=False)[1:-1],
    escape,
    lambda name: unicodedata.normalize("NFD", name),
)


class Names(NamedTuple):
    """By what a user is called, the longest first."""

    fully: list[str]  # addresses, and names together, in both orders: these are looked for everywhere
    last: list[str]  # by itself it may be a word of any text, so it is looked for only in what is about them, and in searches
    earlier: list[str]  # addresses and names, as they were before they were edited


def names_of(user: User) -> Names:
    """Return by what the user is called: their address, their names together, and the last; and by what they were called before.

    Any admin may have edited somebody to be called anything for a moment, and then it would be overwritten with them, wherever it
    stands. So of what they were called before only names together count, and none that is another user's by now, in any order,
    nor the address that emails come from or that replies go to.
    """
    edits = AdminAction.objects.filter(action=Action.USER_EDITED, subject_id=user.pk, words__isnull=False)
    earlier = [each for row in edits.values_list("words__before", "words__after") for each in row]
    console = identity()
    emails = {each["email"] for each in earlier} - {user.email}
    emails -= {each.lower() for each in (console.sender_address, console.envelope, console.reply_address)}
    emails -= set(User.objects.filter(email__in=emails).values_list("email", flat=True))
    names = {(each["first_name"], each["last_name"]) for each in earlier} - {(user.first_name, user.last_name)}
    orders = {name: _in_any_order(*name) for name in names}
    taken = _taken({each for texts in orders.values() for each in texts}, but_for=user)
    names = {name for name, texts in orders.items() if taken.isdisjoint(texts)}
    together = {each for first, last in names | {(user.first_name, user.last_name)} for each in _together(first, last)}
    before = emails | {full_name(first, last) for first, last in names if _together(first, last)}
    return Names(_folded_too({user.email} | emails | together), _folded_too({user.last_name}), sorted(before))


def _together(first: str, last: str) -> list[str]:
    """Return a first and a last name together, in both orders; nothing when they are one word only."""
    if " " not in full_name(first, last):
        return []
    return [full_name(first, last), full_name(last, first), *([f"{last}, {first}"] if first and last else [])]


def _in_any_order(first: str, last: str) -> set[str]:
    """Return the texts that are looked for with any of their words first: whoever is called one of these is found too."""
    texts = _together(first, last)
    words = [each.split() for text in texts for each in (text, text.replace(",", " "))]
    return {" ".join(each[n:] + each[:n]) for each in words for n in range(len(each))}


def _taken(names: set[str], *, but_for: User) -> set[str]:
    """Return which of these names are another user's, be it as a first or a last name alone."""
    folded = _folded(names)
    keys = {key for each in folded.values() for key in (each, f" {each}", f"{each} ")}
    others = User.objects.exclude(pk=but_for.pk).filter(name_key__in=keys)
    found = {key.strip() for key in others.values_list("name_key", flat=True)}
    return {name for name, key in folded.items() if key in found}


def _folded(names: set[str]) -> dict[str, str]:
    """Return names as they are searched, by themselves."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, users_fold(name) FROM unnest(%s::text[]) AS name", [list(names)])
        return dict(cursor.fetchall())


def _folded_too(names: set[str]) -> list[str]:
    names = names | {*_folded(names).values()}
    return sorted((name for name in names if len(name) >= LEAST), key=len, reverse=True)


def named(column: str) -> str:
    """Return the condition that a column names somebody, as SQL that takes `Naming.facts`.

    Most texts do not, and that is found out ten times sooner without the regular expression.
    """
    return f"CASE WHEN lower({column}) LIKE ANY(%(written)s) THEN {column} ~* %(names)s ELSE false END"


def overwritten(column: str) -> str:
    """Return a column with the names overwritten, as SQL that takes `Naming.facts`."""
    return f"regexp_replace({column}, %(names)s, %(erased)s, 'gi')"


class Naming:
    """Some names, found as whole words in any text, whatever its capitals."""

    def __init__(self, names: Iterable[str]) -> None:
        self._written = list(dict.fromkeys(way(name) for name in names for way in WAYS))
        self._needles = [text.lower() for text in self._written]

    @property
    def facts(self) -> dict[str, Any]:
        r"""The parameters of `named` and `overwritten`. (For PostgreSQL \m and \M are where a word begins and ends.)"""
        # What holds another one is found by that.
        needles = [each for each in self._needles if not any(other != each and other in each for other in self._needles)]
        like = [f"%{re.sub(r'([\\%_])', r'\\\1', each)}%" for each in dict.fromkeys(needles)]
        return {"names": self._pattern(r"\m", r"\M"), "written": like, "erased": ERASED}

    def is_in(self, text: str) -> bool:
        """Return whether the text names them."""
        lower = text.lower()
        return any(each in lower for each in self._needles) and bool(self._compiled.search(text))

    def overwrite(self, text: str) -> str:
        """Return the text with the names overwritten."""
        return self._compiled.sub(ERASED, text)

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self._pattern(r"\b", r"\b"), re.IGNORECASE)

    def _pattern(self, begins: str, ends: str) -> str:
        """Return a regular expression; what is no letter begins and ends a word by itself."""
        wholes = (
            (begins if text[0].isalnum() else "") + re.sub(r"([^\w\s])", r"\\\1", text) + (ends if text[-1].isalnum() else "")
            for text in self._written
        )
        return f"({'|'.join(wholes)})"
