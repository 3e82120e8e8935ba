"""By what a person is called, in all the ways in which that may be written somewhere: found there, and overwritten."""

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from html import escape
from typing import Any
from urllib.parse import quote, quote_plus

from django.db import connection

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


def names_of(user: User) -> list[str]:
    """Return by what the user is called, the longest first: their address, their names together, in both orders, and the last.

    And by what they were called before that was edited; but no address that is another user's by now.
    """
    edits = AdminAction.objects.filter(action=Action.USER_EDITED, subject_id=user.pk, words__isnull=False)
    earlier = [each for row in edits.values_list("words__before", "words__after") for each in row]
    called = {user.email, *(each["email"] for each in earlier)}
    called -= set(User.objects.filter(email__in=called).exclude(pk=user.pk).values_list("email", flat=True))
    for first, last in [(user.first_name, user.last_name), *((each["first_name"], each["last_name"]) for each in earlier)]:
        called |= {full_name(first, last), full_name(last, first), f"{last}, {first}" if first and last else "", last}
    with connection.cursor() as cursor:
        cursor.execute("SELECT users_fold(name) FROM unnest(%s::text[]) AS name", [list(called)])
        called |= {row[0] for row in cursor.fetchall()}
    return sorted((name for name in called if len(name) >= LEAST), key=len, reverse=True)


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
