"""Background: send what is due, one batch a task, and start again what a crash left behind."""

from typing import Any

from celery import shared_task
from django.db import transaction
from django.utils import timezone

from notifications import actions, queries


@shared_task(acks_late=True)
def deliver(**_: Any) -> None:
    """Send one batch, then come back while there is more."""
    if actions.deliver_due(now=timezone.now()):
        deliver.delay()


@shared_task
def sweep(**_: Any) -> None:
    """Wake as many senders as there may be when something is due; who finds no place or nothing to do ends at once."""
    if queries.is_due(now=timezone.now()):
        for _sender in range(actions.SENDERS):
            deliver.delay()


def ring() -> None:
    """Wake a sender as soon as the current transaction is committed. Costs nothing to forget: the sweep rings too."""
    transaction.on_commit(deliver.delay)
