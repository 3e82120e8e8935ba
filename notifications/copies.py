"""An email as it was sent. No copy is kept: it is written again, in the words of its version, of what is on record."""

import logging
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import DatabaseError, InterfaceError
from django.utils.translation import gettext as _

from notifications.emails import KINDS, Kind, Message, NeedlessError, UnsendableError, compose, language_of, own_words
from notifications.models import MailIdentity, Notification, State, Wording
from notifications.wordings import Identity, Words, identity
from users.models import User

logger = logging.getLogger(__name__)


class NoCopyError(Exception):
    """An email cannot be shown; the text says why."""


@dataclass(frozen=True)
class Copy:
    """An email written again."""

    message: Message
    language: str
    logo: bytes | None
    version: Wording | None  # of its words; None: the console's own
    was_sent: bool  # or at least tried; else it is as it would be sent now
    hides_link: bool  # one that would let its reader in


def copy_of(letter: Notification) -> Copy:
    """Return the email as its reader got it, in the words and under the identity of that time. Raises NoCopyError.

    Names are as they are today. A link that lets somebody in is left out: whoever looks at the email is not its reader.
    """
    if letter.told_by_id:
        raise NoCopyError(_("It was not sent by itself: another email tells what it would have told."))
    kind, reader = KINDS.get(letter.kind), User.objects.filter(pk=letter.user_id).first()
    if reader is None or reader.is_erased:
        raise NoCopyError(_("Its reader was erased, and what it said with them."))
    try:
        return _written_again(kind, letter, reader)
    except (NoCopyError, DatabaseError, InterfaceError):  # the database's faults are no fault of an email
        raise
    except Exception as error:
        logger.exception("notification %s cannot be written again", letter.pk)
        words = _("It cannot be written again because of a mistake in the console, whose log says more: notification %(number)s.")
        raise NoCopyError(words % {"number": letter.pk}) from error


def _written_again(kind: Kind | None, letter: Notification, reader: User) -> Copy:
    facts: Any = kind.facts([letter]).get(letter.pk) if kind else None
    if letter.state == State.NEEDLESS or isinstance(facts, NeedlessError):
        raise NoCopyError(_("It need not be sent: what it was to tell was taken back before."))
    if kind is None or facts is None or isinstance(facts, UnsendableError):
        raise NoCopyError(_("Its text is not kept: it was for its reader only, or what it told of is gone."))
    if kind.lets_in:
        facts = replace(facts, address=f"{settings.CONSOLE_URL}/…")
    language = letter.language or language_of(reader)
    shown_as = _identity_at(letter.sent_at) if letter.sent_at else identity()
    version, words = _words(kind, letter, kind.variant(facts), language, shown_as)
    message = compose(kind, facts, reader=reader, language=language, identity=shown_as, words=words)
    return Copy(message, language, shown_as.logo, version, letter.version is not None, kind.lets_in)


def _words(
    kind: Kind, letter: Notification, variant: str, language: str, shown_as: Identity
) -> tuple[Wording | None, Words | None]:
    """Return the version that counted for the email and its words; no words: those that count now."""
    if letter.version is None:
        return None, None
    version = Wording.objects.filter(pk=letter.version).first()
    if version is None:
        return None, own_words(kind, variant, language, names_actor=shown_as.names_actor)
    return version, Words(version.subject, version.html, version.text, version.pk)


def _identity_at(moment: datetime) -> Identity:
    """Return how the organisation showed itself then."""
    return identity(MailIdentity.objects.filter(made_at__lte=moment).order_by("-id").first() or MailIdentity())
