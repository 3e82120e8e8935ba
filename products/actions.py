"""What is done to product access: choosing users, and bulk changes from the request to the last batch."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, OperationalError, connection, transaction
from django.db.models import F, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from products import history
from products.batch import LostClaim, apply_batch, as_sql
from products.models import BulkChange, BulkChangeBatch, BulkChangeSkip, Mode, Product, SeatReservation, SelectionDraft, Source
from products.previews import Preview, preview
from products.queries import out_of_reach
from products.refusals import (
    ChangeRefused,
    ConfirmationNeeded,
    KeyReused,
    NobodySelected,
    NotAllowed,
    RetiredProduct,
    SeatsShort,
    SelectionChanged,
    UnknownProduct,
    refuse_if_short,
)
from products.selection import Selection
from users.models import Capability, User
from users.queries import UserFilter, can, visible_to

__all__ = [
    "ChangeRefused",
    "ConfirmationNeeded",
    "KeyReused",
    "NobodySelected",
    "NotAllowed",
    "RetiredProduct",
    "SeatsShort",
    "SelectionChanged",
    "UnknownProduct",
]

logger = logging.getLogger(__name__)

TRIES = 3  # of a transaction that the database asks to repeat (deadlock, serialization)
ATTEMPTS = 5  # of a batch that the database refuses
CLAIMS = 10  # of a batch, counted before the work, so that one that kills its worker ends too
LEASE = "10 seconds"  # of a batch; what counts is the wait for its locks, for once it has them nobody can take it over


# Choosing users


def tick_users(*, owner: User, user_ids: Iterable[int], ticked: bool, now: datetime) -> SelectionDraft:
    """Tick or untick some users in the owner's draft and return it; users out of the owner's scope are ignored."""
    ids = list(visible_to(owner).filter(id__any=list(user_ids)).values_list("id", flat=True))
    with transaction.atomic():
        draft = _locked_draft(owner, now=now)
        # With everyone selected the ids are the exceptions.
        put_in = ticked != draft.everyone
        draft.ids = sorted(set(draft.ids) | set(ids) if put_in else set(draft.ids) - set(ids))
        draft.save(update_fields=["ids", "touched_at"])
    return draft


def select_everyone(*, owner: User, wanted: UserFilter, now: datetime) -> SelectionDraft:
    """Select everyone the filter and search find, on all pages, in place of earlier ticks; return the draft."""
    return _set_draft(owner, everyone=True, wanted=wanted, now=now)


def clear_selection(*, owner: User, now: datetime) -> SelectionDraft:
    """Untick everybody in the owner's draft and return it."""
    return _set_draft(owner, everyone=False, wanted=UserFilter(), now=now)


def _set_draft(owner: User, *, everyone: bool, wanted: UserFilter, now: datetime) -> SelectionDraft:
    with transaction.atomic():
        draft = _locked_draft(owner, now=now)
        draft.everyone, draft.filter, draft.ids = everyone, wanted.as_dict(), []
        draft.save()
    return draft


def _locked_draft(owner: User, *, now: datetime) -> SelectionDraft:
    SelectionDraft.objects.bulk_create([SelectionDraft(owner=owner, touched_at=now)], ignore_conflicts=True)
    draft = SelectionDraft.objects.select_for_update().get(owner=owner)
    if draft.touched_at <= now - SelectionDraft.LIFETIME:
        draft.everyone, draft.filter, draft.ids = False, {}, []
        draft.save(update_fields=["everyone", "filter", "ids"])
    draft.touched_at = now
    return draft


# Asking for a bulk change


@dataclass(frozen=True)
class Intent:
    """What the actor wants: checked product sets, and how to apply them."""

    mode: str
    wanted: tuple[int, ...]
    preserved: tuple[int, ...]


def check_intent(*, actor: Any, products: Iterable[int], mode: str) -> Intent:
    """Return what the ticked products mean for this actor. Raises NotAllowed, UnknownProduct or RetiredProduct.

    Preserved are the products that the actor may not touch and, in Replace, ticked retired ones: who holds them keeps them.
    """
    if not can(actor, Capability.ASSIGN_PRODUCTS):
        raise NotAllowed(_("Your role does not let you set products."))
    wanted = frozenset(products)
    known = {product.id: product for product in Product.objects.filter(id__in=wanted)}
    if unknown := wanted - known.keys():
        raise UnknownProduct(_("There is no product with the number %(id)s.") % {"id": min(unknown)})
    preserved = out_of_reach(actor)
    if forbidden := wanted & preserved:
        name = known[min(forbidden)].name
        raise NotAllowed(_("Your role does not let you grant or remove %(product)s.") % {"product": name})
    retired = frozenset(product.id for product in known.values() if product.retired_at)
    if retired and mode == Mode.ADD:
        raise RetiredProduct(_("%(product)s is retired and can no longer be granted.") % {"product": known[min(retired)].name})
    if mode == Mode.REPLACE:
        wanted, preserved = wanted - retired, preserved | retired
    return Intent(mode=mode, wanted=tuple(sorted(wanted)), preserved=tuple(sorted(preserved)))


