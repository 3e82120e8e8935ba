"""What is owed by mail: the outbox, what we know of the mail server, and the messages that the built-in mail sink received."""

from datetime import datetime
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from typing import Any, Literal, NamedTuple

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy


class State(models.TextChoices):
    """The fate of an email. The first three are open, the others final (a failed one can be retried)."""

    QUEUED = "QUEUED", _("Queued")
    CLAIMED = "CLAIMED", _("Being sent")  # a sender has it: it is in a Claim
    DEFERRED = "DEFERRED", _("Deferred")
    SENT = "SENT", _("Sent")
    FAILED = "FAILED", _("Failed")
    UNKNOWN = "UNKNOWN", _("Unknown")  # the connection was lost after the last byte, twice
    EXPIRED = "EXPIRED", _("Expired")  # the server kept deferring it
    NEEDLESS = "NEEDLESS", _("Not needed")  # what it was to tell was taken back before it was sent


OPEN = (State.QUEUED, State.CLAIMED, State.DEFERRED)
RETRYABLE = (State.FAILED, State.UNKNOWN, State.EXPIRED)
# Kinds of emails that are composed when they are asked for, and kept in their row until their fate is final.
STORED = ("ACCOUNT", "TEST")
INVITATION = "INVITATION"  # the kind whose link ends; it is about an AdminAction


class Notification(models.Model):
    """An email owed to a user: inserted in the transaction of its cause, once, and there for good with its fate.

    A bulk change inserts a million of these, so what is not known then has a default and no index. There is no foreign key
    (it would double the insert): a row outlives its user and then fails visibly.
    """

    id = models.BigAutoField(primary_key=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="notifications",
        verbose_name=_("user"),
    )
    kind = models.CharField(_("kind"), max_length=16)  # one of emails.KINDS
    about = models.BigIntegerField(_("about"))  # the id of what it tells of: which table, the kind knows
    lane = models.PositiveSmallIntegerField()  # what waits in a lower lane goes first
    state = models.CharField(_("state"), max_length=8, choices=State, default=State.QUEUED, db_default=State.QUEUED)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0, db_default=0)  # counted when claimed
    # The next try; while claimed, the end of the lease.
    not_before = models.DateTimeField(_("next try"), default=timezone.now, db_default=Now())
    possible_duplicate = models.BooleanField(_("possible duplicate"), default=False, db_default=False)
    owed_at = models.DateTimeField(_("owed since"), default=timezone.now, db_default=Now())
    # Known from the first try on.
    sent_at = models.DateTimeField(_("sent"), null=True)
    to_address = models.CharField(pgettext_lazy("recipient", "to"), max_length=320, default="", db_default="")
    language = models.CharField(_("language"), max_length=5, default="", db_default="")
    subject = models.TextField(_("subject"), default="", db_default="")
    message_id = models.TextField(_("Message-ID"), default="", db_default="")
    version = models.PositiveIntegerField(_("version"), null=True)  # of its words: the id of a Wording, 0 for the console's own
    last_code = models.PositiveSmallIntegerField(_("reply code"), null=True)
    last_words = models.TextField(_("the server's last words"), default="", db_default="")
    # Kept in the row until sent, for what cannot be composed again: {"subject", "text", "html"}.
    message = models.JSONField(null=True, editable=False)
    # The email that tells this one's content too; whatever becomes of that one is written here as well.
    told_by = models.ForeignKey("self", on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, null=True)

    class Meta:
        verbose_name = _("notification")
        verbose_name_plural = _("notifications")
        constraints = [models.UniqueConstraint(fields=["user", "kind", "about"], name="notification_owed_once")]
        indexes = [
            models.Index(fields=["lane", "not_before", "id"], condition=Q(state__in=OPEN), name="notifications_open"),
            models.Index(fields=["about", "id"], condition=Q(kind="CHANGE"), name="notifications_of_a_change"),
            models.Index(fields=["id"], condition=Q(state__in=RETRYABLE), name="notifications_failed"),
            # All but those that are owed by the million: which of them name somebody, an erasure asks.
            models.Index(fields=["id"], condition=~Q(kind__in=("CHANGE", "ONBOARDING")), name="notifications_one_by_one"),
            # Of how to start with a product: whoever holds it again is owed it again.
            models.Index(
                fields=["user", "about"], condition=Q(kind="ONBOARDING", state="NEEDLESS"), name="notifications_needless"
            ),
            models.Index(
                fields=["not_before"], condition=Q(kind="ONBOARDING", state="NEEDLESS"), name="notifications_needless_lately"
            ),
            BrinIndex(fields=["owed_at"], name="notifications_by_time"),  # a few pages: rows come in the order of time
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.about} → {self.user_id}"

    @property
    def is_open(self) -> bool:
        """Whether it is still going to be sent."""
        return self.state in OPEN

    @property
    def is_fixed(self) -> bool:
        """Whether it is needed whatever was taken back since: it was tried for good, or may have gone out."""
        return self.possible_duplicate or (self.version is not None and not self.is_open)

    @property
    def told_until(self) -> datetime:
        """The moment about which it told what it tells, if it was tried for good."""
        return self.sent_at or self.not_before


