"""The seats that an import of people needs: foreseen by its dry run as the import takes them, and never oversold."""

from typing import Any

import pytest
from django.core.management import CommandError

from tests.factories import give, held_by, limit, make_user
from tests.users.test_import_users import everything


@pytest.mark.parametrize("already_held", [True, False])
def test_too_few_seats_stop_the_import(people: Any, already_held: bool) -> None:
    limit("rescue", 1)
    before = everything()
    with pytest.raises(CommandError, match="Rescue: 2 seats needed, 1 free"):
        people("email,products", "a@x.example,rescue", "b@x.example,rescue", already_held=already_held)
    assert everything() == before

    would, _complained, _code = people("email,products", "a@x.example,rescue", "b@x.example,rescue", dry_run=True)
    assert "seats: 2 needed, 1 free" in would


def test_a_seat_that_the_file_frees_is_free_for_whom_it_gives_one(people: Any) -> None:
    ada = give(make_user("Ada", email="ada@tests.example"), "rescue")
    emmy = make_user("Emmy", email="emmy@tests.example")
    limit("rescue", 1)

    people("email,products", "emmy@tests.example,rescue", "ada@tests.example,central; connect; resolve")

    assert (held_by(ada), held_by(emmy)) == ({"central", "connect", "resolve"}, {"rescue"})


def test_a_seat_that_the_file_frees_can_be_taken(people: Any) -> None:
    give(make_user("Ada", email="ada@tests.example"), "rescue")
    limit("rescue", 1)
    assert people("email,products", "emmy@tests.example,rescue", "ada@tests.example,")[2] == 0
