"""How PostgreSQL is to go about a question on many users, where its own guess may be far off: settings of one transaction."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from django.db import OperationalError, connection, transaction
from psycopg.errors import QueryCanceled

# Follow the index that has the order, look each user up, and stop as soon as there are enough: never sort or hash a table.
WALK = {
    **dict.fromkeys(
        ("enable_hashjoin", "enable_mergejoin", "enable_sort", "enable_seqscan", "enable_bitmapscan", "enable_hashagg"), "off"
    ),
    "enable_material": "off",
    "enable_memoize": "off",
    "max_parallel_workers_per_gather": "0",
}
# The same after going through one whole table.
LOOK = {**WALK, "enable_seqscan": "on", "enable_sort": "on", "max_parallel_workers_per_gather": "2", "parallel_setup_cost": "100"}
# Go through whole tables, with both hands and room to hash them, rather than look up each of a hundred thousand users.
SWEEP = {"work_mem": "64MB", "parallel_setup_cost": "100", "parallel_tuple_cost": "0.01", "random_page_cost": "2"}
LONGEST = "5s"


class TookTooLong(Exception):
    """The question was given up, so that one list cannot hold up the console."""


@contextmanager
def planned(plan: Mapping[str, str], *, longest: str = "") -> Iterator[None]:
    """Ask the questions inside with these settings, for no longer than that each; write nothing. Raises TookTooLong."""
    settings = {**plan, "statement_timeout": longest or LONGEST}
    try:
        with transaction.atomic(), connection.wrap_database_errors, connection.cursor() as cursor:  # COPY's own are not wrapped
            calls = ", ".join("set_config(%s, %s, true)" for _name in settings)
            cursor.execute(f"SELECT {calls}", [word for pair in settings.items() for word in pair])
            yield
            transaction.set_rollback(True)  # the settings end here, also inside of a longer transaction
    except OperationalError as error:
        if isinstance(error.__cause__, QueryCanceled):
            raise TookTooLong from error
        raise
