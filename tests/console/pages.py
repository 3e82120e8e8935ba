"""What the answers of the console say."""

import re
from typing import Any


def shown(response: Any) -> str:
    """Return the words of an answer, without tags."""
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def names(response: Any) -> list[str]:
    """Return the names in the list, from top to bottom."""
    return re.findall(r'<a href="[^"]*" title="([^"]*)"', response.content.decode())


def nameless(response: Any) -> list[str]:
    """Return what can have the focus and has no id: a swap of an answer that asks for itself again would take the focus away."""
    focusable = re.findall(r'<(?:a|button|input|summary)\b[^>]*>|<[^>]*tabindex="0"[^>]*>', response.content.decode())
    return [tag for tag in focusable if " id=" not in tag]
