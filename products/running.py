"""How a bulk change runs: its next batch, what becomes of a batch that fails, and its end."""

import logging
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from datetime import datetime
from enum import Enum

from django.db import DatabaseError, OperationalError, connection, transaction
from django.db.models import F

from notifications import actions as notifications
from products.batch import LostClaim, OutOfReach, apply_batch
from products.models import WORKER_ENDED, BulkChange, BulkChangeBatch, BulkChangeSkip, Product, Source
from products.queries import EARLIER, LEASED, out_of_reach
from users.models import Action, AdminAction, Capability
from users.queries import can

logger = logging.getLogger(__name__)

TRIES = 3  # of a transaction that the database asks to repeat (deadlock, serialization)
ATTEMPTS = 5  # of a batch that the database cannot do now
REFUSALS = 2  # of a frozen batch, before it is split
CLAIMS = 8  # of a batch, counted before the work, so that one that kills its worker ends too
LEASE = "6 seconds"  # of a batch; what counts is the wait for its locks, for once it has them nobody can take it over
PARTS = 10  # into which a batch that fails is split, until the users are found who cannot be changed
FEW_FAILURES = 3  # of frozen batches: fewer never pause a change
MANY_FAILURES = 20  # one in so many pauses it
DISK_FULL = ("53100", "58030")  # disk_full, io_error


class Step(Enum):
    """What is left after a batch."""

    MORE = "more"  # the next batch can run at once
    WAIT = "wait"  # nothing can run now: another worker is at it, or an earlier overlapping change comes first
    OVER = "over"  # finished, paused, cancelled or unknown


def advance_bulk_change(*, change_id: int, now: datetime) -> Step:
    """Apply one batch of a bulk change, in one transaction, and return what is left. Safe at any time, by several at once."""
    change = BulkChange.objects.filter(pk=change_id).select_related("actor").first()
    if change is None or change.is_over:
        return Step.OVER
    if change.state == BulkChange.State.PAUSED:
        _finish(change, now=now)  # it may have been paused during its last batch
        return Step.OVER
    assert change.actor is not None
    lost = out_of_reach(change.actor) - set(change.preserved)
    if reduced := _reduced(change, lost):
        return _pause(change, *reduced)
    batch = _claim(change)
    if batch is None:
        return Step.OVER if _finish(change, now=now) else Step.WAIT
    if batch.attempts > CLAIMS:
        return _divide(batch, WORKER_ENDED)
    try:
        retrying(lambda: _apply_claimed(change, batch, lost))
    except LostClaim:
        return Step.MORE
    except OutOfReach as out:
        return _pause(change, BulkChange.Cause.OUT_OF_REACH, _name(out.product_id))
    except DatabaseError as error:
        if connection.connection is None or connection.connection.closed:
            raise
        return _failed(change, batch, error)
    return Step.MORE


def _reduced(change: BulkChange, lost: AbstractSet[int]) -> tuple[BulkChange.Cause, str] | None:
    """Return why the actor may no longer make this change, if so: capabilities are read again at each batch (rule B12).

    `lost` are the products that went out of the actor's reach since. They matter if the change sets them; which of them a Replace
    would take from somebody is only known once its users are locked.
    """
    if not can(change.actor, Capability.ASSIGN_PRODUCTS):
        return BulkChange.Cause.NOT_ALLOWED, ""
    if not lost:
        return None
    sets = change.undoes.moves.values_list("product_id", flat=True) if change.undoes else change.products
    if forbidden := lost & set(sets):
        return BulkChange.Cause.OUT_OF_REACH, _name(min(forbidden))
    return None


def _name(product_id: int) -> str:
    return Product.objects.get(pk=product_id).name


