"""Numbers as people type them and as addresses hold them: read, or told to be none."""

import re

LAST_ID = 2**31 - 1  # no user, group or product has a larger one
_MOST = 2**63 - 1  # as PostgreSQL counts rows


def number(text: str, *, most: int = _MOST) -> int | None:
    """Return the number that "12" or "#12" names, None for any other text or one that names more than `most`."""
    digits = text.strip().removeprefix("#")
    return int(digits) if re.fullmatch("[0-9]{1,19}", digits) and int(digits) <= most else None