class Claimed(NamedTuple):
    """Of a notification what it takes to send it: there are so many in a batch, and one of the model costs five times as much."""

    id: int
    user_id: int
    kind: str
    about: int
    attempts: int
    possible_duplicate: bool
    language: str
    message_id: str
    lease: datetime  # its `not_before`: it tells one claim of an email from the next
    message: Any

    @property
    def is_open(self) -> bool:
        """Whether it is still going to be sent: its sender has it."""
        return True

    @property
    def is_fixed(self) -> bool:
        """Whether it is needed whatever was taken back since: it may have gone out."""
        return self.possible_duplicate


type Owed = Notification | Claimed


class Claim(models.Model):
    """That a sender has a batch of emails, there until it has settled their fates; a dead sender's is taken over.

    Everything the sender has to note between two emails is one number, `sending`: the one it is handing over. By then each
    email before it in the batch was accepted, unless its row already says otherwise. So this row is written once for each
    email, and holds nothing else that is long.
    """

    place = models.PositiveSmallIntegerField()  # the sender's: its session holds the lock of this number as long as it lives
    ends_at = models.DateTimeField()  # the lease, for a sender that lives and does nothing
    sending = models.BigIntegerField(null=True)


class ClaimedEmails(models.Model):
    """The emails of a claim. Gone with it."""

    claim = models.OneToOneField(Claim, on_delete=models.DB_CASCADE, primary_key=True, related_name="emails")
    ids = ArrayField(models.BigIntegerField())  # in the order of sending
    letters = models.JSONField(null=True)  # by id: its address, language, subject, Message-ID and version


class Suppression(models.Model):
    """An address that failed for good, and once it did so twice is written to no more, until an admin releases it."""

    class Source(models.TextChoices):
        REFUSED = "REFUSED", _("The mail server refused it")
        BOUNCED = "BOUNCED", _("An email came back")
        COMPLAINED = "COMPLAINED", _("The reader complained of spam")

    address = models.TextField(_("address"), primary_key=True)  # in small letters, as a mail server is told it
    failures = models.PositiveIntegerField(_("failures"), default=1)
    reason = models.TextField(_("reason"))  # what was said the last time
    source = models.CharField(_("source"), max_length=10, choices=Source)
    failed_at = models.DateTimeField(_("last failure"))
    since = models.DateTimeField(_("suppressed since"), null=True)  # null: it failed once, and is still written to
    # A digest of what the provider calls the email that it told of last. One is enough: a failure of another suppresses.
    told_of = models.TextField(default="", db_default="")

    class Meta:
        indexes = [models.Index(fields=["-since"], condition=Q(since__isnull=False), name="suppressed_addresses")]

    def __str__(self) -> str:
        return self.address


class MailServer(models.Model):
    """What we know of the mail server, as one row: whether it is away, and how many emails it takes. Rates are per minute."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    # While it cannot be reached, nobody tries before `next_try_at`.
    down_since = models.DateTimeField(null=True)
    failures = models.PositiveIntegerField(default=0)
    next_try_at = models.DateTimeField(null=True)
    last_words = models.TextField(default="")
    # It asked to slow down: from that rate to this one; since then the rate grows again (notifications/mail_server.py).
    slowed_at = models.DateTimeField(null=True)
    slowed_from = models.FloatField(null=True)
    slowed_to = models.FloatField(null=True)
    # How many emails may go at once while the rate is limited, at that moment; more come with time.
    allowance = models.FloatField(default=0, db_default=0)
    allowance_at = models.DateTimeField(null=True)
    speed = models.FloatField(null=True)  # of one sender, lately

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="there_is_one_mail_server")]


class Wording(models.Model):
    """One version of what emails of a kind say in one language, as an admin wrote it. The newest counts; none is ever changed,
    but for the name of somebody who is erased.

    A version without words says that the console's own count again.
    """

    kind = models.CharField(_("kind"), max_length=16)  # one of emails.KINDS
    variant = models.CharField(max_length=32, blank=True)  # what of the kind: a product's code, or nothing
    language = models.CharField(_("language"), max_length=5, choices=settings.LANGUAGES)
    number = models.PositiveIntegerField(_("version"))  # 1, 2, 3… of this kind, variant and language
    subject = models.TextField(_("subject"), blank=True)
    html = models.TextField(blank=True)
    text = models.TextField(_("text"), blank=True)  # empty: made from the HTML
    restores = models.ForeignKey("self", on_delete=models.DO_NOTHING, db_index=False, null=True, related_name="+")
    made_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.DO_NOTHING, db_index=False, related_name="+", verbose_name=_("by")
    )
    made_at = models.DateTimeField(_("when"))

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["kind", "variant", "language", "number"], name="wording_is_numbered"),
            models.CheckConstraint(
                condition=Q(subject="", html="", text="") | (~Q(subject="") & ~Q(html="")), name="wording_is_whole_or_nothing"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.variant} {self.language} {self.number}"

    @property
    def is_own(self) -> bool:
        """Whether it says that the console's own words count."""
        return not self.subject


