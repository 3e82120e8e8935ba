"""The console's database and its two roles: an owner that migrates, and the console's own, which owns nothing.

docs/operations.md shows an operator the same statements for a server of their own.
"""

import psycopg
from psycopg import sql

# The console's role reads and writes rows; what it may not do to the history, the migrations revoke.
GRANTS = (
    "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO {role}",
)


def provide_database(
    conninfo: str, name: str, *, owner: str = "console_owner", role: str = "console", password: str = ""
) -> bool:
    """Make the two roles and the database `name` where they are missing; tell whether the database is new.

    `conninfo` is a superuser's, to any database of the server. Run again after a crash, it finishes what is missing.
    """
    with psycopg.connect(conninfo, autocommit=True) as server:
        for account in (owner, role):
            if not server.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [account]).fetchone():
                login = sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(account))
                server.execute(login + sql.SQL(" PASSWORD {}").format(password) if password else login)
        new = not server.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
        if new:
            server.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(owner)))
    with psycopg.connect(conninfo, dbname=name, autocommit=True) as database:
        for grant in GRANTS:
            database.execute(sql.SQL(grant).format(owner=sql.Identifier(owner), role=sql.Identifier(role)))
    return new
