"""Composing: the kinds of email there are, and each as text and HTML in the reader's language.

The words of a kind, an admin's or the console's own, have placeholders. They are encoded once for each kind and language; what an
email tells is put in once for everyone who is told the same, and the reader's name once per letter.
An app above this one registers its kinds and says what there is to tell (products/emails.py).
"""

import logging
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import format_datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings
from django.db import DatabaseError, InterfaceError
from django.template.loader import render_to_string
from django.utils import translation
from django.utils.encoding import punycode
from django.utils.functional import Promise
from django.utils.safestring import mark_safe
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from notifications import mime, phrases, wordings
from notifications.colours import DARK_PAPER, LIGHT_PAPER, readable
from notifications.markup import as_text, dressed, harmless
from notifications.message_ids import message_id_of
from notifications.models import STORED, Owed, ReplyTo, State
from notifications.placeholders import Pieces, Placeholder, Value, cut, one_line
from notifications.wordings import Identity, Words
from users.models import AdminAction, User, full_name

logger = logging.getLogger(__name__)

type Facts = Callable[[Sequence[Owed]], Mapping[int, Hashable]]

ACCOUNT, TEST = STORED
READER = Placeholder("reader", _("The name of the person who reads it"))
ORGANISATION = Placeholder("organisation", _("The name of the organisation"))
ACTOR = Placeholder("actor", _("The admin who acted, or “An administrator” when emails name nobody"))


@dataclass(frozen=True, kw_only=True, eq=False)
class Kind:
    """A kind of email. Its own words are templates/emails/<template>.html, .subject.txt and, why one gets it, .footer.txt."""

    name: str
    label: str | Promise
    lane: int
    template: str
    facts: Facts
    values: Callable[[Any], Mapping[str, Value]]  # of facts, in the language that is active: for everyone who is told the same
    sample: Callable[[User, str, datetime], Hashable]  # facts about somebody to show a variant with
    placeholders: tuple[Placeholder, ...] = ()
    variant: Callable[[Any], str] = lambda facts: ""  # of facts: what within the kind has words of its own
    variants: Callable[[], Mapping[str, str | Promise]] = lambda: {"": ""}  # and how each is called
    context: Callable[[str], Mapping[str, object]] = lambda variant: {}  # what else its own templates get
    lets_in: bool = False  # it holds a link (`address` of its facts) that lets its reader in, so nobody else is shown it
    names_reader: bool = True  # not where nobody knows who reads it
    merges: bool = False  # one email tells of all that wait for a user: its facts are those of `queries.told_in`

    @property
    def known(self) -> tuple[Placeholder, ...]:
        """Every placeholder of this kind."""
        return (*([READER] if self.names_reader else []), ORGANISATION, *self.placeholders)


@dataclass(frozen=True)
class Actor:
    """Who acted: facts that have an attribute `actor` let the email name them, and replies go to them."""

    name: str
    email: str


class Letter(NamedTuple):
    """One email as it goes to the server."""

    sender: str  # of the envelope
    to: str
    language: str
    subject: str
    message_id: str
    content: bytes  # as it travels (notifications/mime.py)
    version: int = 0  # of its words: the id of a Wording, 0 for the console's own


@dataclass(frozen=True)
class Message:
    """One email as it is read."""

    subject: str
    text: str
    html: str
    version: int  # of its words


class Reader(NamedTuple):
    """Who reads an email: of a User only what that takes, for there are a thousand in a batch."""

    name: str
    email: str
    language: str


class UnsendableError(Exception):
    """An email that cannot be sent; the text says why."""

    state = State.FAILED  # what it ends as


class NeedlessError(UnsendableError):
    """An email that need not be sent any more: what it was to tell was taken back."""

    state = State.NEEDLESS

    def __init__(self) -> None:
        super().__init__("Nothing is left to tell: what it was to tell was taken back before it was sent.")


@dataclass(frozen=True)
class LinkFacts:
    """A link that lets its reader choose a new password, and until when, told in their time zone."""

    address: str
    until: datetime
    zone: str


