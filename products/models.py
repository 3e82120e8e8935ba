"""Who holds what: products and seats, the product access of each user, bulk changes, and the entitlement history.

The triggers, partitions and privileges behind these tables are SQL in the migrations; docs/architecture.md tells why.
"""

import json
import uuid
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Func, Q, Value
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

EMPTY_SET = Value([], output_field=ArrayField(models.IntegerField()))


class Product(models.Model):
    """Something users may be entitled to. Never deleted: the history names it; it can be retired."""

    id = models.AutoField(primary_key=True)
    code = models.SlugField(_("code"), max_length=32, unique=True)
    name = models.CharField(_("name"), max_length=64, unique=True)
    onboarding = models.BooleanField(
        _("onboarding email"),
        default=False,
        db_default=False,
        help_text=_("A first-ever activation sends an email on how to use it."),
    )
    restricted = models.BooleanField(
        _("restricted"), default=False, db_default=False, help_text=_("Only admins may grant or remove it, managers may not.")
    )
    retired_at = models.DateTimeField(_("retired"), null=True, blank=True)
    position = models.PositiveSmallIntegerField(_("position"), default=0, db_default=0)

    class Meta:
        verbose_name = _("product")
        verbose_name_plural = _("products")

    def __str__(self) -> str:
        return self.name


class Seat(models.Model):
    """How many users may hold a product, and how many do. Its counters are moved by triggers and reservations only."""

    product = models.OneToOneField(Product, on_delete=models.DO_NOTHING, primary_key=True, related_name="seat")
    seats = models.PositiveIntegerField(_("seats"), null=True, blank=True, help_text=_("Empty: as many as wanted."))
    used = models.PositiveIntegerField(_("used"), default=0, db_default=0)
    reserved = models.PositiveIntegerField(_("reserved"), default=0, db_default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(seats=None) | Q(seats__gte=F("used") + F("reserved")), name="seats_are_never_oversold"
            )
        ]

    @property
    def free(self) -> int | None:
        """How many more users may hold the product, None: as many as wanted."""
        return None if self.seats is None else self.seats - self.used - self.reserved


class SeatWarning(models.Model):
    """The free seats of a product ran low: told once, and again only after there were enough in between."""

    product = models.ForeignKey(Product, on_delete=models.DO_NOTHING, related_name="seat_warnings")
    free = models.PositiveIntegerField()
    seats = models.PositiveIntegerField()
    at = models.DateTimeField()
    over_at = models.DateTimeField(null=True)  # since when there are enough again

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["product"], condition=Q(over_at=None), name="seats_are_low_once_at_a_time")
        ]


