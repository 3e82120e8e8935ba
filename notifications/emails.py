"""Composing: the kinds of email there are, and each as text and HTML in the reader's language.

An email is composed once for everyone who is told the same in the same language; only the reader's parts are put in per letter.
An app above this one registers its kinds and says what there is to tell (products/emails.py).
"""

import html
import logging
import quopri
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from functools import cache, lru_cache
from pathlib import Path

from django.conf import settings
from django.template.loader import render_to_string
from django.utils import translation
from django.utils.encoding import punycode

from notifications.models import Notification
from users.models import User

logger = logging.getLogger(__name__)

type Facts = Callable[[Sequence[Notification]], Mapping[int, Hashable]]

ACCOUNT = "ACCOUNT"


@dataclass(frozen=True)
class Kind:
    """A kind of email: its templates are emails/<template>.subject.txt, .txt and .html."""

    name: str
    lane: int
    template: str
    facts: Facts
    merges: bool = False


@dataclass(frozen=True)
class Letter:
    """One email as it goes to the server."""

    sender: str  # of the envelope
    to: str
    language: str
    subject: str
    message_id: str
    content: bytes
    version: int = 0


class UnsendableError(Exception):
    """An email that cannot be sent; the text says why."""


KINDS: dict[str, Kind] = {}


def register(name: str, *, lane: int, template: str, facts: Facts, merges: bool = False) -> None:
    """Make a kind known. Of what waits, a lower lane goes first.

    `facts` is called once per batch with its notifications of this kind and returns, by notification id, what the template gets
    as `facts`: a hashable value, for who has equal facts and language gets the same letter.
    """
    KINDS[name] = Kind(name, lane, template, facts, merges)


# What cannot be composed again is stored with the notification (a password reset holds a secret of the moment).
register(ACCOUNT, lane=0, template="", facts=lambda notifications: {})


def build(notifications: Sequence[Notification], *, now: datetime) -> dict[int, Letter | UnsendableError]:
    """Return the letter of each notification by its id, or why there is none. The number of queries depends on the kinds only."""
    readers = User.objects.only("email", "first_name", "last_name", "language").in_bulk({n.user_id for n in notifications})
    facts: dict[int, Hashable] = {}
    for kind in {n.kind for n in notifications} & KINDS.keys():
        facts |= KINDS[kind].facts([n for n in notifications if n.kind == kind])
    built: dict[int, Letter | UnsendableError] = {}
    for notification in notifications:
        try:
            built[notification.id] = _letter(notification, readers.get(notification.user_id), facts.get(notification.id), now)
        except UnsendableError as error:
            built[notification.id] = error
        except Exception as error:
            # One that breaks the composing fails by itself, visibly; the others go on.
            logger.exception("notification %s cannot be composed", notification.id)
            built[notification.id] = UnsendableError(f"It could not be composed: {error}")
    return built


def language_of(reader: User) -> str:
    """Return the language to write to the reader in: their own, else the organisation's, else English."""
    return next(code for code in (reader.language, settings.LANGUAGE_CODE, "en") if code in languages())


@cache
def languages() -> frozenset[str]:
    """Return the languages that emails can be written in: those with a catalogue, and English."""
    folders = [Path(folder) / code for folder in settings.LOCALE_PATHS for code, _name in settings.LANGUAGES]
    return frozenset({"en", *(folder.name for folder in folders if (folder / "LC_MESSAGES" / "django.mo").exists())})


def deliverable(address: str) -> str:
    """Return the address as it is written to a mail server (its domain in ASCII). Raises UnsendableError when it is none."""
    local, _at, domain = address.rpartition("@")
    try:
        written = f"{local}@{domain if domain.isascii() else punycode(domain)}"
    except UnicodeError:
        written = ""
    if len(written) > 254 or not _ADDRESS.fullmatch(written):
        raise UnsendableError(f"{address[:80]!r} is not an address that mail can be sent to.")
    if written.endswith(".invalid"):
        raise UnsendableError("The user was erased.")
    return written


_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")