KINDS: dict[str, Kind] = {}


def register(kind: Kind) -> None:
    """Make a kind known. Of what waits, a lower lane goes first.

    Its `facts` is called once per batch with the notifications of the kind and returns, by notification id, what there is to
    tell: a hashable value, for who has equal facts and language is told the same; or the UnsendableError that says why there is
    nothing. Facts that have an attribute `until` are of a link that ends then: it is not sent any more. Those that have an
    attribute `to` go to that address, whatever the user's is by then.
    """
    KINDS[kind.name] = kind


# Stored: it holds a secret of the moment.
register(
    Kind(
        name=ACCOUNT,
        label=_("Password reset"),
        lane=0,
        template="password",
        facts=lambda notifications: {},
        values=lambda facts: {
            "link": phrases.link(facts.address, gettext("Choose a new password")),
            "expires": Value.plain(phrases.day(facts.until, facts.zone)),
        },
        sample=lambda reader, variant, now: LinkFacts(f"{settings.CONSOLE_URL}/…", now + timedelta(days=3), reader.time_zone),
        lets_in=True,
        placeholders=(
            Placeholder("link", _("The link to choose a password with"), is_block=True, is_needed=True),
            Placeholder("expires", _("The day on which the link ends")),
        ),
    )
)
# Stored, and without words of its own: it is an email of another kind, in words that nobody has saved perhaps.
register(
    Kind(
        name=TEST,
        label=_("Test email"),
        lane=0,
        template="",
        facts=lambda notifications: {},
        values=lambda facts: {},
        sample=lambda reader, variant, now: None,
        variants=dict,
    )
)


def build(notifications: Sequence[Owed], *, now: datetime) -> dict[int, Letter | UnsendableError]:
    """Return the letter of each notification by its id, or why there is none. The number of queries depends on the kinds only."""
    users = User.objects.filter(id__any={n.user_id for n in notifications})
    readers = {
        user: Reader(full_name(first, last) or email, email, language)
        for user, first, last, email, language in users.values_list("pk", "first_name", "last_name", "email", "language")
    }
    kinds = {n.kind for n in notifications} & KINDS.keys()
    facts: dict[int, Hashable] = {}
    for kind in kinds:
        facts |= _facts(KINDS[kind], [n for n in notifications if n.kind == kind])
    desk = _Desk(wordings.identity(), wordings.written_by_admins(kinds), now, format_datetime(now))
    built: dict[int, Letter | UnsendableError] = {}
    for notification in notifications:
        try:
            built[notification.id] = desk.letter(notification, readers.get(notification.user_id), facts.get(notification.id))
        except UnsendableError as error:
            built[notification.id] = error
        except Exception:
            built[notification.id] = _broken(notification)
    return built


def _facts(kind: Kind, notifications: Sequence[Owed]) -> Mapping[int, Hashable]:
    """Return what there is to tell, by notification id: of one that breaks the asking an UnsendableError, the others go on."""
    try:
        return kind.facts(notifications)
    except (DatabaseError, InterfaceError):  # no fault of an email
        raise
    except Exception:
        if len(notifications) == 1:
            return {notifications[0].id: _broken(notifications[0])}
    half = len(notifications) // 2
    return {**_facts(kind, notifications[:half]), **_facts(kind, notifications[half:])}


def _broken(notification: Owed) -> UnsendableError:
    """Return what becomes of one that breaks the composing, of which the others go on. What broke may name somebody else."""
    logger.exception("notification %s cannot be composed", notification.id)
    return UnsendableError(
        f"It could not be written because of a mistake in the console. Its log says more: notification {notification.id}."
    )


def compose(
    kind: Kind,
    facts: Any,
    *,
    reader: User,
    language: str,
    identity: Identity,
    words: Words | None = None,
) -> Message:
    """Return what an email says to the reader, in these words or, without any, in those that count now."""
    variant = kind.variant(facts)
    words = words or wordings.written_by_admins([kind.name]).get((kind.name, variant, language))
    page = _page(kind, variant, language, words, identity)
    values = {**_told(kind, facts, language, identity), **_own(kind, reader)}
    return Message(
        one_line(page.subject.filled(values)), page.text.filled(values), page.html.filled(values, as_html=True), page.version
    )


