"""What emails are written with: an admin's words, or the console's own; and how the organisation shows itself."""

from collections.abc import Collection
from dataclasses import dataclass
from email.utils import parseaddr
from typing import NamedTuple

from django.conf import settings
from django.db.models import QuerySet

from notifications.models import MailIdentity, ReplyTo, Wording


class Words(NamedTuple):
    """The words of an email with placeholders in them, and their version (0: the console's own)."""

    subject: str
    html: str
    text: str = ""  # empty: made from the HTML
    version: int = 0


@dataclass(frozen=True)
class Identity:
    """How the organisation shows itself in emails."""

    organisation: str
    sender_name: str
    sender_address: str
    envelope: str  # where bounces go
    replies: str  # a ReplyTo
    reply_address: str
    names_actor: bool
    accent: str
    logo: bytes | None

    @property
    def domain(self) -> str:
        """The domain of Message-IDs."""
        return self.envelope.rpartition("@")[2] or "localhost"


def mail_identity() -> MailIdentity:
    """Return the newest identity; without one, an unsaved one that leaves all to the operator's settings."""
    return MailIdentity.objects.order_by("-id").first() or MailIdentity()


def identity(kept: MailIdentity | None = None) -> Identity:
    """Return how the organisation shows itself now; what nobody chose is as the operator set it."""
    kept = kept or mail_identity()
    name, address = parseaddr(settings.DEFAULT_FROM_EMAIL)
    return Identity(
        organisation=kept.organisation or settings.ORGANISATION_NAME,
        sender_name=kept.sender_name or name,
        sender_address=kept.sender_address or address,
        envelope=address,
        replies=kept.reply_to,
        reply_address=kept.reply_address if kept.reply_to == ReplyTo.ADDRESS else "",
        names_actor=kept.names_actor,
        accent=kept.accent,
        logo=bytes(kept.logo) if kept.logo else None,
    )


def versions(kind: str, variant: str, language: str) -> QuerySet[Wording]:
    """Return all versions of these words, the newest first."""
    return Wording.objects.filter(kind=kind, variant=variant, language=language).order_by("-number")


def newest(kinds: Collection[str]) -> dict[tuple[str, str, str], Wording]:
    """Return the version that counts, by kind, variant and language, in one query; without one the console's own does."""
    found = Wording.objects.filter(kind__in=kinds).order_by("kind", "variant", "language", "-number")
    return {(w.kind, w.variant, w.language): w for w in found.distinct("kind", "variant", "language")}


def written_by_admins(kinds: Collection[str]) -> dict[tuple[str, str, str], Words]:
    """Return the words that admins wrote, where these count now, by kind, variant and language."""
    return {key: Words(w.subject, w.html, w.text, w.pk) for key, w in newest(kinds).items() if not w.is_own}