class ProductAccess(models.Model):
    """The set of products one user holds, a narrow row: a bulk change is one UPDATE. Made by a trigger for every new user."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.DB_CASCADE, primary_key=True, related_name="product_access"
    )
    products = ArrayField(models.IntegerField(), default=list, db_default=EMPTY_SET)  # sorted, unique
    ever = ArrayField(models.IntegerField(), default=list, db_default=EMPTY_SET)  # sorted, unique, never shrinks
    erased = models.BooleanField(default=False, db_default=False)  # with the user: nobody can give them anything any more
    suspended = models.GeneratedField(
        expression=Q(products=EMPTY_SET),  # type: ignore[arg-type]  # the stubs know no condition here
        output_field=models.BooleanField(),
        db_persist=True,
    )

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(products__contained_by=F("ever")), name="what_is_held_was_ever_held"),
            models.CheckConstraint(condition=Q(erased=False) | Q(products=[]), name="who_is_erased_holds_nothing"),
        ]
        indexes = [models.Index(fields=["user"], condition=Q(suspended=True), name="suspended_users")]


class Mode(models.TextChoices):
    """What a bulk change does with the ticked products."""

    REPLACE = "REPLACE", _("Replace")
    ADD = "ADD", _("Add")
    REMOVE = "REMOVE", _("Remove")
    UNDO = "UNDO", _("Undo")  # of another change: who holds what that one wrote holds again what they held before it


TICKED_MODES = (Mode.REPLACE, Mode.ADD, Mode.REMOVE)  # what can be done with ticked products


class Source(models.TextChoices):
    """From where a change of product access came."""

    CONSOLE = "CONSOLE", _("Console")
    IMPORT = "IMPORT", _("Import")
    DEMO = "DEMO", _("Demo data")
    HELD_BEFORE = "HELD_BEFORE", _("Held since before the console")
    OUTSIDE = "OUTSIDE", _("Outside the console")


class BulkChange(models.Model):
    """One act of an admin on many users: who set which products, for whom, when, why. A single-user edit is one for one user."""

    class State(models.TextChoices):
        RUNNING = "RUNNING", _("Running")
        PAUSED = "PAUSED", _("Paused")
        FINISHED = "FINISHED", _("Finished")
        FAILED = "FAILED", _("Finished with errors")
        CANCELLED = "CANCELLED", _("Cancelled")

    class Cause(models.TextChoices):
        """Why it paused by itself; `pauses.Pause` says it in words."""

        NOT_ALLOWED = "NOT_ALLOWED"
        OUT_OF_REACH = "OUT_OF_REACH"
        DISK_FULL = "DISK_FULL"
        BATCHES_FAILED = "BATCHES_FAILED"

    actor = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.DO_NOTHING, related_name="bulk_changes", null=True)
    key = models.UUIDField(_("key"), default=uuid.uuid4, editable=False)  # one per opened dialog: the same key is the same change
    fingerprint = models.CharField(max_length=64, editable=False)  # of what was asked for, to refuse the key with other content
    source = models.CharField(_("source"), max_length=16, choices=Source, default=Source.CONSOLE)
    mode = models.CharField(_("mode"), max_length=8, choices=Mode, default=Mode.REPLACE)
    products = ArrayField(models.IntegerField(), verbose_name=_("ticked products"))
    preserved = ArrayField(models.IntegerField(), verbose_name=_("preserved products"))  # held ones that Replace leaves alone
    selection = models.JSONField(_("selection"))  # selection.Selection.as_json, without the ids: those are the batches
    undoes = models.ForeignKey("self", on_delete=models.DO_NOTHING, null=True, related_name="undone_by")
    until_full = models.BooleanField(_("assign until full"), default=False, db_default=False)  # short of seats, leave some out
    notify = models.BooleanField(_("change emails"), default=True)
    reason = models.TextField(_("reason"), blank=True)
    state = models.CharField(_("state"), max_length=16, choices=State, default=State.RUNNING)
    state_cause = models.CharField(max_length=16, choices=Cause, blank=True, default="", db_default="")  # why it paused by itself
    state_reason = models.TextField(blank=True)  # and what others said of that: the database, or the name of a product
    state_by = models.ForeignKey(  # who paused, resumed or cancelled it last
        settings.AUTH_USER_MODEL, on_delete=models.DO_NOTHING, related_name="+", null=True
    )
    failures = models.PositiveSmallIntegerField(default=0, db_default=0)  # frozen batches that failed since it was resumed
    requested_at = models.DateTimeField(_("requested"))
    finished_at = models.DateTimeField(_("finished"), null=True)
    targets = models.PositiveIntegerField(_("users"), default=0)
    changed = models.PositiveIntegerField(_("changed"), default=0)
    unchanged = models.PositiveIntegerField(_("unchanged"), default=0)
    skipped = models.PositiveIntegerField(_("skipped"), default=0)
    suspended = models.PositiveIntegerField(_("suspended"), default=0)  # became Suspended by it
    restored = models.PositiveIntegerField(_("came back"), default=0)  # were Suspended before it

    class Meta:
        verbose_name = _("bulk change")
        verbose_name_plural = _("bulk changes")
        constraints = [models.UniqueConstraint(fields=["actor", "key"], name="bulk_change_is_applied_once", nulls_distinct=False)]
        indexes = [
            models.Index(fields=["state", "id"], condition=Q(state__in=["RUNNING", "PAUSED"]), name="unfinished_bulk_changes"),
            models.Index(fields=["actor", "-id"], name="bulk_changes_of_an_actor"),
        ]

    def __str__(self) -> str:
        return f"#{self.pk}"

    @property
    def reached(self) -> int:
        """How many of the users the change is for it has reached so far."""
        return self.changed + self.unchanged + self.skipped

    @property
    def is_over(self) -> bool:
        return self.state in (self.State.FINISHED, self.State.FAILED, self.State.CANCELLED)

    @property
    def not_reached(self) -> int:
        """How many of the users it has not reached: yet, or for good once it is cancelled."""
        return self.targets - self.reached


class BulkChangeMove(models.Model):
    """How many users gained and lost a product by a bulk change so far, and how many onboarding emails that owed."""

    change = models.ForeignKey(BulkChange, on_delete=models.DB_CASCADE, related_name="moves")
    product = models.ForeignKey(Product, on_delete=models.DO_NOTHING, related_name="+")
    gained = models.PositiveIntegerField(default=0, db_default=0)
    lost = models.PositiveIntegerField(default=0, db_default=0)
    onboarding = models.PositiveIntegerField(default=0, db_default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["change", "product"], name="moved_once_in_a_bulk_change")]


class BulkChangeBatch(models.Model):
    """Some of the frozen targets of a bulk change, applied in one transaction; one that fails is split into smaller ones."""

    class State(models.TextChoices):
        WAITING = "WAITING", _("Waiting")
        DONE = "DONE", _("Done")
        SPLIT = "SPLIT", _("Split")
        FAILED = "FAILED", _("Failed")
        CANCELLED = "CANCELLED", _("Cancelled")

    change = models.ForeignKey(BulkChange, on_delete=models.DB_CASCADE, related_name="batches")
    n = models.PositiveIntegerField()
    user_ids = ArrayField(models.IntegerField())  # sorted
    first_user = models.IntegerField()
    last_user = models.IntegerField()
    depth = models.PositiveSmallIntegerField(default=0, db_default=0)  # how often it was split to come to this
    state = models.CharField(max_length=16, choices=State, default=State.WAITING, db_default=State.WAITING)
    done_at = models.DateTimeField(null=True)
    size = models.GeneratedField(
        expression=Func(F("user_ids"), function="cardinality"), output_field=models.IntegerField(), db_persist=True
    )
    attempts = models.PositiveSmallIntegerField(default=0, db_default=0)
    lease_until = models.DateTimeField(null=True)  # claimed by a worker until then
    error = models.TextField(blank=True, db_default="")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["change", "n"], name="bulk_change_batch_number")]
        indexes = [models.Index(fields=["change", "n"], condition=Q(state="WAITING"), name="waiting_batches")]


WORKER_ENDED = "The worker ended at each attempt."  # stored like this, told in the reader's language


class BulkChangeSkip(models.Model):
    """A selected user whom a bulk change left alone, and why."""

    class Reason(models.TextChoices):
        OUTRANKS = "OUTRANKS", _("Has a higher role than the admin")
        OUT_OF_SCOPE = "OUT_OF_SCOPE", _("No longer in the admin's scope")
        GONE = "GONE", _("No longer exists")
        NO_SEAT = "NO_SEAT", _("No seat was left")
        CHANGED_SINCE = "CHANGED_SINCE", _("Changed again since")
        ERASED = "ERASED", _("Erased since")
        NOT_ALLOWED = "NOT_ALLOWED", _("The admin may not set a product that this would touch")
        RETIRED = "RETIRED", _("Would get back a retired product")
        FAILED = "FAILED", _("Could not be changed")

    change = models.ForeignKey(BulkChange, on_delete=models.DB_CASCADE, related_name="skips")
    user_id = models.IntegerField()
    reason = models.CharField(max_length=16, choices=Reason)
    detail = models.TextField(blank=True, db_default="")  # what the database said, or WORKER_ENDED

    class Meta:
        constraints = [models.UniqueConstraint(fields=["change", "user_id"], name="skipped_once_in_a_bulk_change")]

    @property
    def explained(self) -> str:
        """What is known beside the reason, in the language that is active; empty when nothing is."""
        if self.detail == WORKER_ENDED:
            return gettext("The worker ended at each attempt.")
        return gettext("The database said: %(words)s") % {"words": self.detail} if self.detail else ""


class SeatReservation(models.Model):
    """Seats of a product set aside for an unfinished bulk change; given back as its batches take them, and at its end."""

    change = models.ForeignKey(BulkChange, on_delete=models.DB_CASCADE, related_name="reservations")
    product = models.ForeignKey(Product, on_delete=models.DO_NOTHING, related_name="+")
    reserved = models.PositiveIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["change", "product"], name="seats_reserved_once")]


class AccessChange(models.Model):
    """The entitlement history: one row per user really changed. Written by triggers only, append-only, range-partitioned by `at`.

    No foreign keys: what it names is never hard-deleted by the console, and they would cost more than the row.
    """

    id = models.BigIntegerField(primary_key=True)
    at = models.DateTimeField(_("when"))
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="access_changes"
    )
    change = models.ForeignKey(
        BulkChange,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        null=True,
        related_name="access_changes",
        verbose_name=_("bulk change"),
    )
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        null=True,
        related_name="+",
        verbose_name=_("by"),
    )
    source = models.CharField(_("source"), max_length=16, choices=Source)
    db_role = models.TextField(_("database role"))
    before = ArrayField(models.IntegerField(), verbose_name=_("before"))
    after = ArrayField(models.IntegerField(), verbose_name=_("after"))
    first = ArrayField(models.IntegerField(), verbose_name=_("first time"))  # granted for the first time ever

    class Meta:
        managed = False
        db_table = "products_accesschange"
        verbose_name = _("entitlement history")
        verbose_name_plural = _("entitlement history")

    def __str__(self) -> str:
        return f"{self.user_id} · {self.at:%Y-%m-%d %H:%M}"

    @property
    def granted(self) -> list[int]:
        return [product for product in self.after if product not in self.before]

    @property
    def revoked(self) -> list[int]:
        return [product for product in self.before if product not in self.after]


class Chain(models.TextChoices):
    """What is sealed in a chain of blocks of its own."""

    HISTORY = "HISTORY", _("Entitlement history")
    ACTIONS = "ACTIONS", _("Admin actions")


class HistoryBlock(models.Model):
    """Rows of the entitlement history, or of the record of admins, sealed after their commit and linked to the block before.

    It covers the ids from `first_id` to `last_id`, without a gap to the blocks beside it; which of them are rows is in the column
    `ids` (a multirange, of SQL only). Written by `products_seal` only, append-only.
    """

    id = models.BigIntegerField(primary_key=True)
    chain = models.CharField(_("record"), max_length=8, choices=Chain)
    n = models.PositiveIntegerField(_("block"))  # 1, 2, 3… of its chain
    first_id = models.BigIntegerField(_("first row"))
    last_id = models.BigIntegerField(_("last row"))
    rows = models.PositiveIntegerField(_("rows"))
    first_at = models.DateTimeField(_("from"))
    last_at = models.DateTimeField(_("until"))
    sealed_at = models.DateTimeField(_("sealed"))
    leaves = models.BinaryField()  # the digest of each row, 32 bytes, in the order of their ids: defer it in lists
    previous = models.BinaryField()  # the digest of the block before; zeros for the first
    digest = models.BinaryField(_("digest"))  # of all of the above

    class Meta:
        managed = False
        db_table = "products_historyblock"
        verbose_name = _("sealed block")
        verbose_name_plural = _("sealed blocks")

    def __str__(self) -> str:
        return f"{self.get_chain_display()} · {self.n}"


class Checkpoint(models.Model):
    """The last block of each chain as of one moment, signed. It is also written outside of the database, which makes it count.

    Append-only. Later blocks can be cut off or forged by who owns the database and then be found by nothing but this.
    """

    at = models.DateTimeField(_("when"), default=timezone.now)
    payload = models.TextField(_("signed text"))  # JSON: {"at", "chains": {"HISTORY": {"block", "digest", "last_id", "rows"}, …}}
    signature = models.CharField(_("signature"), max_length=128)  # of the payload's bytes by Ed25519, in hexadecimal digits
    key = models.CharField(_("public key"), max_length=64)  # in hexadecimal digits

    class Meta:
        verbose_name = _("checkpoint")
        verbose_name_plural = _("checkpoints")

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S}"

    @property
    def heads(self) -> dict[str, dict[str, Any]]:
        """The last block of each chain: its number, digest, last row, and how many rows are sealed up to it."""
        heads: dict[str, dict[str, Any]] = json.loads(self.payload)["chains"]
        return heads


class EvidencePack(models.Model):
    """Some of the entitlement history as a signed file, to be verified offline; made in the background, kept for some days."""

    class State(models.TextChoices):
        WAITING = "WAITING", _("Waiting")
        READY = "READY", _("Ready")
        FAILED = "FAILED", _("Failed")
        EXPIRED = "EXPIRED", _("Expired")

    actor = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.DO_NOTHING, related_name="+", verbose_name=_("by"))
    wanted = models.JSONField(_("filter"), default=dict)  # evidence.HistoryFilter.as_dict; may name a person
    state = models.CharField(_("state"), max_length=8, choices=State, default=State.WAITING)
    requested_at = models.DateTimeField(_("requested"))
    last_id = models.BigIntegerField(_("last row"))  # of the history when it was asked for: later rows are not in it
    reached = models.BigIntegerField(default=0, db_default=0)  # rows up to this one were looked at
    checkpoint = models.ForeignKey(Checkpoint, on_delete=models.DO_NOTHING, related_name="+", null=True)  # it is verified by
    pieces = models.PositiveIntegerField(default=0, db_default=0)
    rows = models.PositiveBigIntegerField(_("rows"), default=0, db_default=0)
    files = models.JSONField(default=dict, db_default={})  # the SHA-256 of each file in it, so far
    lease_until = models.DateTimeField(null=True)  # somebody writes it until then
    attempts = models.PositiveSmallIntegerField(default=0, db_default=0)  # how often it was begun
    size = models.PositiveBigIntegerField(_("bytes"), default=0, db_default=0)
    expires_at = models.DateTimeField(_("kept until"), null=True)  # null: there is no file yet, or none any more

    class Meta:
        indexes = [models.Index(fields=["id"], condition=Q(state="WAITING"), name="waiting_evidence_packs")]
        constraints = [
            models.CheckConstraint(condition=~Q(state="EXPIRED") | Q(wanted={}, files={}), name="expired_packs_tell_nothing")
        ]

    def __str__(self) -> str:
        return f"#{self.pk}"


class Entitlement(models.Model):
    """A user holds a product now: a view over ProductAccess, for reading. To find holders at scale, ask the sets instead."""

    id = models.BigIntegerField(primary_key=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.DO_NOTHING, related_name="entitlements")
    product = models.ForeignKey(Product, on_delete=models.DO_NOTHING, related_name="entitlements")

    class Meta:
        managed = False
        db_table = "products_entitlement"


class SelectionDraft(models.Model):
    """The ticks of an admin while choosing users: kept on the server, so they survive searches, pages and reloads."""

    LIFETIME = timedelta(days=7)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.DB_CASCADE, related_name="selection_draft")
    everyone = models.BooleanField(default=False)
    filter = models.JSONField(default=dict)  # users.queries.UserFilter.as_dict, when everyone
    ids = ArrayField(models.IntegerField(), default=list)  # ticked, or unticked since when everyone
    touched_at = models.DateTimeField(default=timezone.now)


class PreviewedUsers(models.Model):
    """Whom the owner of a draft saw the last preview for; apart from the draft, for there may be a million of them."""

    draft = models.OneToOneField(SelectionDraft, on_delete=models.DB_CASCADE, primary_key=True, related_name="previewed")
    mark = models.BigIntegerField()  # they as one number: `previewed.MARK`
    user_ids = ArrayField(models.IntegerField())  # sorted