def _letter(notification: Notification, reader: User | None, facts: Hashable, now: datetime) -> Letter:
    if reader is None:
        raise UnsendableError("The user no longer exists.")
    to, sender = deliverable(reader.email), settings.DEFAULT_FROM_EMAIL
    if notification.kind == ACCOUNT:
        composed = _stored(notification, sender)
    elif facts is None or notification.kind not in KINDS:
        raise UnsendableError("There is nothing left to tell.")
    else:
        template = KINDS[notification.kind].template
        composed = _composed(template, language_of(reader), facts, settings.ORGANISATION_NAME, sender)
    envelope = parseaddr(sender)[1]
    domain = envelope.rpartition("@")[2] or "localhost"
    message_id = notification.message_id or f"<{notification.kind.lower()}.{notification.about}.{notification.user_id}@{domain}>"
    headers = f"To: {to}\r\nMessage-ID: {message_id}\r\nDate: {format_datetime(now)}\r\n"
    return Letter(
        sender=envelope,
        to=to,
        language=composed.language,
        subject=composed.subject,
        message_id=message_id,
        content=headers.encode() + composed.addressed_to(_one_line(reader.name)),
    )


# Stands for the reader's name while composing. Short, at the beginning of a line and plain, so that no encoding breaks it up.
_READER = "READERxSLOTx7q"


@dataclass(frozen=True)
class _Composed:
    """An email as it is for everyone, encoded, in pieces: the reader's name goes between them."""

    subject: str
    language: str
    pieces: tuple[bytes, ...]
    in_text: int  # how many of the gaps are in the text part; the others are in the HTML part

    def addressed_to(self, name: str) -> bytes:
        """Return headers and body with the reader's name in every gap."""
        if len(self.pieces) == 1:
            return self.pieces[0]
        plain, escaped = _quoted(name), _quoted(html.escape(name))
        filled = [self.pieces[0]]
        for gap, piece in enumerate(self.pieces[1:]):
            filled += [plain if gap < self.in_text else escaped, piece]
        return b"".join(filled)


@lru_cache(maxsize=1_000)
def _composed(template: str, language: str, facts: Hashable, organisation: str, sender: str) -> _Composed:
    context: dict[str, object] = {"facts": facts, "reader": _READER, "organisation": organisation, "language": language}
    with translation.override(language):
        context["subject"] = subject = _one_line(render_to_string(f"emails/{template}.subject.txt", context))
        text, html_ = (render_to_string(f"emails/{template}.{ending}", context) for ending in ("txt", "html"))
    return _encoded(subject, text, html_, language, sender)


def _stored(notification: Notification, sender: str) -> _Composed:
    message = notification.message
    if message is None:
        raise UnsendableError("Its text is erased, because it was tried before; it has to be asked for again.")
    return _encoded(message["subject"], message["text"], message["html"], notification.language or "en", sender)


def _encoded(subject: str, text: str, html_: str, language: str, sender: str) -> _Composed:
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["Subject"] = subject = _one_line(subject)
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    message.set_content(_tidied(text), cte="quoted-printable")
    if html_:
        message.add_alternative(html_.strip() + "\n", subtype="html", cte="quoted-printable")
    message["Content-Language"] = language  # not before: add_alternative takes every Content- header for the first part's
    pieces = tuple(message.as_bytes().split(_READER.encode()))
    if len(pieces) != 1 + text.count(_READER) + html_.count(_READER):
        raise ValueError("the reader's name has to stand at the beginning of a short line of the template")
    return _Composed(subject, language, pieces, text.count(_READER))


def _one_line(text: str) -> str:
    """Return the text without line breaks and control characters, which could forge a header or a paragraph."""
    return "".join(character for character in " ".join(text.split()) if character.isprintable())


def _tidied(text: str) -> str:
    """Return the text with at most one empty line in a row: template tags leave empty lines behind."""
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text)).strip() + "\n"


def _quoted(text: str) -> bytes:
    """Return the text as quoted-printable between soft line breaks, so that it fits in anywhere."""
    return b"=\r\n" + quopri.encodestring(text.encode()).replace(b"\n", b"\r\n") + b"=\r\n"