def request_bulk_change(
    *,
    actor: User,
    selection: Selection,
    products: Iterable[int],
    mode: str,
    notify: bool,
    key: UUID,
    reason: str,
    now: datetime,
    source: Source = Source.CONSOLE,
    expected: int | None = None,
    confirmed: int | None = None,
) -> BulkChange:
    """Make one bulk change of the selected users' products and return it: finished if it is small, else frozen and ready to run.

    `expected` is the number of users that the preview showed; `confirmed` the number that the admin typed, for a change above the
    threshold. The same actor and key give the same change. Raises a ChangeRefused, having applied nothing.
    """
    asked = {"products": sorted(set(products)), "mode": mode, "notify": notify, "reason": reason, "users": selection.as_asked()}
    fingerprint = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def attempt() -> BulkChange:
        with transaction.atomic():
            change, is_new = BulkChange.objects.get_or_create(
                actor=actor,
                key=key,
                defaults={
                    "fingerprint": fingerprint,
                    "source": source,
                    "mode": mode,
                    "products": asked["products"],
                    "preserved": [],
                    "selection": selection.as_json(),
                    "notify": notify,
                    "reason": reason,
                    "requested_at": now,
                },
            )
            if change.fingerprint != fingerprint:
                raise KeyReused(_("This form was already used for another change. Open Manage products again."))
            if is_new:
                _begin(change, actor=actor, selection=selection, expected=expected, confirmed=confirmed, now=now)
            return change

    return _retrying(attempt)


def _begin(
    change: BulkChange, *, actor: User, selection: Selection, expected: int | None, confirmed: int | None, now: datetime
) -> None:
    """Freeze a new change and do it at once if it is small, or set its seats aside."""
    intent = check_intent(actor=actor, products=change.products, mode=change.mode)
    change.products, change.preserved = list(intent.wanted), list(intent.preserved)
    change.targets = _freeze(change, selection.users(actor, now=now))
    if not change.targets:
        raise NobodySelected(_("No users are selected. Tick some users first."))
    if expected is not None and expected != change.targets:
        raise SelectionChanged(
            ngettext(
                "The selection changed since the preview: it was for %(previewed)s, now %(found)s user is selected. "
                "Look at the preview again, then apply.",
                "The selection changed since the preview: it was for %(previewed)s, now %(found)s users are selected. "
                "Look at the preview again, then apply.",
                change.targets,
            )
            % {"previewed": expected, "found": change.targets},
            previewed=expected,
            found=change.targets,
        )
    if change.targets > settings.BULK_CONFIRM_ABOVE and confirmed != change.targets:
        raise ConfirmationNeeded(
            _("This changes %(number)s users. Type that number to confirm.") % {"number": change.targets}, number=change.targets
        )
    change.save()
    if change.targets <= min(settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE):
        apply_batch(change, change.batches.get(), actor=actor, all_or_nothing=True)
        change.refresh_from_db()
        _conclude(change, now=now)
    else:
        _reserve_seats(change, actor=actor, selection=selection, now=now)


