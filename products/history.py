"""Who acts and why, told to the database for this transaction: its triggers write it into the entitlement history.

And the history's partitions, one for each month.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import OperationalError, connection, transaction
from django.db.backends.utils import CursorWrapper
from psycopg.errors import LockNotAvailable
from psycopg.pq import TransactionStatus

from products.models import Source

logger = logging.getLogger(__name__)

MONTHS = 12  # for which there are partitions in advance
PATIENCE = "100ms"  # with whoever uses the history: all others wait as long
_NAMES = ("console.actor", "console.change", "console.source")
_SET = "SELECT " + ", ".join("set_config(%s, %s, true)" for _name in _NAMES)


@contextmanager
def acting(*, actor_id: int | None, change_id: int | None = None, source: Source) -> Iterator[None]:
    """Name the actor, the bulk change and the source behind every change of product access inside the block.

    Raises RuntimeError outside of a transaction, where the names would not last until the next statement.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("history.acting() needs a transaction")
    with connection.cursor() as cursor:
        cursor.execute("SELECT " + ", ".join("current_setting(%s, true)" for _name in _NAMES), _NAMES)
        earlier = cursor.fetchone() or ()
        _set_names(cursor, (actor_id, change_id, source))
        try:
            yield
        finally:
            # After an error in the database, or without it, the transaction is gone and the names with it.
            if connection.connection.info.transaction_status is TransactionStatus.INTRANS:
                _set_names(cursor, earlier)


def _set_names(cursor: CursorWrapper, values: tuple[object, ...]) -> None:
    told = ["" if value is None else str(value) for value in values]
    cursor.execute(_SET, [part for pair in zip(_NAMES, told, strict=True) for part in pair])


def make_partitions() -> int:
    """Make the partitions of this month and of the next twelve; return how many were missing, or 0 if that cannot be done now.

    To make one locks the whole history. A dump or an open session may use that for hours, and while we waited for them, every
    change and everyone who reads would wait behind us: so a later sweep tries again. It has a year.
    """
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [PATIENCE])
            cursor.execute("SELECT products_make_history_partitions(%s)", [MONTHS])
            return int(cursor.fetchone()[0])
    except OperationalError as error:
        if not isinstance(error.__cause__, LockNotAvailable):
            raise
        logger.info("history_partitions_wait")
        return 0
