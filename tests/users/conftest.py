"""A file of people, imported in the name of the first Super admin."""

import io
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from tests.factories import make_user
from users.models import Role, User


@pytest.fixture
def boss(db: None) -> User:
    """Return the first Super admin, in whose name the import is made."""
    return make_user("Grace Hopper", email="boss@tests.example", role=Role.SUPER_ADMIN)


@pytest.fixture
def people(boss: User, tmp_path: Path) -> Any:
    """Return a function that imports a file of these lines: (what was said, what was complained about, the exit code)."""

    def run(*lines: str, **options: Any) -> tuple[str, str, int]:
        path = tmp_path / "people.csv"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogateescape")
        out, err, code = io.StringIO(), io.StringIO(), 0
        try:
            call_command("import_users", str(path), stdout=out, stderr=err, skip_checks=True, **options)
        except SystemExit as exit:
            code = int(exit.code or 0)
        return out.getvalue(), err.getvalue(), code

    return run
