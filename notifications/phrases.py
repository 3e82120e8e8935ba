"""Turns of phrase that emails and pages share, in the language that is active."""

from collections.abc import Sequence
from datetime import datetime
from functools import cache, lru_cache
from zoneinfo import ZoneInfo

from django.template.loader import render_to_string
from django.utils.formats import date_format
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.timezone import get_default_timezone, localtime
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from notifications.placeholders import Pieces, Value, cut, one_line, written
from users.moments import zones


def joined(names: Sequence[str]) -> str:
    """Return names as a sentence lists them: “A”, “A and B”, “A, B and C”."""
    if len(names) < 2:
        return "".join(names)
    if len(names) == 2:
        # Translators: joins the only two of a list, as in “A and B”
        last = pgettext("end of a list", "%(first)s and %(second)s")
    else:
        # Translators: joins the last one to a list of at least two, as in “A, B and C”; with a comma where yours has one
        last = pgettext("end of a long list", "%(first)s and %(second)s")
    # Translators: joins two that are followed by more, as in “A, B and C”
    between = pgettext("middle of a list", "%(first)s, %(second)s")
    found = names[0]
    for name in names[1:-1]:
        found = between % {"first": found, "second": name}
    return last % {"first": found, "second": names[-1]}


def alternatives(names: Sequence[str]) -> str:
    """Return names of which one is enough: “A”, “A or B”, “A or B or C”."""
    found = names[0]
    for name in names[1:]:
        found = pgettext("one of several", "%(first)s or %(second)s") % {"first": found, "second": name}
    return found


def labelled(label: str | Promise, value: object) -> str:
    """Return a value after what it is: “Status: Suspended”, with the space before a colon where the language has one."""
    return pgettext("label and value", "%(label)s: %(value)s") % {"label": label, "value": value}


def quoted(text: str) -> str:
    """Return a text between the quotation marks of the language."""
    return _("“%(text)s”") % {"text": text}


def day(moment: datetime, zone: str) -> str:
    """Return the day that it is then in a reader's time zone, or without one in the console's, as the language writes it."""
    place = ZoneInfo(zone) if zone in zones() else get_default_timezone()
    return date_format(localtime(moment, place), "DATE_FORMAT")


def listing(title: str | Promise, items: Sequence[str], *, sign: str = "•", tone: str = "soft", colour: str = "#5a6675") -> Value:
    """Return a titled list; nothing when it is empty. In text its sign is ASCII."""
    if not items:
        return Value("", "")
    rows = [_row(item, sign, tone, colour) for item in items]
    listed = {"title": Value.plain(title), "rows": Value("\n".join(row.text for row in rows), "".join(row.html for row in rows))}
    return Value(f"{listed['title'].text}\n{listed['rows'].text}", _around_rows().filled(listed, as_html=True))


def note(sentence: str | Promise) -> Value:
    """Return a sentence that nobody shall overlook."""
    return Value(str(sentence), render_to_string("emails/note.html", {"sentence": sentence}))


def together(*values: Value) -> Value:
    """Return blocks one below the other."""
    return Value("\n\n".join(value.text for value in values if value.text), "".join(value.html for value in values))


def link(address: str, label: str | Promise) -> Value:
    """Return a button that leads to an address of ours, and the address itself."""
    return Value(address, render_to_string("emails/link.html", {"address": address, "label": label}))


@lru_cache(maxsize=1_000)  # a list of what many hold is told to millions; its template is not rendered for each
def _row(item: str, sign: str, tone: str, colour: str) -> Value:
    item, dash = one_line(item), {"•": "*", "−": "-"}.get(sign, sign)
    look = {"item": item, "sign": sign, "tone": tone, "colour": colour}
    return Value(f"  {dash} {item}", render_to_string("emails/listing_row.html", look))


@cache
def _around_rows() -> Pieces:
    return cut(render_to_string("emails/listing.html", {"title": written("title"), "rows": written("rows")}))


def sentences(*lines: str) -> Value:
    """Return sentences, one in a line."""
    return Value("\n".join(lines), "".join(format_html('<p style="margin:0 0 8px;">{}</p>\n', line) for line in lines))