def _claim(change: BulkChange) -> BulkChangeBatch | None:
    """Take the next batch under lease, its attempt counted before the work; None if there is none to take now.

    Earlier changes come first wherever the ranges of users overlap (rule B8). The claim does not wait for the disk: only a crash
    of the database itself forgets it, and whoever claimed.
    """
    found = BulkChangeBatch.objects.raw(
        f"""
        UPDATE products_bulkchangebatch
        SET attempts = attempts + 1, lease_until = clock_timestamp() + interval '{LEASE}'
        FROM (SELECT set_config('synchronous_commit', 'off', true)) without_waiting
        WHERE id = (
            SELECT b.id FROM products_bulkchangebatch b
            WHERE b.change_id = %(change)s AND b.state = 'WAITING'
            AND ({LEASED}) IS NOT TRUE
            AND NOT EXISTS ({EARLIER})
            ORDER BY b.n LIMIT 1 FOR UPDATE SKIP LOCKED
        )
        RETURNING id, change_id, n, first_user, last_user, depth, size, attempts
        """,
        {"change": change.pk},
    )
    return next(iter(found), None)


def _apply_claimed(change: BulkChange, batch: BulkChangeBatch, lost: AbstractSet[int] = frozenset()) -> None:
    assert change.actor is not None
    with transaction.atomic():
        if not apply_batch(change, batch, actor=change.actor, all_or_nothing=False, lost=lost):
            with connection.cursor() as cursor:  # what a crash of the database forgets is done again
                cursor.execute("SET LOCAL synchronous_commit = off")


def _failed(change: BulkChange, batch: BulkChangeBatch, error: DatabaseError) -> Step:
    """Let a batch wait that the database cannot do now, divide one that it refuses; pause when that is no accident."""
    words, state = words_of(error), getattr(error.__cause__, "sqlstate", None) or ""
    logger.warning("batch_failed", extra={"change": change.pk, "batch": batch.n, "attempt": batch.attempts, "error": words})
    if state in DISK_FULL:
        _put_off(batch, words, seconds=0)
        return _pause(change, BulkChange.Cause.DISK_FULL, words)
    if isinstance(error, OperationalError) and batch.attempts < ATTEMPTS:
        _put_off(batch, words, seconds=2**batch.attempts)
        return Step.MORE
    if batch.attempts < REFUSALS and batch.depth == 0:
        _put_off(batch, words, seconds=0)
        return Step.MORE
    if batch.depth == 0 and _too_many_failures(change):
        _put_off(batch, words, seconds=0)
        return _pause(change, BulkChange.Cause.BATCHES_FAILED, words)
    return _divide(batch, words)


def words_of(error: DatabaseError) -> str:
    """Return what the database said, its first line only: what follows can hold the values of a row."""
    return str(error).strip().partition("\n")[0]


def _put_off(batch: BulkChangeBatch, words: str, *, seconds: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE products_bulkchangebatch SET error = %s, lease_until = clock_timestamp() + make_interval(secs => %s) "
            "WHERE id = %s AND attempts = %s AND state = 'WAITING'",
            [words, seconds, batch.pk, batch.attempts],
        )


def _too_many_failures(change: BulkChange) -> bool:
    """Count a frozen batch that failed; return whether more than one in twenty did: that is not the users' fault."""
    BulkChange.objects.filter(pk=change.pk).update(failures=F("failures") + 1)
    failures = BulkChange.objects.values_list("failures", flat=True).get(pk=change.pk)
    return failures >= FEW_FAILURES and failures * MANY_FAILURES > change.batches.filter(depth=0).count()


def _pause(change: BulkChange, cause: BulkChange.Cause, words: str) -> Step:
    """Let a change wait for somebody to resume it; `words` are what others say of the cause."""
    running = BulkChange.objects.filter(pk=change.pk, state=BulkChange.State.RUNNING)  # and not finished by another worker
    with transaction.atomic():
        if running.update(state=BulkChange.State.PAUSED, state_cause=cause, state_reason=words, state_by=None):
            _tell_who_asked(change, BulkChange.State.PAUSED)
    return Step.OVER


def _tell_who_asked(change: BulkChange, state: str) -> None:
    """Owe the admin an email about a change that ran in the background: they may have left the console long ago."""
    if change.source == Source.CONSOLE:
        source = "SELECT actor_id, id FROM products_bulkchange WHERE id = %(change)s AND actor_id IS NOT NULL"
        notifications.queue(state, source, {"change": change.pk})


