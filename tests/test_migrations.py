"""Every migration can be undone and done again, on a database of its own."""

import pytest
from django.core.management import call_command
from django.db import ProgrammingError, connection, transaction

from tests.factories import give, held_by, make_user

OURS = """
SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname ~ '^(users|products|notifications)_'
UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proname ~ '^(users|products)_'
UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal
"""


def ours() -> set[str]:
    """Return the names of what our apps have in the database: tables, indexes, views, functions and triggers."""
    with connection.cursor() as cursor:
        cursor.execute(OURS)
        return {row[0] for row in cursor}


def test_migrations_are_undone_and_done_again(committed_db):
    before = ours()
    for app in ("products", "notifications", "admin", "account", "users"):
        call_command("migrate", app, "zero", database="owner", verbosity=0, interactive=False)
    assert ours() == set()

    call_command("migrate", database="owner", verbosity=0, interactive=False)
    assert ours() == before
    assert held_by(give(make_user(), "rescue")) == {"rescue"}


@pytest.mark.django_db
@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO django_migrations (app, name, applied) VALUES ('users', '9999_of_the_next_release', now())",
        "UPDATE django_migrations SET name = name",
        "DELETE FROM django_migrations",
    ],
)
def test_which_migrations_were_made_is_the_owners_to_note(sql):
    with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql)