def acts_of(notifications: Sequence[Owed]) -> tuple[dict[int, AdminAction], dict[int, Actor]]:
    """Return what was done to somebody that these emails are about, by id, and who did it, by theirs."""
    acts = AdminAction.objects.in_bulk({n.about for n in notifications})
    return acts, actors_of(act.actor_id for act in acts.values())


def actors_of(ids: Iterable[int | None]) -> dict[int, Actor]:
    """Return those of these users who can be named and written to, by id: nobody who was erased."""
    found = User.objects.only("email", "first_name", "last_name").in_bulk({number for number in ids if number})
    return {number: Actor(user.name, user.email) for number, user in found.items() if not user.is_erased}


@lru_cache(maxsize=500)
def own_words(kind: Kind, variant: str, language: str, *, names_actor: bool) -> Words:
    """Return the console's own words for a kind, with placeholders for all that is told."""
    context: dict[str, object] = {placeholder.name: str(placeholder) for placeholder in kind.known}
    context |= {"variant": variant, "names_actor": names_actor, **kind.context(variant)}
    with translation.override(language):
        subject = one_line(render_to_string(f"emails/{kind.template}.subject.txt", context))
        return Words(subject, harmless(render_to_string(f"emails/{kind.template}.html", context)))


def language_of(reader: User | Reader) -> str:
    """Return the language to write to the reader in: their own, else the organisation's, else English."""
    if reader.language in languages():
        return reader.language
    return settings.LANGUAGE_CODE if settings.LANGUAGE_CODE in languages() else "en"


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


@dataclass(frozen=True)
class _Desk:
    """Where the letters of one batch are written: with one identity, in the words that count at that moment."""

    identity: Identity
    by_admins: Mapping[tuple[str, str, str], Words]
    now: datetime
    date: str
    pages: dict[tuple[str, str, str], "_Page"] = field(default_factory=dict)

    def letter(self, notification: Owed, reader: Reader | None, facts: Hashable) -> Letter:
        if reader is None:
            raise UnsendableError("The user no longer exists.")
        to, kind = deliverable(getattr(facts, "to", reader.email)), KINDS.get(notification.kind)
        own = _own(kind, reader)
        if notification.kind in STORED:
            if (until := (notification.message or {}).get("until")) and datetime.fromisoformat(until) <= self.now:
                raise UnsendableError("Its link had ended before it could be sent; it has to be asked for again.")
            composed, version = _stored(notification, self.identity), (notification.message or {}).get("version", 0)
        elif facts is None or kind is None:
            raise UnsendableError("There is nothing left to tell.")
        elif isinstance(facts, UnsendableError):
            raise facts
        elif (until := getattr(facts, "until", None)) and until <= self.now:
            raise UnsendableError("Its link had ended before it could be sent; send another invitation.")
        else:
            page = self._page(kind, kind.variant(facts), language_of(reader))
            composed, version = _composed(page, facts), page.version
        message_id = message_id_of(notification, self.identity.domain)
        subject = composed.subject.filled(own)
        headers = f"To: {to}\r\nMessage-ID: {message_id}\r\nDate: {self.date}\r\n".encode()
        return Letter(
            sender=self.identity.envelope,
            to=to,
            language=composed.language,
            subject=subject,
            message_id=message_id,
            content=headers + mime.header("Subject", subject) + composed.headers + composed.body.as_bytes(own),
            version=version,
        )

    def _page(self, kind: Kind, variant: str, language: str) -> "_Page":
        key = kind.name, variant, language
        if (found := self.pages.get(key)) is None:
            found = self.pages[key] = _page(kind, variant, language, self.by_admins.get(key), self.identity)
        return found


@dataclass(frozen=True, eq=False)
class _Page:
    """An email of a kind in one language, before anything is told, cut at its placeholders, and encoded."""

    kind: Kind
    version: int
    language: str
    identity: Identity
    subject: Pieces
    text: Pieces
    html: Pieces
    body: mime.Body


