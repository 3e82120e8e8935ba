"""What is done to product access: choosing users, and bulk changes from the request to the last batch."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, OperationalError, connection, transaction
from django.db.models import QuerySet
from django.utils.formats import number_format
from django.utils.translation import gettext as _

from products import history
from products.batch import apply_batch, skip_out_of_reach, skip_seatless
from products.models import BulkChange, BulkChangeBatch, BulkChangeSkip, Mode, Product, SeatReservation, SelectionDraft, Source
from products.previewed import refuse_if_others
from products.previews import SeatNeed
from products.queries import catalogue_mark, may_steer, out_of_reach, visible_changes
from products.refusals import (
    CatalogueChanged,
    ChangeRefused,
    ConfirmationNeeded,
    KeyReused,
    NobodySelected,
    NotAllowed,
    NotAmongEveryone,
    NotNow,
    RetiredProduct,
    SeatsShort,
    SelectionChanged,
    UnknownProduct,
    refuse_if_short,
)
from products.running import Step, advance_bulk_change, conclude, retrying, words_of
from products.selection import Selection, as_sql
from products.targets import EVERYBODY, among_frozen, facts_of, seats_needed
from products.undoing import history_dropped
from users.models import Action, Capability, User
from users.queries import UserFilter, can, sees_everybody, visible_to
from users.record import record

__all__ = [
    "CatalogueChanged",
    "ChangeRefused",
    "ConfirmationNeeded",
    "KeyReused",
    "NobodySelected",
    "NotAllowed",
    "NotAmongEveryone",
    "NotNow",
    "RetiredProduct",
    "SeatsShort",
    "SelectionChanged",
    "Step",
    "UnknownProduct",
    "advance_bulk_change",
]

logger = logging.getLogger(__name__)

PATIENCE = "10s"  # with a batch that is being applied, which takes a second at most
LOCK_NOT_AVAILABLE = "55P03"

# Choosing users


def tick_users(*, owner: User, user_ids: Iterable[int], ticked: bool, now: datetime) -> SelectionDraft:
    """Tick or untick some users in the owner's draft and return it; users out of the owner's scope are ignored.

    Raises NotAmongEveryone when everyone whom a filter finds is selected and one of those to tick is somebody else.
    """
    ids = list(visible_to(owner).filter(id__any=list(user_ids)).values_list("id", flat=True))
    with transaction.atomic():
        draft = _locked_draft(owner, now=now)
        if ticked and draft.everyone:
            everyone = replace(Selection.of_draft(draft), ids=())
            if len(everyone.ticked_of(ids, owner, now=now)) < len(ids):
                raise NotAmongEveryone(
                    _(
                        "Nobody was ticked: everyone whom a filter finds is selected, and not all of these are among them. "
                        "Clear the selection to tick others."
                    )
                )
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
    mark: int | None = None,
    catalogue: int | None = None,
    confirmed: int | None = None,
    until_full: bool = False,
) -> BulkChange:
    """Make one bulk change of the selected users' products and return it: finished if it is small, else frozen and ready to run.

    `expected` and `mark` are how many users, and who, the preview showed, `catalogue` its `catalogue_mark`; `confirmed` is the
    number that the admin typed, for a change above the threshold. Short of seats it is refused, or, `until_full`, whoever gets
    none in the order of being added is left out.
    The same actor and key give the same change. Raises a ChangeRefused, having applied nothing.
    """
    ticked = sorted(set(products))
    asked = {"products": ticked, "mode": mode, "notify": notify, "reason": reason, "until_full": until_full}
    change = BulkChange(
        actor=actor, key=key, source=source, mode=mode, notify=notify, reason=reason, until_full=until_full, requested_at=now
    )

    def intend() -> Intent:
        intent = check_intent(actor=actor, products=ticked, mode=mode)
        if catalogue not in (None, catalogue_mark(Product.objects.all(), out_of_reach(actor))):
            raise CatalogueChanged(_("The products changed since the preview. Look at the preview again, then apply."))
        return intent

    return _requested(change, selection, asked, intend, expected=expected, mark=mark, confirmed=confirmed)


def request_undo(
    *,
    actor: User,
    change: BulkChange,
    notify: bool,
    key: UUID,
    reason: str,
    now: datetime,
    expected: int | None = None,
    confirmed: int | None = None,
) -> BulkChange:
    """Undo a change by one of its own and return that (rule B10), under all rules of `request_bulk_change`.

    Who still holds what the change wrote holds again what they held before it; the others are left alone and listed.
    """
    if not visible_changes(actor).filter(pk=change.pk).exists():
        raise NotAllowed(_("You may not see this change."))
    asked = {"undoes": change.pk, "notify": notify, "reason": reason}
    undo = BulkChange(actor=actor, key=key, mode=Mode.UNDO, undoes=change, notify=notify, reason=reason, requested_at=now)

    def intend() -> Intent:
        if not can(actor, Capability.ASSIGN_PRODUCTS):
            raise NotAllowed(_("Your role does not let you set products."))
        if not BulkChange.objects.get(pk=change.pk).is_over:
            raise NotNow(_("This change is not over yet. Cancel it or wait for its end, then undo it."))
        taken = change.moves.filter(lost__gt=0).order_by("product_id").values_list("product_id", flat=True)
        return Intent(mode=Mode.UNDO, wanted=tuple(taken), preserved=tuple(sorted(out_of_reach(actor))))

    selection = Selection(undoes=change.pk, dropped=history_dropped(change))
    return _requested(undo, selection, asked, intend, expected=expected, confirmed=confirmed)


def _requested(
    change: BulkChange,
    selection: Selection,
    asked: dict[str, Any],
    intend: Callable[[], Intent],
    *,
    expected: int | None,
    mark: int | None = None,
    confirmed: int | None,
) -> BulkChange:
    """Return the actor's change of this key: the one that is there, or else this one, begun."""
    asked["users"] = selection.as_asked()
    change.fingerprint = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    change.selection, change.products, change.preserved = selection.as_json(), [], []
    fields = [field.attname for field in BulkChange._meta.concrete_fields if field.attname not in ("id", "actor_id", "key")]

    def attempt() -> BulkChange:
        with transaction.atomic():
            made, is_new = BulkChange.objects.get_or_create(
                actor=change.actor, key=change.key, defaults={name: getattr(change, name) for name in fields}
            )
            if made.fingerprint != change.fingerprint:
                raise KeyReused(_("This form was already used for another change. Open Manage products again."))
            if is_new:
                _begin(made, selection, intend(), expected=expected, mark=mark, confirmed=confirmed)
            return made

    return retrying(attempt)