class ReplyTo(models.TextChoices):
    """Who gets the replies to emails."""

    NOBODY = "NOBODY", _("Nobody: emails say that replies are not read")
    ADDRESS = "ADDRESS", _("This address")
    ACTOR = "ACTOR", _("The admin who acted")


class MailIdentity(models.Model):
    """How the organisation shows itself in emails, as of one moment. The newest counts; none is ever changed, as of a Wording."""

    organisation = models.CharField(_("name of the organisation"), max_length=80, blank=True)  # empty: as the operator set it
    sender_name = models.CharField(_("name of the sender"), max_length=80, blank=True)
    sender_address = models.EmailField(_("address of the sender"), blank=True)  # empty: as the operator set it
    reply_to = models.CharField(_("replies go to"), max_length=8, choices=ReplyTo, default=ReplyTo.NOBODY)
    reply_address = models.EmailField(_("address for replies"), blank=True)
    names_actor = models.BooleanField(_("emails name the admin who acted"), default=False)
    accent = models.CharField(_("colour"), max_length=7, default="#2f6fde")
    logo = models.BinaryField(null=True)  # a PNG
    made_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.DO_NOTHING, db_index=False, related_name="+", verbose_name=_("by"), null=True
    )
    made_at = models.DateTimeField(_("when"), null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(reply_to__in=ReplyTo.values), name="mail_replies_go_somewhere_known"),
            models.CheckConstraint(
                condition=~Q(reply_to=ReplyTo.ADDRESS) | ~Q(reply_address=""), name="mail_replies_have_an_address"
            ),
            models.CheckConstraint(condition=Q(accent__regex=r"^#[0-9a-f]{6}$"), name="mail_colour_is_a_colour"),
        ]


class SinkMessage(models.Model):
    """A message that the built-in mail sink received, byte for byte. The oldest are dropped."""

    KEPT = 10_000

    received_at = models.DateTimeField(default=timezone.now, db_default=Now())
    sender = models.TextField()
    recipients = ArrayField(models.TextField())
    raw = models.BinaryField()
    # It lets its reader into somebody's account (a link to a new password), so it is not for everyone who may see emails.
    confidential = models.BooleanField(default=False, db_default=False)

    @cached_property
    def message(self) -> EmailMessage:
        """The message, parsed."""
        return message_from_bytes(bytes(self.raw), policy=policy.default)

    @property
    def subject(self) -> str:
        return next((value for name, value in self.headers if name.lower() == "subject"), "")

    @property
    def text(self) -> str:
        """Its text part; empty when it has none."""
        return self._part("plain")

    @property
    def html(self) -> str:
        """Its HTML part; empty when it has none."""
        return self._part("html")

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Its headers in the order of the message."""
        return [(name, _readable(value)) for name, value in self.message.raw_items()]

    def _part(self, subtype: Literal["plain", "html"]) -> str:
        body = self.message.get_body((subtype,))
        try:
            return _printable(body.get_content()) if body else ""
        except (LookupError, ValueError):  # a character set that nobody knows, or that its text is not in
            return _printable(body.get_payload()) if body else ""


def _readable(header: str) -> str:
    """Return a header as it is meant, or as it is written where that cannot be told."""
    try:
        return _printable(make_header(decode_header(" ".join(header.split()))))
    except (LookupError, ValueError):
        return _printable(header)


def _printable(text: object) -> str:
    """Return the text with what no encoding can write replaced."""
    return str(text).encode(errors="replace").decode()
