"""The doorbells of bulk changes: each task is a moment's batches. The truth is in the tables; a lost task is rung again."""

import time
from datetime import timedelta
from typing import Any

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from notifications.tasks import deliver
from products import actions, batch, checkpoints, evidence, history, queries, sealing, seats, stretches
from products.models import BulkChange

TURN = 1.0  # seconds of one task; then others have theirs


@shared_task
def run_bulk_change(*, change_id: int, **_: Any) -> None:
    """Apply the next batches of a bulk change, for a moment, and ring for those after them."""
    until, step = time.monotonic() + TURN, actions.Step.MORE
    while step is actions.Step.MORE and time.monotonic() < until:
        step = actions.advance_bulk_change(change_id=change_id, now=timezone.now())
    if step is actions.Step.MORE:
        run_bulk_change.delay(change_id=change_id)
    elif step is actions.Step.OVER:
        deliver.delay()
        for waiting in queries.stalled():  # perhaps for this one
            run_bulk_change.delay(change_id=waiting)


@shared_task
def sweep(**_: Any) -> None:
    """Ring again for whatever a crash left behind, warn of seats that run low, and make the history's next partitions."""
    for change_id in queries.stalled():
        run_bulk_change.delay(change_id=change_id)
    for pack_id in evidence.waiting():
        make_pack.delay(pack_id=pack_id)
    evidence.expire(now=timezone.now())
    seats.warn_of_low_seats(now=timezone.now())
    history.make_partitions()


@shared_task
def owe_again(**_: Any) -> None:
    """Owe the emails again that are needed after all."""
    batch.owe_again()


@shared_task
def seal(**_: Any) -> None:
    """Seal some of what was written since the last time, ring for the rest, and now and then sign what has come of it."""
    if not sealing.is_due(now=timezone.now()):
        return
    sealed, summarised = sealing.seal(), stretches.summarise()
    if sealed >= sealing.MOST or summarised >= stretches.BLOCKS:
        seal.delay()
    if made := checkpoints.make(now=timezone.now(), every=timedelta(seconds=settings.HISTORY_CHECKPOINT_SECONDS)):
        checkpoints.publish(made)


@shared_task
def make_pack(*, pack_id: int, **_: Any) -> None:
    """Go on with an evidence pack, step by step, and ring for what is left after a moment."""
    until, more = time.monotonic() + TURN, True
    while more and time.monotonic() < until:
        more = evidence.advance(pack_id=pack_id, now=timezone.now())
    if more:
        make_pack.delay(pack_id=pack_id)


def ring_for(change: BulkChange) -> None:
    """Wake a worker for a change that was just requested: to run it, or to send the emails it owes."""
    if change.is_over:
        deliver.delay()
    else:
        run_bulk_change.delay(change_id=change.pk)