@dataclass(frozen=True, eq=False)
class _Composed:
    """An email as it is for everyone who is told the same: only what is the reader's own is missing."""

    language: str
    subject: Pieces
    headers: bytes
    body: mime.Body


@lru_cache(maxsize=500)
def _page(kind: Kind, variant: str, language: str, words: Words | None, identity: Identity) -> _Page:
    words = words or own_words(kind, variant, language, names_actor=identity.names_actor)
    blocks = [placeholder.name for placeholder in kind.known if placeholder.is_block]
    link = readable(identity.accent, LIGHT_PAPER)
    context: dict[str, object] = {placeholder.name: str(placeholder) for placeholder in kind.known}
    context |= {"replies": identity.replies != ReplyTo.NOBODY, "variant": variant}
    with translation.override(language):
        footer = " ".join(render_to_string(f"emails/{kind.template}.footer.txt", context).split())
        frame = {
            "language": language,
            "subject": words.subject,
            "footer": footer,
            "body": mark_safe(dressed(words.html, accent=link, blocks=blocks)),  # noqa: S308  # sanitised there
            "identity": identity,
            "link": link,
            "dark_link": readable(identity.accent, DARK_PAPER),
            "logo": f"cid:{mime.LOGO_ID}" if identity.logo else "",
        }
        html = cut(render_to_string("emails/frame.html", frame).strip() + "\n")
    text = cut(f"{(words.text or as_text(words.html)).strip()}\n\n-- \n{footer}\n")
    body = mime.body_of(text, html, identity.logo).filled({"organisation": Value.plain(identity.organisation)}).joined()
    return _Page(kind, words.version, language, identity, cut(words.subject), text, html, body)


@lru_cache(maxsize=5_000)  # some 4 kB each
def _composed(page: _Page, facts: Any) -> _Composed:
    values = _told(page.kind, facts, page.language, page.identity)
    reply_to = page.identity.reply_address
    if page.identity.replies == ReplyTo.ACTOR and (actor := getattr(facts, "actor", None)) is not None:
        reply_to = actor.email
    headers = _headers(page.identity, page.language, reply_to)
    return _Composed(page.language, page.subject.partly_filled(values), headers, page.body.filled(values))


def _told(kind: Kind, facts: Any, language: str, identity: Identity) -> dict[str, Value]:
    """Return the values for everyone who is told the same."""
    with translation.override(language):
        values = {"organisation": Value.plain(identity.organisation), **kind.values(facts)}
        if any(placeholder.name == "actor" for placeholder in kind.placeholders):
            actor = getattr(facts, "actor", None) if identity.names_actor else None
            values["actor"] = Value.plain(actor.name if actor else _("An administrator"))
    return values


def _own(kind: Kind | None, reader: User | Reader) -> dict[str, Value]:
    """Return the values that are the reader's own."""
    return {"reader": Value.plain(reader.name if kind and kind.names_reader else "")}


def _stored(notification: Owed, identity: Identity) -> _Composed:
    stored = notification.message
    if stored is None:
        raise UnsendableError("Its text is erased, because it was tried before; it has to be asked for again.")
    text, html, language = _as_it_is(stored["text"]), stored["html"], notification.language or "en"
    logo = identity.logo if f"cid:{mime.LOGO_ID}" in html else None
    body = mime.body_of(text, _as_it_is(html) if html else None, logo)
    return _Composed(language, _as_it_is(stored["subject"]), _headers(identity, language, identity.reply_address), body)


def _as_it_is(text: str) -> Pieces:
    return Pieces((text,), ())


def _headers(identity: Identity, language: str, reply_to: str) -> bytes:
    return b"".join(
        [
            mime.address_header("From", identity.sender_address, identity.sender_name),
            mime.address_header("Reply-To", reply_to) if reply_to else b"",
            b"Auto-Submitted: auto-generated\r\nX-Auto-Response-Suppress: All\r\n",
            mime.header("Content-Language", language),
        ]
    )