def _begin(
    change: BulkChange,
    selection: Selection,
    intent: Intent,
    *,
    expected: int | None,
    mark: int | None,
    confirmed: int | None,
) -> None:
    """Freeze a new change and do it at once if it is small, or set its seats aside."""
    actor, now = change.actor, change.requested_at
    assert actor is not None
    change.products, change.preserved = list(intent.wanted), list(intent.preserved)
    change.targets = _freeze(change, selection.users(actor, now=now))
    if not change.targets:
        raise NobodySelected(_("No users are selected. Tick some users first."))
    refuse_if_others(change, selection, expected=expected, mark=mark)
    if change.targets > settings.BULK_CONFIRM_ABOVE and confirmed != change.targets:
        raise ConfirmationNeeded(
            _("This changes %(number)s users. Type that number to confirm.")
            % {"number": number_format(change.targets, force_grouping=True)},
            number=change.targets,
        )
    change.save()
    _record_request(change, selection)
    if is_small(change.targets) and _applied_at_once(change, actor):
        change.refresh_from_db()
        conclude(change, now=now)
    else:
        _reserve_seats(change, actor)


def is_small(targets: int) -> bool:
    """Return whether a change of so many users is done at once, in its request, and not in a worker."""
    return targets <= min(settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE)


def _record_request(change: BulkChange, selection: Selection) -> None:
    """Record what was asked for: the row of the change itself is not sealed, and its reason may be erased."""
    asked = ("mode", "products", "preserved", "undoes_id", "notify", "until_full", "source", "targets")
    words = {"reason": change.reason, "search": selection.filter.search}
    record(
        Action.CHANGE_REQUESTED,
        actor=change.actor,
        subject=change.pk,
        after={name: getattr(change, name) for name in asked},
        words={name: text for name, text in words.items() if text},
    )


