"""What admins do to emails: write their words, version by version, and choose how the organisation shows itself in them."""

import re
import struct
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from django.core.exceptions import PermissionDenied, ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.utils import translation
from django.utils.translation import gettext as _

from notifications.actions import queue_message
from notifications.emails import KINDS, TEST, Kind, Message, UnsendableError, compose, deliverable
from notifications.markup import check_blocks, harmless
from notifications.models import MailIdentity, ReplyTo, Suppression, Wording
from notifications.placeholders import Mistake, check, cut, one_line
from notifications.suppression import normalised
from notifications.wordings import Words, identity, mail_identity, versions
from users.models import Action, Capability, User
from users.queries import can
from users.record import record

MOST_SUBJECT, MOST_BODY, MOST_LOGO = 200, 30_000, 32_000  # characters, characters, bytes
LOGO_SIZE = 1200, 480
_PNG = b"\x89PNG\r\n\x1a\n"
_ADDRESSES = ("sender_address", "reply_address")


class Refused(Exception):
    """It cannot be saved like this: by the name of the field, what is wrong with it."""

    def __init__(self, mistakes: Mapping[str, str]) -> None:
        super().__init__(" ".join(mistakes.values()))
        self.mistakes = mistakes


class WrittenMeanwhile(Exception):
    """Somebody else saved a version since this one was begun: `by` tells who."""

    def __init__(self, by: User) -> None:
        super().__init__(_("%(name)s saved another version meanwhile.") % {"name": by.name})


def checked(kind: Kind, *, subject: str, html: str, text: str) -> Words:
    """Return the words as they would be kept: the HTML made harmless. Raises Refused with the first mistake of each field."""
    mistakes: dict[str, str] = {}
    inline = [placeholder for placeholder in kind.known if not placeholder.is_block]
    clean = ""
    subject, text = one_line(subject), text.replace("\r\n", "\n").strip()
    for field, written, known in (("subject", subject, inline), ("html", html, kind.known), ("text", text, kind.known)):
        try:
            check(written, known)
            if field == "html":
                clean = harmless(html.replace("\r\n", "\n"))
                check_blocks(clean, list(kind.known))
        except Mistake as mistake:
            mistakes[field] = str(mistake)
    for field, written in (("html", clean), *([("text", text)] if text else [])):
        named = cut(written).names
        missing = [str(placeholder) for placeholder in kind.known if placeholder.is_needed and placeholder.name not in named]
        if missing:
            mistakes.setdefault(field, _("It has to hold %(placeholder)s.") % {"placeholder": missing[0]})
    if not subject:
        mistakes["subject"] = _("A subject is needed.")
    if len(subject) > MOST_SUBJECT:
        mistakes["subject"] = _("A subject has at most %(number)s characters.") % {"number": MOST_SUBJECT}
    if not re.sub("<[^>]*>", "", clean).strip():
        mistakes.setdefault("html", _("An email needs words."))
    for field, written in (("html", html), ("text", text)):
        if len(written) > MOST_BODY:
            mistakes[field] = _("That is too long: %(number)s characters at most.") % {"number": MOST_BODY}
    if mistakes:
        raise Refused(mistakes)
    return Words(subject, clean, text)


def save_words(
    *, actor: User, kind: str, variant: str, language: str, subject: str, html: str, text: str, after: int, now: datetime
) -> Wording:
    """Let these words count from now on, as the version that comes after the one that was shown, and return it.

    Words that count already make no version. Raises PermissionDenied, Refused or WrittenMeanwhile.
    """
    words = checked(KINDS[kind], subject=subject, html=html, text=text)
    made = Wording(kind=kind, variant=variant, language=language, subject=words.subject, html=words.html, text=words.text)
    return _saved(made, actor=actor, after=after, now=now)


def use_own_words(*, actor: User, kind: str, variant: str, language: str, now: datetime) -> Wording:
    """Let the console's own words count again, which is a version too, unless they do.

    Raises PermissionDenied or, when somebody saves another version at that moment, WrittenMeanwhile.
    """
    after = _last(kind, variant, language)
    return _saved(Wording(kind=kind, variant=variant, language=language), actor=actor, after=after, now=now)


def restore(*, actor: User, version: Wording, now: datetime) -> Wording:
    """Let the words of an earlier version count again, as a new one unless they do.

    Raises PermissionDenied, Refused or, when somebody saves another version at that moment, WrittenMeanwhile.
    """
    if not version.is_own:  # a placeholder may be gone since
        checked(KINDS[version.kind], subject=version.subject, html=version.html, text=version.text)
    copied = {name: getattr(version, name) for name in ("kind", "variant", "language", "subject", "html", "text")}
    return _saved(
        Wording(**copied, restores=version),
        actor=actor,
        after=_last(version.kind, version.variant, version.language),
        now=now,
    )


