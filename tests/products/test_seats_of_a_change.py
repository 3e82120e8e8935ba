"""Seats are never oversold: a change that needs more is refused with the shortfall, or assigns until they are full (rule B9)."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from products import actions, previews, queries, running
from products.models import AccessChange, BulkChange, Mode, ProductAccess, Seat, SeatReservation
from products.selection import Selection
from tests.factories import NOW, change, give, held_by, ids, limit, make_group, make_holders, make_user, make_users, product, run
from tests.products.conftest import breaches
from tests.products.test_at_once import at_once, run_to_the_end
from users.models import Role, User


@pytest.fixture(autouse=True)
def nothing_is_broken(admin) -> Iterator[None]:
    """See to it that sets, history, counters, seats and emails agree after every story of this file."""
    yield
    assert breaches() == []


@pytest.fixture(params=["small", "large"])
def any_size(request, settings) -> None:
    """Run the test twice: with a change that is done at once, and with a large one in batches of three."""
    settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE = (1000, 1000) if request.param == "small" else (0, 3)


def places(users: list[User], *codes: str) -> list[int]:
    """Return the places of those who hold exactly these products."""
    return [place for place, user in enumerate(users) if held_by(user) == set(codes)]


def without_seat(made: BulkChange, users: list[User]) -> list[int]:
    """Return the places of those whom a change left out for want of a seat."""
    left_out = set(made.skips.filter(reason="NO_SEAT").values_list("user_id", flat=True))
    return [place for place, user in enumerate(users) if user.pk in left_out]


def seats(code: str) -> tuple[int, int]:
    return Seat.objects.values_list("used", "reserved").get(product__code=code)


# Refused


@pytest.mark.usefixtures("any_size")
def test_short_of_several_products_the_exact_shortfall_of_each_is_told_and_nothing_starts(admin):
    users = [give(make_user(), "rescue"), *make_users(4)]
    limit("rescue", 3)
    limit("webinar", 2)
    limit("central", 5)
    with pytest.raises(actions.SeatsShort) as refused:
        change(admin, users, "rescue", "webinar", "central", "meeting")

    short = {need.product_id: (need.needed, need.free, need.missing) for need in refused.value.needs}
    assert short == {product("rescue").pk: (4, 2, 2), product("webinar").pk: (5, 2, 3)}
    assert not AccessChange.objects.exclude(source="HELD_BEFORE").exists()
    assert not BulkChange.objects.exists()
    assert (seats("rescue"), seats("webinar")) == ((1, 0), (0, 0))


@pytest.mark.usefixtures("any_size")
def test_exactly_enough_is_enough(admin):
    users = [give(make_user(), "rescue"), *make_users(4)]
    limit("rescue", 5)

    assert run(change(admin, users, "rescue")).changed == 4
    assert seats("rescue") == (5, 0)


@pytest.mark.usefixtures("any_size")
def test_who_may_not_be_changed_needs_no_seat(admin):
    sales = make_group("Sales")
    manager = make_user(role=Role.MANAGER, manages=[sales])
    users = [make_user(groups=[sales]) for _ in range(4)] + [make_user(groups=[sales], role=Role.ADMIN)]
    limit("rescue", 4)

    assert run(change(manager, users, "rescue")).changed == 4


@pytest.mark.usefixtures("any_size")
def test_without_seats_left_products_can_still_be_taken_and_others_given(admin):
    users = make_holders(4, "rescue")
    limit("rescue", 4)

    assert run(change(admin, users, "central", mode=Mode.ADD)).changed == 4
    assert run(change(admin, users, "rescue", mode=Mode.REMOVE)).changed == 4
    assert seats("rescue") == (0, 0)


# Assign until full


@pytest.mark.usefixtures("any_size")
def test_assigned_until_full_the_first_get_seats_in_the_order_of_being_added(admin):
    users = make_users(8)
    limit("rescue", 5)
    made = run(change(admin, [users[7], *users[:7]], "rescue", until_full=True))

    assert places(users, "rescue") == [0, 1, 2, 3, 4]
    assert without_seat(made, users) == [5, 6, 7]
    assert (made.state, made.targets, made.changed, made.unchanged, made.skipped) == (BulkChange.State.FINISHED, 8, 5, 0, 3)
    assert seats("rescue") == (5, 0)


@pytest.mark.usefixtures("any_size")
def test_who_is_left_out_keeps_what_they_had_and_gets_no_email(admin):
    users = make_holders(4, "central")
    limit("rescue", 1)
    made = run(change(admin, users, "rescue", "meeting", until_full=True))

    assert places(users, "rescue", "meeting") == [0]
    assert places(users, "central") == without_seat(made, users) == [1, 2, 3]
    assert not AccessChange.objects.filter(change=made, user__in=users[1:]).exists()


@pytest.mark.usefixtures("any_size")
def test_who_holds_the_product_already_needs_no_seat_and_is_changed(admin):
    users = [give(make_user(), "rescue" if n in (3, 6) else "central") for n in range(7)]
    limit("rescue", 4)
    made = run(change(admin, users, "rescue", "meeting", until_full=True))

    assert places(users, "rescue", "meeting") == [0, 1, 3, 6]
    assert without_seat(made, users) == [2, 4, 5]


@pytest.mark.usefixtures("any_size")
def test_with_several_limited_products_a_user_gets_all_or_nothing(admin):
    """Rescue runs out first; who is left out for that takes no seat of Webinar, which goes to those who have Rescue."""
    users = [give(make_user(), "rescue") if n in (4, 6, 7) else make_user() for n in range(8)]
    limit("rescue", 5)  # two left: for 0 and 1
    limit("webinar", 4)  # 0, 1, then 4 and 6; not 7
    made = run(change(admin, users, "rescue", "webinar", until_full=True))

    assert places(users, "rescue", "webinar") == [0, 1, 4, 6]
    assert without_seat(made, users) == [2, 3, 5, 7]
    assert places(users, "rescue") == [7]
    assert (seats("rescue"), seats("webinar")) == ((5, 0), (4, 0))


@pytest.mark.usefixtures("any_size")
def test_two_products_that_run_out_at_the_same_user(admin):
    users = [make_user(), make_user(), give(make_user(), "rescue"), give(make_user(), "webinar"), make_user()]
    limit("rescue", 2)
    limit("webinar", 2)
    made = run(change(admin, users, "rescue", "webinar", until_full=True))

    assert places(users, "rescue", "webinar") == [0]
    assert without_seat(made, users) == [1, 2, 3, 4]


@pytest.mark.usefixtures("any_size")
def test_when_nothing_is_left_everybody_who_needs_a_seat_is_left_out(admin):
    give(make_user(), "rescue")
    limit("rescue", 1)
    users = make_users(4)
    made = run(change(admin, users, "rescue", until_full=True))

    assert (made.state, made.changed, made.skipped) == (BulkChange.State.FINISHED, 0, 4)


@pytest.mark.usefixtures("any_size")
def test_with_seats_enough_until_full_is_as_without(admin):
    users = make_users(4)
    limit("rescue", 4)

    assert run(change(admin, users, "rescue", until_full=True)).changed == 4


def test_the_same_key_until_full_or_not_is_another_change(admin):
    users = make_users(2)
    key = change(admin, users, "rescue").key
    with pytest.raises(actions.KeyReused):
        change(admin, users, "rescue", key=key, until_full=True)


def greedy(held: list[set[str]], wanted: set[str], mode: str, free: dict[str, int]) -> list[int]:
    """Return the places of those who are left out: the rule, one user after another."""
    left_out, free = [], dict(free)
    for place, before in enumerate(held):
        needed = (wanted - before) & free.keys() if mode != Mode.REMOVE else set()
        if all(free[code] > 0 for code in needed):
            for code in needed:
                free[code] -= 1
        else:
            left_out.append(place)
    return left_out


@pytest.mark.parametrize("seed", range(3))
def test_small_or_large_and_whatever_batch_comes_first_the_same_people_are_left_out_as_previewed(admin, settings, seed):
    chance = random.Random(seed)
    codes = ["rescue", "webinar", "central"]
    free = {code: chance.randint(0, 12) for code in codes}
    held = [{code for code in codes if chance.random() < 0.3} for _ in range(20)]
    wanted, mode = set(chance.sample(codes, 2)), chance.choice([Mode.REPLACE, Mode.ADD])
    left_out = greedy(held, wanted, mode, free)

    for size in ("small", "large"):
        users = [give(make_user(), *before) for before in held]
        for code in codes:
            limit(code, seats(code)[0] + free[code])
        foreseen = previews.preview(
            Selection.of(user.pk for user in users), actor=admin, mode=mode, wanted=ids(*wanted), preserved=[],
            notify=True, until_full=True, now=NOW,
        )  # fmt: skip
        assert foreseen.left_out == len(left_out)
        settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE = (1000, 1000) if size == "small" else (0, 4)
        made = change(admin, users, *wanted, mode=mode, until_full=True)
        batches = list(made.batches.filter(state="WAITING"))
        chance.shuffle(batches)
        for batch in batches:
            batch.attempts = 1
            batch.save(update_fields=["attempts"])
            running._apply_claimed(made, batch)
        running._finish(made, now=NOW)
        made.refresh_from_db()

        assert without_seat(made, users) == left_out
        assert (made.state, made.skipped) == (BulkChange.State.FINISHED, len(left_out))
        for code in codes:
            limit(code, None)


@pytest.mark.parametrize("until_full", [False, True])
def test_deciding_who_gets_a_seat_costs_the_same_for_few_and_many(admin, settings, until_full):
    settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE = 0, 1000

    def statements(size: int) -> int:
        free = size // 2 if until_full else size
        limit("rescue", seats("rescue")[0] + free)
        with CaptureQueriesContext(connection) as captured:
            run(change(admin, make_users(size), "rescue", until_full=until_full))
        return len([query for query in captured if "users_user" not in query["sql"]])

    assert statements(4) == statements(60)


# Seats lost to others, and won, while a change runs


def test_seats_lost_meanwhile_leave_out_the_last_of_the_batch_that_lacks_them(admin, in_batches):
    limit("rescue", 6)
    users = [give(make_user(), "rescue") if n in (3, 4) else make_user() for n in range(6)]
    made = change(admin, users, "rescue")
    assert seats("rescue") == (2, 4)
    change(admin, users[3:5])  # they lose theirs,
    change(admin, make_users(2), "rescue")  # to others

    run(made)
    assert without_seat(made, users) == [4, 5]
    assert (made.state, made.changed, made.skipped) == (BulkChange.State.FINISHED, 4, 2)
    assert seats("rescue") == (6, 0)


def test_a_seat_that_becomes_free_meanwhile_helps_nobody_who_was_left_out(admin, in_batches):
    holder, users = give(make_user(), "rescue"), make_users(4)
    limit("rescue", 3)
    made = change(admin, users, "rescue", until_full=True)
    change(admin, [holder])
    run(made)

    assert without_seat(made, users) == [2, 3]
    assert seats("rescue") == (2, 0)


def test_what_targets_got_from_others_meanwhile_is_given_back_at_the_end(admin, in_batches):
    limit("rescue", 8)
    users = make_users(5)
    made = change(admin, users, "rescue")
    change(admin, users[:2], "rescue")
    assert seats("rescue") == (2, 5)

    assert (run(made).changed, made.unchanged) == (3, 2)
    assert seats("rescue") == (5, 0)
    assert not SeatReservation.objects.exists()


def test_a_limit_set_while_a_change_runs_leaves_out_who_is_beyond_it(admin, in_batches):
    users = make_users(6)
    made = change(admin, users, "rescue")
    actions.advance_bulk_change(change_id=made.pk, now=NOW)
    limit("rescue", 4)
    run(made)

    assert places(users, "rescue") == [0, 1, 2, 3]
    assert queries.skipped_by_reason(made) == {"NO_SEAT": 2}


def test_nobody_loses_a_seat_that_a_change_has_reserved(committed_db, admin, settings):
    """Two large changes until full and single ones beside them, all at once: seats are holders, and never too many."""
    settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE = 3, 4
    limit("rescue", 20)
    limit("webinar", 14)
    crowd = make_users(50)
    first = change(admin, crowd[:16], "rescue", "webinar", until_full=True)
    second = change(admin, crowd[10:30], "rescue", mode=Mode.ADD, until_full=True)
    reserved = {code: seats(code)[1] for code in ("rescue", "webinar")}

    def single(user: User) -> Any:
        return lambda: change(admin, [user], "rescue", until_full=True)

    outcomes = at_once(*[lambda: run_to_the_end(first, second)] * 3, *[single(user) for user in crowd[30:36]])

    assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == []
    assert reserved == {"rescue": 20, "webinar": 14}
    holding = [products for products in ProductAccess.objects.values_list("products", flat=True) if products]
    for code in reserved:
        assert seats(code) == (sum(product(code).pk in products for products in holding), 0)
    assert queries.skipped_by_reason(BulkChange.objects.get(pk=first.pk)) == {"NO_SEAT": 2}
