"""Every migration can be undone and done again, on a database of its own."""

import unicodedata

import pytest
from django.core.management import call_command
from django.db import ProgrammingError, connection, transaction

from products.models import Product
from tests.database import OWNER, ROLE
from tests.factories import NOW, give, held_by, make_group, make_user
from users.models import Role, User, UserGroup
from users.queries import UserFilter, users_matching

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


RIGHTS = """
SELECT relname, attname, privilege_type FROM (
    SELECT relname, '' AS attname, acl.* FROM pg_class, aclexplode(relacl) acl
    UNION ALL
    SELECT relname, attname, acl.* FROM pg_class c JOIN pg_attribute ON attrelid = c.oid, aclexplode(attacl) acl
) rights
WHERE relname ~ '^(users|products|notifications|django|account)_' AND privilege_type <> 'SELECT' AND grantee = %s::regrole
"""


@pytest.fixture
def reader(committed_db, superuser_connection):
    """Return a role that may read every table there is and will be, as one for reports may."""
    role = f"{committed_db.name}_reader"
    superuser_connection.execute(f"CREATE ROLE {role}")
    superuser_connection.execute(f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} GRANT SELECT ON TABLES TO {role}")
    superuser_connection.commit()
    yield role
    superuser_connection.execute(f"DROP OWNED BY {role}")
    superuser_connection.execute(f"DROP ROLE {role}")
    superuser_connection.commit()


def test_whoever_may_only_read_may_only_read_after_a_migration_too(committed_db, owner_connection, reader):
    def rights(role):
        found = set(owner_connection.execute(RIGHTS, [role]).fetchall())
        owner_connection.rollback()
        return found

    of_the_console = rights(ROLE)
    for app in ("products", "users"):
        call_command("migrate", app, "zero", database="owner", verbosity=0, interactive=False)
    call_command("migrate", "users", "0012", database="owner", verbosity=0, interactive=False)
    call_command("migrate", "products", "0018", database="owner", verbosity=0, interactive=False)
    assert {right[0] for right in rights(reader)} == {
        "users_adminaction", "products_seat", "products_checkpoint", "products_product"
    }  # fmt: skip

    call_command("migrate", database="owner", verbosity=0, interactive=False)
    assert rights(reader) == set()
    assert rights(ROLE) == of_the_console


def test_what_was_stored_in_separate_letters_is_found_as_it_is_typed(committed_db, tmp_path):
    def separate(text):
        return unicodedata.normalize("NFD", text)

    question = "\u037e"  # the Greek one is composed to a semicolon, which separates groups, and products
    stored = (separate("Zürich"), "Köln", separate("KÖLN"), f"Who{question}")
    zurich, cologne, _twin, _asked = (make_group(name) for name in stored)
    make_user(role=Role.SUPER_ADMIN)
    josif = make_user(separate("Йосиф Müller"), groups=[zurich])
    Product.objects.filter(code="rescue").update(name=separate("Rétablir"))
    Product.objects.filter(code="meeting").update(name=f"When{question}")
    call_command("migrate", "products", "0019", database="owner", verbosity=0, interactive=False)
    call_command("migrate", "users", "0013", database="owner", verbosity=0, interactive=False)
    call_command("migrate", database="owner", verbosity=0, interactive=False)

    [found] = users_matching(User.objects.all(), UserFilter(search="йосиф mü"), now=NOW)
    assert (found, found.first_name) == (josif, "Йосиф")
    assert [group.name for group in UserGroup.objects.order_by("id")] == ["Zürich", "Köln", separate("KÖLN"), f"Who{question}"]
    assert Product.objects.get(code="meeting").name == f"When{question}"
    sheet = tmp_path / "people.csv"
    sheet.write_text(separate(f"email,groups,products\n{josif.email},Zürich;köln,rétablir\n"), encoding="utf-8")
    call_command("import_users", str(sheet))
    assert {group.pk for group in josif.groups.all()} == {zurich.pk, cologne.pk}
    assert (UserGroup.objects.count(), held_by(josif)) == (4, {"rescue"})


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
