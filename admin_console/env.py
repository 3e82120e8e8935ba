"""Typed reads of environment variables: a wrong value stops the start and says which, what was found, what is expected.

Every variable NAME can also be given as NAME_FILE, the path of a file that holds the value (for mounted secrets).
"""

import os
import re
from collections.abc import Sequence
from email.utils import formataddr, parseaddr
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

YES = ("1", "true", "yes", "on")
NO = ("0", "false", "no", "off")


def text(name: str, default: str = "") -> str:
    """Return the value of NAME, or what the file named by NAME_FILE holds (without its last line break).

    Raises ImproperlyConfigured when both are given or the file cannot be read.
    """
    value, path = os.environ.get(name), os.environ.get(f"{name}_FILE")
    if not path:
        return value or default
    if value:
        raise ImproperlyConfigured(f"{name} and {name}_FILE are both set; expected only one of them.")
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n") or default
    except OSError as error:
        raise _wrong(f"{name}_FILE", path, f"the path of a file that can be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise _wrong(f"{name}_FILE", path, "the path of a file in UTF-8") from None


def number(name: str, default: int, *, least: int = 0, most: int | None = None) -> int:
    """Return NAME as a whole number between `least` and `most` (both included)."""
    found = text(name, str(default))
    expected = f"a whole number of at least {least}" + (f" and at most {most}" if most is not None else "")
    try:
        value = int(found)
    except ValueError:
        raise _wrong(name, found, expected) from None
    if value < least or (most is not None and value > most):
        raise _wrong(name, found, expected)
    return value


def flag(name: str, default: bool) -> bool:
    """Return NAME as yes or no."""
    found = text(name, "yes" if default else "no")
    if found.lower() in YES:
        return True
    if found.lower() in NO:
        return False
    raise _wrong(name, found, f"one of {', '.join(YES + NO)}")


def one_of(name: str, default: str, choices: Sequence[str]) -> str:
    """Return NAME, which must be one of `choices`."""
    found = text(name, default)
    if found not in choices:
        raise _wrong(name, found, f"one of {', '.join(choices)}")
    return found


def words(name: str, default: Sequence[str] = ()) -> list[str]:
    """Return NAME as a list of words separated by commas."""
    found = text(name)
    return [word.strip() for word in found.split(",") if word.strip()] if found else list(default)


def database(name: str, default: str) -> dict[str, Any]:
    """Return NAME, a URL postgresql://user:password@host:port/name, as Django's connection settings.

    A socket folder is written as `postgresql://user@/name?host=/folder`.
    """
    found = text(name, default)
    expected = "postgresql://user:password@host:port/name or postgresql://user@/name?host=/socket/folder"
    try:
        url = urlsplit(found)
        port = url.port
    except ValueError:
        raise _wrong(name, _without_password(found), expected) from None
    query = dict(parse_qsl(url.query))
    unknown = set(query) - {"host", "port", "sslmode", "sslrootcert"}
    if url.scheme not in ("postgres", "postgresql") or not url.path.strip("/") or unknown:
        raise _wrong(name, _without_password(found), expected)
    options = {key: value for key, value in query.items() if key.startswith("ssl")}
    return {
        "NAME": unquote(url.path.strip("/")),
        "USER": unquote(url.username or ""),
        "PASSWORD": unquote(url.password or ""),
        "HOST": query.get("host") or url.hostname or "",
        "PORT": query.get("port") or port or "",
        "OPTIONS": options,
    }


def broker(name: str, default: str) -> str:
    """Return NAME, a URL redis://:password@host:port/number, rediss://… or unix:///socket, as Celery writes it."""
    found = text(name, default)
    try:
        url = urlsplit(found)
        good = (url.scheme in ("redis", "rediss") and bool(url.hostname) and url.port != 0) or (
            url.scheme == "unix" and len(url.path) > 1 and not url.netloc
        )
    except ValueError:
        good = False
    if not good:
        raise _wrong(name, _without_password(found), "redis://:password@host:port/number, rediss://… or unix:///path/of/socket")
    return f"redis+socket://{url.path}" if url.scheme == "unix" else found


def address(name: str, default: str) -> str:
    """Return NAME, an email address, alone or as `Name <address>`."""
    found = text(name, default)
    label, mail = parseaddr(found)
    if not re.fullmatch(r"[^@\s]+@[^@\s]+", mail) or "\n" in found:
        raise _wrong(name, found, "an email address, alone or as Name <address>")
    return formataddr((label, mail)) if label else mail


def web_address(name: str, default: str) -> str:
    """Return NAME, the beginning of the console's own addresses, without its last slash."""
    found = text(name, default)
    try:
        url = urlsplit(found)
        good = url.scheme in ("http", "https") and bool(url.hostname) and not url.query and not url.fragment and url.port != 0
    except ValueError:
        good = False
    if not good:
        raise _wrong(name, _without_password(found), "https://host or https://host:port")
    return found.rstrip("/")


def https_address(name: str) -> str:
    """Return NAME, the https address of a service of the operator's, without a password in it; empty when not given."""
    found = text(name)
    try:
        url = urlsplit(found)
        good = not found or (url.scheme == "https" and bool(url.hostname) and url.username is None and url.port != 0)
    except ValueError:
        good = False
    if not good:
        raise _wrong(name, _without_password(found), "https://host/path")
    return found


def counts_for_nothing(pattern: str, instead: str) -> None:
    """See that no variable of these names is set: who set one would believe that it counts. Raises ImproperlyConfigured."""
    for name in sorted(os.environ):
        if os.environ[name] and re.fullmatch(pattern, name):
            raise ImproperlyConfigured(f"{name} is set and counts for nothing here; {instead}")


def _without_password(url: str) -> str:
    """Return a URL without what may be a secret in it: it is shown on a screen and kept in logs."""
    scheme, slashes, rest = url.partition("://")
    if not slashes:
        return "…"
    place, _, query = rest.partition("?")
    user, at, host = place.rpartition("@")
    if not at and ":" in host:  # Which side of the colon is a password cannot be told.
        host = "…"
    keys = "&".join(f"{pair.partition('=')[0]}=…" for pair in query.split("&") if pair)
    return f"{scheme}://{'…@' if user else ''}{host}{'?' if keys else ''}{keys}"


def _wrong(name: str, found: str, expected: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"{name}={found!r} is not valid; expected {expected}.")