def _freeze(change: BulkChange, users: QuerySet[User]) -> int:
    """Write the ids of the selected users into batches and return how many there are."""
    chosen, params = as_sql(users.order_by().values("id"))
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH frozen AS (
                INSERT INTO products_bulkchangebatch (change_id, n, user_ids, first_user, last_user)
                SELECT %s, n, array_agg(id ORDER BY id), min(id), max(id)
                FROM (SELECT id, (row_number() OVER (ORDER BY id) - 1) / %s AS n FROM ({chosen}) chosen) numbered
                GROUP BY n ORDER BY n
                RETURNING cardinality(user_ids) AS size
            ) SELECT coalesce(sum(size), 0) FROM frozen
            """,
            [change.pk, settings.BULK_BATCH_SIZE, *params],
        )
        return int(cursor.fetchone()[0])


def _reserve_seats(change: BulkChange, *, actor: User, selection: Selection, now: datetime) -> None:
    """Set aside the seats that the whole change needs, or raise SeatsShort.

    In Replace, Add and Remove a product is only gained or only lost, so what is gained is the net need.
    """
    forecast = _forecast(change, actor=actor, selection=selection, now=now)
    if not forecast.seats:
        return
    ids = [need.product_id for need in forecast.seats]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT product_id, seats - used - reserved FROM products_seat WHERE product_id = ANY(%s) AND seats IS NOT NULL "
            "ORDER BY product_id FOR NO KEY UPDATE",
            [ids],
        )
        free = dict(cursor.fetchall())
    needs = [replace(need, free=free[need.product_id]) for need in forecast.seats if need.product_id in free]
    refuse_if_short(needs)
    SeatReservation.objects.bulk_create(
        SeatReservation(change=change, product_id=need.product_id, reserved=need.needed) for need in needs
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE products_seat s SET reserved = s.reserved + r.reserved FROM products_seatreservation r "
            "WHERE r.change_id = %s AND r.product_id = s.product_id",
            [change.pk],
        )


def _forecast(change: BulkChange, *, actor: User, selection: Selection, now: datetime) -> Preview:
    return preview(
        selection,
        actor=actor,
        mode=change.mode,
        wanted=change.products,
        preserved=change.preserved,
        notify=change.notify,
        now=now,
    )


# Running a bulk change


class Step(Enum):
    """What is left after a batch."""

    MORE = "more"  # the next batch can run at once
    WAIT = "wait"  # nothing can run now: another worker is at it, or an earlier overlapping change comes first
    OVER = "over"  # finished, paused or unknown


def advance_bulk_change(*, change_id: int, now: datetime) -> Step:
    """Apply one batch of a bulk change, in one transaction, and return what is left. Safe at any time, by several at once."""
    change = BulkChange.objects.filter(pk=change_id).select_related("actor").first()
    if change is None or change.state != BulkChange.State.RUNNING:
        return Step.OVER
    assert change.actor is not None
    if why := _reduced(change):
        running = BulkChange.objects.filter(pk=change.pk, state=BulkChange.State.RUNNING)  # and not finished by another worker
        running.update(state=BulkChange.State.PAUSED, state_reason=why)
        return Step.OVER
    batch = _claim(change)
    if batch is None:
        return Step.OVER if _finish(change, now=now) else Step.WAIT
    if batch.attempts > CLAIMS:
        return _give_up(batch, "The worker ended at each attempt.")
    try:
        _retrying(lambda: _apply_claimed(change, batch))
    except LostClaim:
        return Step.MORE
    except DatabaseError as error:
        if connection.connection is None or connection.connection.closed:
            raise
        return _put_off(change, batch, error)
    return Step.OVER if _finish(change, now=now) else Step.MORE


def _reduced(change: BulkChange) -> str:
    """Return why the actor may no longer make this change, or nothing: capabilities are read again at each batch (rule B12)."""
    actor = change.actor
    if not can(actor, Capability.ASSIGN_PRODUCTS):
        return _("%(name)s may no longer set products.") % {"name": actor}
    if lost := out_of_reach(actor) - set(change.preserved):
        product = Product.objects.get(pk=min(lost)).name
        return _("%(name)s may no longer grant or remove %(product)s.") % {"name": actor, "product": product}
    return ""


def _claim(change: BulkChange) -> BulkChangeBatch | None:
    """Take the next batch under lease, its attempt counted before the work; None if there is none to take now.

    Earlier changes come first wherever the ranges of users overlap (rule B8).
    """
    found = BulkChangeBatch.objects.raw(
        f"""
        UPDATE products_bulkchangebatch
        SET attempts = attempts + 1, lease_until = clock_timestamp() + interval '{LEASE}'
        WHERE id = (
            SELECT b.id FROM products_bulkchangebatch b
            WHERE b.change_id = %s AND b.state = 'WAITING' AND (b.lease_until IS NULL OR b.lease_until < clock_timestamp())
            AND NOT EXISTS (
                SELECT FROM products_bulkchange c JOIN products_bulkchangebatch e ON e.change_id = c.id
                WHERE c.state = 'RUNNING' AND c.id < b.change_id
                AND e.state = 'WAITING' AND e.first_user <= b.last_user AND e.last_user >= b.first_user
            )
            ORDER BY b.n LIMIT 1 FOR UPDATE SKIP LOCKED
        )
        RETURNING id, change_id, n, first_user, last_user, attempts
        """,
        [change.pk],
    )
    return next(iter(found), None)


def _apply_claimed(change: BulkChange, batch: BulkChangeBatch) -> None:
    assert change.actor is not None
    with transaction.atomic():
        apply_batch(change, batch, actor=change.actor, all_or_nothing=False)


def _put_off(change: BulkChange, batch: BulkChangeBatch, error: DatabaseError) -> Step:
    """Let a batch that failed wait a little, or give it up after its last attempt: its users are listed as not changed."""
    logger.warning("batch_failed", extra={"change": change.pk, "batch": batch.n, "attempt": batch.attempts, "error": str(error)})
    if batch.attempts < ATTEMPTS:
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE products_bulkchangebatch SET error = %s, lease_until = clock_timestamp() + make_interval(secs => %s) "
                "WHERE id = %s AND attempts = %s",
                [str(error), 2**batch.attempts, batch.pk, batch.attempts],
            )
        return Step.WAIT
    return _give_up(batch, str(error))


def _give_up(batch: BulkChangeBatch, why: str) -> Step:
    """Mark the batch as failed and list its users as not changed; the change goes on with the others."""
    mine = BulkChangeBatch.objects.filter(pk=batch.pk, attempts=batch.attempts, state=BulkChangeBatch.State.WAITING)
    with transaction.atomic():
        if mine.update(state=BulkChangeBatch.State.FAILED, lease_until=None, error=why):
            _skip_all(batch)
    return Step.MORE


def _skip_all(batch: BulkChangeBatch) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO products_bulkchangeskip (change_id, user_id, reason) SELECT change_id, unnest(user_ids), %s "
            "FROM products_bulkchangebatch WHERE id = %s ON CONFLICT DO NOTHING",
            [BulkChangeSkip.Reason.FAILED, batch.pk],
        )
        skipped = cursor.rowcount
    BulkChange.objects.filter(pk=batch.change_id).update(skipped=F("skipped") + skipped)


def _finish(change: BulkChange, *, now: datetime) -> bool:
    """Conclude the change if no batch is left and return whether it is over."""
    with transaction.atomic():
        change = BulkChange.objects.select_for_update().get(pk=change.pk)
        if change.state != BulkChange.State.RUNNING:
            return True
        if change.batches.filter(state=BulkChangeBatch.State.WAITING).exists():
            return False
        _conclude(change, now=now)
        return True


def _conclude(change: BulkChange, *, now: datetime) -> None:
    """Give back what is still reserved and say how the change ended."""
    for product_id, reserved in change.reservations.order_by("product_id").values_list("product_id", "reserved"):
        with connection.cursor() as cursor:
            cursor.execute("UPDATE products_seat SET reserved = reserved - %s WHERE product_id = %s", [reserved, product_id])
    change.reservations.all().delete()
    failed = change.batches.filter(state=BulkChangeBatch.State.FAILED).exists()
    change.state = BulkChange.State.FAILED if failed else BulkChange.State.FINISHED
    change.finished_at = now
    change.save(update_fields=["state", "finished_at"])


def _retrying[T](work: Callable[[], T]) -> T:
    """Do the work again when the database asks for it (deadlock, serialization), unless it is part of a larger transaction."""
    for tries_left in reversed(range(TRIES)):
        try:
            return work()
        except OperationalError as error:
            repeatable = getattr(error.__cause__, "sqlstate", None) in ("40P01", "40001")
            if not (repeatable and tries_left) or connection.in_atomic_block:
                raise
    raise AssertionError("unreachable")


# Holdings from before the console


def record_already_held(*, actor: User | None, holdings: str, params: Sequence[Any], source: Source = Source.HELD_BEFORE) -> int:
    """Record products as held since before the console and return how many users changed; nobody is owed an email.

    `holdings` is a SELECT that yields (user_id integer, products integer[] sorted and unique); the set replaces what they hold.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM (SELECT user_id FROM products_productaccess WHERE user_id IN "
            f"(SELECT user_id FROM ({holdings}) held) ORDER BY user_id FOR NO KEY UPDATE) locked",
            params,
        )
        with history.acting(actor_id=actor.pk if actor else None, source=source):
            cursor.execute(
                "UPDATE products_productaccess a SET products = held.products, ever = a.ever | held.products "
                f"FROM ({holdings}) held WHERE held.user_id = a.user_id AND a.products <> held.products",
                params,
            )
            return int(cursor.rowcount)