def _divide(batch: BulkChangeBatch, words: str) -> Step:
    """Split a batch that fails into smaller ones; the one user left in the end is listed as not changed, with the reason."""
    with transaction.atomic():
        mine = BulkChangeBatch.objects.filter(pk=batch.pk, attempts=batch.attempts, state=BulkChangeBatch.State.WAITING)
        state = BulkChangeBatch.State.SPLIT if batch.size > 1 else BulkChangeBatch.State.FAILED
        if not mine.update(state=state, lease_until=None, error=words):
            return Step.MORE
        change = BulkChange.objects.select_for_update().get(pk=batch.change_id)  # another batch may be split now too
        with connection.cursor() as cursor:
            if batch.size > 1:
                cursor.execute(SPLIT, {"batch": batch.pk, "change": change.pk, "size": -(-batch.size // PARTS)})
            else:
                skip = BulkChangeSkip(change=change, user_id=batch.first_user, reason=BulkChangeSkip.Reason.FAILED)
                skip.detail = words
                BulkChangeSkip.objects.bulk_create([skip], ignore_conflicts=True)
                BulkChange.objects.filter(pk=change.pk).update(skipped=F("skipped") + 1)
    return Step.MORE


SPLIT = """
INSERT INTO products_bulkchangebatch (change_id, n, user_ids, first_user, last_user, depth)
SELECT %(change)s, last.n + part, array_agg(user_id ORDER BY user_id), min(user_id), max(user_id), depth + 1 FROM (
    SELECT b.depth, user_id, (place - 1) / %(size)s + 1 AS part
    FROM products_bulkchangebatch b, unnest(b.user_ids) WITH ORDINALITY ids (user_id, place) WHERE b.id = %(batch)s
) parts, (SELECT max(n) AS n FROM products_bulkchangebatch WHERE change_id = %(change)s) last
GROUP BY last.n, part, depth ORDER BY part
"""


def _finish(change: BulkChange, *, now: datetime) -> bool:
    """Conclude the change if no batch is left, though it was paused meanwhile; return whether it is over."""
    waiting = change.batches.filter(state=BulkChangeBatch.State.WAITING)
    if waiting.exists():  # asked before anything is locked: nearly always there are some
        return False
    with transaction.atomic():
        change = BulkChange.objects.select_for_update().get(pk=change.pk)
        if change.is_over:
            return True
        if waiting.exists():
            return False
        conclude(change, now=now)
        if change.state != BulkChange.State.CANCELLED:
            _tell_who_asked(change, change.state)
        else:  # again, for those who had failed were tried once more: it was cancelled by whom it was
            BulkChange.objects.filter(pk=change.pk).update(state_by=_cancelled_by(change))
        return True


def _cancelled_by(change: BulkChange) -> int | None:
    cancelled = AdminAction.objects.filter(action=Action.CHANGE_CANCELLED, subject_id=change.pk)
    return cancelled.order_by("-id").values_list("actor", flat=True).first()


def conclude(change: BulkChange, *, now: datetime) -> None:
    """Give back what is still reserved and say how the change ended."""
    with connection.cursor() as cursor:
        for product_id, reserved in change.reservations.order_by("product_id").values_list("product_id", "reserved"):
            cursor.execute("UPDATE products_seat SET reserved = reserved - %s WHERE product_id = %s", [reserved, product_id])
    change.reservations.all().delete()
    ended = set(change.batches.filter(state__in=("FAILED", "CANCELLED")).values_list("state", flat=True))
    change.state = (
        BulkChange.State.CANCELLED
        if BulkChangeBatch.State.CANCELLED in ended
        else BulkChange.State.FAILED
        if ended
        else BulkChange.State.FINISHED
    )
    change.finished_at = now
    change.save(update_fields=["state", "finished_at"])


def retrying[T](work: Callable[[], T]) -> T:
    """Do the work again when the database asks for it (deadlock, serialization), unless it is part of a larger transaction."""
    for tries_left in reversed(range(TRIES)):
        try:
            return work()
        except OperationalError as error:
            repeatable = getattr(error.__cause__, "sqlstate", None) in ("40P01", "40001")
            if not (repeatable and tries_left) or connection.in_atomic_block:
                raise
    raise AssertionError("unreachable")
