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


@pytest.mark.parametrize("already_held", [True, False])
@pytest.mark.parametrize("at_once", [1, 2])
def test_a_dry_run_counts_only_the_freed_seats_that_the_import_can_take(
    people: Any, settings: Any, at_once: int, already_held: bool
) -> None:
    """A larger set frees its seats in the worker, after the next sets asked for theirs; what was held before is one statement."""
    settings.BULK_AT_ONCE = at_once
    for name in ("ada", "alan"):
        give(make_user(email=f"{name}@tests.example"), "rescue")
    limit("rescue", 2)
    lines = ("email,products", "ada@tests.example,", "alan@tests.example,", "emmy@x.example,rescue", "kurt@x.example,rescue")

    would, _complained, _code = people(*lines, already_held=already_held, dry_run=True)

    if at_once == 2 or already_held:
        assert "cannot be imported" not in would
        assert people(*lines, already_held=already_held)[2] == 0
    else:
        assert "seats: 2 needed, 0 free, so this cannot be imported" in would
        before = everything()
        with pytest.raises(CommandError, match="Rescue: 2 seats needed, 0 free, 2 missing"):
            people(*lines)
        assert everything() == before
        assert [people(lines[0], *half)[2] for half in (lines[1:3], lines[3:])] == [0, 0]  # what docs/importing.md says to do


def test_a_dry_run_tells_when_sets_swap_seats(people: Any) -> None:
    """None can come first, though the file as a whole needs no seat."""
    give(make_user(email="ada@tests.example"), "rescue")
    give(make_user(email="emmy@tests.example"), "meeting")
    limit("rescue", 1)
    limit("meeting", 1)
    lines = ("email,products", "ada@tests.example,meeting", "emmy@tests.example,rescue")

    would, _complained, _code = people(*lines, dry_run=True)

    assert would.count("seats: 1 needed, 0 free, so this cannot be imported") == 1
    with pytest.raises(CommandError, match="1 seat needed, 0 free, 1 missing"):
        people(*lines)


def test_the_seats_needed_are_those_of_all_sets_together(people: Any) -> None:
    limit("rescue", 1)
    lines = ("email,products", "ada@x.example,rescue", "emmy@x.example,meeting; rescue", "kurt@x.example,webinar; rescue")
    assert "seats: 3 needed, 1 free" in people(*lines, dry_run=True)[0]
