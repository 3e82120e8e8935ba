"""What the answers of the console say."""

import re
from typing import Any


def shown(response: Any) -> str:
    """Return the words of an answer, without tags."""
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def names(response: Any) -> list[str]:
    """Return the names in the list, from top to bottom."""
    return re.findall(r'<a href="[^"]*" title="([^"]*)"', response.content.decode())