def _applied_at_once(change: BulkChange, actor: User) -> bool:
    """Apply the only batch; return False when the database refuses it for somebody's sake: the worker finds out for whose."""
    try:
        with transaction.atomic():
            apply_batch(change, change.batches.get(), actor=actor, all_or_nothing=not change.until_full)
    except OperationalError:
        raise
    except DatabaseError as error:
        logger.warning("batch_failed", extra={"change": change.pk, "batch": 0, "attempt": 0, "error": words_of(error)})
        return False
    return True


def _freeze(change: BulkChange, users: QuerySet[User]) -> int:
    """Write the ids of the selected users into batches and return how many there are."""
    chosen, params = as_sql(users.order_by().values("id"))
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH chosen AS MATERIALIZED (SELECT ARRAY({chosen} ORDER BY 1) AS ids, %s AS size), parts AS (
                SELECT n, ids[n * size + 1 : (n + 1) * size] AS ids
                FROM chosen, generate_series(0, (cardinality(ids) - 1) / size) AS n WHERE cardinality(ids) > 0
            ), frozen AS (
                INSERT INTO products_bulkchangebatch (change_id, n, user_ids, first_user, last_user)
                SELECT %s, n, ids, ids[1], ids[cardinality(ids)] FROM parts RETURNING size
            ) SELECT coalesce(sum(size), 0) FROM frozen
            """,
            [*params, settings.BULK_BATCH_SIZE, change.pk],
        )
        return int(cursor.fetchone()[0])


def _reserve_seats(change: BulkChange, actor: User) -> None:
    """Set aside the seats that the whole change needs; short of them raise SeatsShort, or leave out who gets none (rule B9).

    A change gives a product to some users or takes it from some, never both: so what it gives is the net need.
    """
    facts = {**facts_of(change), "change": change.pk}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT product_id, seats - used - reserved FROM products_seat "
            "WHERE product_id = ANY(%(wanted)s) AND seats IS NOT NULL ORDER BY product_id FOR NO KEY UPDATE",
            facts,
        )
        free = dict(cursor.fetchall())
    if not free or change.mode == Mode.REMOVE:
        return
    if not sees_everybody(actor):
        skip_out_of_reach(change, actor=actor, **EVERYBODY)  # they need no seat
    if change.mode == Mode.UNDO:
        with connection.cursor() as cursor:  # see apply_batch
            cursor.execute("SET LOCAL enable_nestloop = off")
    frozen = among_frozen(change.mode)
    needed = seats_needed(change.mode, facts, free, frozen)
    if any(needed[product] > free[product] for product in free):
        if not change.until_full:
            refuse_if_short(SeatNeed(product_id=p, needed=needed[p], free=free[p]) for p in free)
        skip_seatless(change.mode, facts, free, frozen)
        needed = seats_needed(change.mode, facts, free, frozen)
    reserved = [(product, needed[product]) for product in free if needed[product]]
    SeatReservation.objects.bulk_create(SeatReservation(change=change, product_id=p, reserved=n) for p, n in reserved)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE products_seat s SET reserved = s.reserved + r.reserved FROM products_seatreservation r "
            "WHERE r.change_id = %s AND r.product_id = s.product_id",
            [change.pk],
        )


# The course of a bulk change


def pause_change(*, actor: User, change_id: int) -> BulkChange:
    """Let a running change rest after the batches that are being applied now; return it. Raises NotAllowed, NotNow."""
    running, paused = {BulkChange.State.RUNNING}, BulkChange.State.PAUSED
    return retrying(lambda: _steered(Action.CHANGE_PAUSED, actor, change_id, running, paused))


def resume_change(*, actor: User, change_id: int) -> BulkChange:
    """Let a paused change run again; wake a worker for it after the commit. Raises NotAllowed, NotNow."""
    paused, running = {BulkChange.State.PAUSED}, BulkChange.State.RUNNING
    return retrying(lambda: _steered(Action.CHANGE_RESUMED, actor, change_id, paused, running))


def cancel_change(*, actor: User, change_id: int, now: datetime) -> BulkChange:
    """End a change between two batches: what is done stays, and nobody else is reached. Raises NotAllowed, NotNow."""
    unfinished, cancelled = {BulkChange.State.RUNNING, BulkChange.State.PAUSED}, BulkChange.State.CANCELLED

    def attempt() -> BulkChange:
        with _patiently():
            change = _steered(
                Action.CHANGE_CANCELLED, actor, change_id, unfinished, cancelled, batches=BulkChangeBatch.State.CANCELLED
            )
            _forget_skips_of_not_reached(change)
            conclude(change, now=now)
            return change

    return retrying(attempt)


def _forget_skips_of_not_reached(change: BulkChange) -> None:
    """Forget who would have been left out for want of a seat, had their turn come."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM products_bulkchangeskip s USING products_bulkchangebatch b WHERE b.change_id = %s "
            "AND b.state = 'CANCELLED' AND s.change_id = b.change_id AND s.user_id BETWEEN b.first_user AND b.last_user",
            [change.pk],
        )


