"""Who acts and why, told to the database for this transaction: its triggers write it into the entitlement history."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection
from django.db.backends.utils import CursorWrapper
from psycopg.pq import TransactionStatus

from products.models import Source

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
