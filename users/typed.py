"""What people type and what addresses hold: numbers and words to search for, as they are read."""

import re
import unicodedata

LAST_ID = 2**31 - 1  # no user, group or product has a larger one
_MOST = 2**63 - 1  # as PostgreSQL counts rows


def number(text: str, *, most: int = _MOST) -> int | None:
    """Return the number that "12" or "#12" names, None for any other text or one that names more than `most`."""
    digits = text.strip().removeprefix("#")
    return int(digits) if re.fullmatch("[0-9]{1,19}", digits) and int(digits) <= most else None


def searched(text: str) -> str:
    """Return what is looked for: letters composed as they are stored, one space between words, 200 characters at most."""
    return " ".join(unicodedata.normalize("NFC", text.replace("\x00", "")).split())[:200]