def retry_failed(*, actor: User, change_id: int) -> BulkChange:
    """Try the users again who could not be changed, of a cancelled change too; wake a worker for it after the commit.

    A cancelled change reaches nobody else and is cancelled again in the end. Raises NotAllowed, NotNow.
    """

    def attempt() -> BulkChange:
        with _patiently():
            ended = {BulkChange.State.FAILED, BulkChange.State.CANCELLED}
            change = _steered(Action.CHANGE_RETRIED, actor, change_id, ended, BulkChange.State.RUNNING)
            failed = change.batches.filter(state=BulkChangeBatch.State.FAILED)  # each of one user
            again = failed.update(state=BulkChangeBatch.State.WAITING, attempts=0, lease_until=None)
            if not again:
                raise NotNow(_("There is nobody left to try again."))
            change.skips.filter(reason=BulkChangeSkip.Reason.FAILED).delete()
            change.skipped, change.finished_at = change.skipped - again, None
            change.save(update_fields=["skipped", "finished_at"])
            return change

    return retrying(attempt)


@contextmanager
def _patiently() -> Iterator[None]:
    """Steer in one transaction, and wait for a batch no longer than `PATIENCE`: something may hold that up. Raises NotNow."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [PATIENCE])
            yield
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) != LOCK_NOT_AVAILABLE:
            raise
        raise NotNow(_("A batch is being applied and does not end, for something else holds it up. Try again later.")) from error


def _steered(
    action: Action,
    actor: User,
    change_id: int,
    from_states: AbstractSet[str],
    to_state: str,
    *,
    batches: str = BulkChangeBatch.State.WAITING,
) -> BulkChange:
    """Bring a change into another state, and its waiting batches into that of `batches`: after those that are being applied now.

    Whoever has claimed a batch and not begun it has lost it.
    """
    with _patiently():
        _refuse_steering(actor, BulkChange.objects.get(pk=change_id), from_states)
        # Batches before their change: the order in which workers take their rows.
        waiting = BulkChangeBatch.objects.filter(change=change_id, state=BulkChangeBatch.State.WAITING)
        waiting.update(state=batches, lease_until=None, attempts=0)
        change = BulkChange.objects.select_for_update().get(pk=change_id)
        _refuse_steering(actor, change, from_states)
        record(action, actor=actor, subject=change.pk, before={"state": change.state}, after={"state": to_state})
        change.state, change.state_by, change.state_cause, change.state_reason, change.failures = to_state, actor, "", "", 0
        change.save(update_fields=["state", "state_by", "state_cause", "state_reason", "failures"])
        waiting.update(state=batches, lease_until=None, attempts=0)  # into which one was split meanwhile; now none is any more
    return change


def _refuse_steering(actor: User, change: BulkChange, states: AbstractSet[str]) -> None:
    if not may_steer(actor, change):
        raise NotAllowed(_("Only who asked for a change, or an admin who sees all changes, may do that."))
    if change.state not in states:
        raise NotNow(_("That is not possible any more: the change is “%(state)s” now.") % {"state": change.get_state_display()})


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