def save_identity(*, actor: User, now: datetime, **chosen: Any) -> MailIdentity:
    """Let the organisation show itself like this from now on; what is not chosen stays. Raises PermissionDenied or Refused."""
    _require(actor)
    kept = mail_identity()
    made = MailIdentity(**{field.attname: getattr(kept, field.attname) for field in MailIdentity._meta.concrete_fields})
    for name, value in chosen.items():
        setattr(made, name, one_line(value) if isinstance(value, str) else value)
    made.pk, made.made_by, made.made_at, made.accent = None, actor, now, made.accent.lower()
    if mistakes := dict(_mistakes_of(made)):
        raise Refused(mistakes)
    for name in _ADDRESSES:  # kept as a header holds them
        address = getattr(made, name)
        setattr(made, name, deliverable(address) if address else "")
    with transaction.atomic():
        made.save(force_insert=True)
        told = {name: value for name, value in chosen.items() if name in ("reply_to", "names_actor", "accent")}
        record(Action.SETTING_CHANGED, actor=actor, subject=made.pk, after={"setting": "mail identity", **told})
    return made


def shown(kind: Kind, variant: str, language: str, *, reader: User, now: datetime, words: Words | None = None) -> Message:
    """Return an email of the kind as the reader would get it, in these words or those that count, with facts about them."""
    return compose(kind, kind.sample(reader, variant, now), reader=reader, language=language, identity=identity(), words=words)


def send_test(
    *, actor: User, kind: Kind, variant: str, language: str, about: User, now: datetime, words: Words | None = None
) -> None:
    """Owe the actor the email that `shown` shows. Raises PermissionDenied, or Refused when nobody writes to their address."""
    _require(actor)
    if Suppression.objects.filter(address=normalised(actor.email), since__isnull=False).exists():
        raise Refused({"": _("No test is sent: %(email)s is a suppressed address. Release it first.") % {"email": actor.email}})
    message = shown(kind, variant, language, reader=about, now=now, words=words)
    with translation.override(language):
        subject = _("[Test] %(subject)s") % {"subject": message.subject}
        queue_message(kind=TEST, user=actor, subject=subject, text=message.text, html=message.html, now=now)


def _saved(made: Wording, *, actor: User, after: int, now: datetime) -> Wording:
    _require(actor)
    if (counting := _counting(made)) and _words_of(counting) == _words_of(made):
        return counting
    made.number, made.made_by, made.made_at = after + 1, actor, now
    try:
        with transaction.atomic():
            made.save(force_insert=True)
            what = {"kind": made.kind, "variant": made.variant, "language": made.language, "version": made.number}
            record(Action.TEMPLATE_CHANGED, actor=actor, subject=made.pk, after=what)
    except IntegrityError as error:
        counting = _counting(made)
        if counting is None or counting.number <= after:
            raise
        if _words_of(counting) != _words_of(made):
            raise WrittenMeanwhile(counting.made_by) from error
        return counting
    return made


def _counting(made: Wording) -> Wording | None:
    return versions(made.kind, made.variant, made.language).select_related("made_by").first()


def _words_of(version: Wording) -> tuple[str, str, str]:
    return version.subject, version.html, version.text


def _last(kind: str, variant: str, language: str) -> int:
    newest = versions(kind, variant, language).first()
    return newest.number if newest else 0


def _require(actor: User) -> None:
    if not can(actor, Capability.CUSTOMISE_EMAILS):
        raise PermissionDenied(_("Your role does not include writing what emails say."))


def _mistakes_of(made: MailIdentity) -> Iterator[tuple[str, str]]:
    """Yield (field, what is wrong) of an identity."""
    for field in _ADDRESSES:
        if address := getattr(made, field):
            try:
                validate_email(address)
                deliverable(address)
            except (ValidationError, UnsendableError):
                yield field, _("“%(email)s” is not an email.") % {"email": address[:80]}
    if made.reply_to == ReplyTo.ADDRESS and not made.reply_address:
        yield "reply_address", _("An address is needed for the replies.")
    if made.reply_to not in ReplyTo.values:
        yield "reply_to", _("Choose who gets the replies.")
    if not re.fullmatch("#[0-9a-f]{6}", made.accent):
        yield "accent", _("A colour is written like #2f6fde.")
    if made.logo and (why := _wrong_logo(bytes(made.logo))):
        yield "logo", why


def _wrong_logo(logo: bytes) -> str:
    if len(logo) > MOST_LOGO:
        return _("A logo has at most %(number)s kB.") % {"number": MOST_LOGO // 1000}
    if not logo.startswith(_PNG) or len(logo) < 24:
        return _("A logo has to be a PNG.")
    width, height = struct.unpack(">II", logo[16:24])
    if width > LOGO_SIZE[0] or height > LOGO_SIZE[1]:
        return _("A logo is at most %(width)s by %(height)s pixels large.") % {"width": LOGO_SIZE[0], "height": LOGO_SIZE[1]}
    return ""
