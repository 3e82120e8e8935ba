"""Plain copies of the console's tables: the same columns, checks, indexes and storage, but nothing that acts by itself."""

from collections.abc import Mapping

import psycopg
from psycopg import sql

OPTIONS = "SELECT array_to_string(reloptions, ', ') FROM pg_class WHERE oid = %s::regclass"


def make_copies(server: psycopg.Connection, tables: Mapping[str, str]) -> None:
    """Make each of these tables anew, empty, like the one that it is named after."""
    for copy, table in tables.items():
        options = (server.execute(OPTIONS, [table]).fetchone() or [None])[0]
        name, like = sql.Identifier(copy), sql.Identifier(table)
        server.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(name))
        made = sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(name, like)
        server.execute(made + sql.SQL(f" WITH ({options})" if options else ""))
