"""What people type and what addresses hold: numbers, names and words to search for, as they are read."""

import re
import unicodedata

LAST_ID = 2**31 - 1  # no user, group or product has a larger one
_MOST = 2**63 - 1  # as PostgreSQL counts rows
JOINERS = "\u200c\u200d"  # which join letters or keep them apart: Persian and Hindi names, among others, need them
_JOINED = re.compile(rf"(?<=[^\s{JOINERS}])[{JOINERS}](?=[^\s{JOINERS}])")


def number(text: str, *, most: int = _MOST) -> int | None:
    """Return the number that "12" or "#12" names, None for any other text or one that names more than `most`."""
    digits = text.strip().removeprefix("#")
    return int(digits) if re.fullmatch("[0-9]{1,19}", digits) and int(digits) <= most else None


def searched(text: str) -> str:
    """Return what is looked for: letters composed as they are stored, one space between words, 200 characters at most."""
    return tidy(text.replace("\x00", ""))[:200]


def tidy(text: str) -> str:
    """Return a text as it is stored: letters composed, so that what looks the same is the same, and one space between words."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def is_visible(text: str) -> bool:
    """Return whether all of a text can be seen, but for single joiners between two letters."""
    return _JOINED.sub("", text).isprintable()
