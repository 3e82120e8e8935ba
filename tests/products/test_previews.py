"""Every number of a preview is what the change does, and has as many names behind it as it says (rule B3)."""

from typing import Any

import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from products import previews
from products.actions import check_intent
from products.export import foreseen_as_csv
from products.models import BulkChange, Mode, Product, ProductAccess, Seat
from products.previews import PER_PRODUCT, Affected, Number, compose, preview
from products.queries import skipped_by_reason
from products.selection import Selection
from products.targets import target
from tests.examples import tried
from tests.factories import NOW, change, give, ids, limit, make_group, make_user, product
from users.models import Role, User
from users.queries import UserFilter

pytestmark = pytest.mark.django_db
PRODUCTS = ["meeting", "webinar", "rescue", "central", "joinme"]  # central is restricted; joinme is retired below
sets = st.frozensets(st.sampled_from(PRODUCTS))
people = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(["Ann 100%", "Bob", "Anna"]),
            "role": st.sampled_from([Role.MEMBER, Role.MANAGER, Role.SUPPORT]),
            "ever": sets,
            "held": sets,
            "in_sales": st.booleans(),
            "erased": st.sampled_from([False, False, True]),
        }
    ),
    max_size=12,
)
choices = st.fixed_dictionaries(
    {
        "actor": st.sampled_from([Role.ADMIN, Role.MANAGER]),
        "mode": st.sampled_from([Mode.REPLACE, Mode.ADD, Mode.REMOVE]),
        "ticked": sets,
        "until_full": st.booleans(),
        "search": st.sampled_from(["", "ann", "100%"]),
        "unticked": st.integers(0, 3),
        "seats": st.dictionaries(st.sampled_from(PRODUCTS), st.integers(0, 4), max_size=3),
    }
)


@tried(8)
@given(people=people, choice=choices)
def test_every_number_is_what_happens_and_has_its_names(people, choice):
    with transaction.atomic():
        look_and_apply(people, choice)
        transaction.set_rollback(True)


def look_and_apply(people: list[dict[str, Any]], choice: dict[str, Any]) -> None:
    Product.objects.filter(code="joinme").update(retired_at=NOW)
    sales = make_group("Sales")
    actor = make_user("Zoe", role=choice["actor"], manages=[sales])
    users = []
    for person in people:
        user = make_user(person["name"], role=person["role"], groups=[sales] if person["in_sales"] else [])
        give(user, *person["ever"])
        users.append(give(user, *person["held"]))
        if person["erased"]:
            erase(user)
    for code, more in choice["seats"].items():
        limit(code, Seat.objects.get(product__code=code).used + more)
    selection = Selection(
        everyone=True,
        filter=UserFilter(search=choice["search"]),
        ids=(actor.pk, *(user.pk for user in users[: choice["unticked"]])),
    )
    ticked = set(choice["ticked"])
    if choice["actor"] == Role.MANAGER:
        ticked.discard("central")
    if choice["mode"] == Mode.ADD:
        ticked.discard("joinme")
    intent = check_intent(actor=actor, products=ids(*ticked), mode=choice["mode"])
    asked: dict[str, Any] = {"mode": intent.mode, "wanted": intent.wanted, "preserved": intent.preserved}
    asked |= {"actor": actor, "now": NOW, "until_full": choice["until_full"]}

    seen = preview(selection, notify=True, **asked)

    # As many names as each number says
    for number in Number:
        counts = getattr(seen, number) if number in PER_PRODUCT else {None: getattr(seen, number)}
        for each in Product.objects.values_list("id", flat=True) if number in PER_PRODUCT else [None]:
            found = Affected(selection, number=number, product=each, **asked)
            assert found.users().count() == counts.get(each, 0), (number, each)
    assert seen.selected == selection.users(actor, now=NOW).count()
    assert seen.change_emails == seen.changed
    # What is kept, said by hand
    locked = frozenset() if choice["actor"] == Role.ADMIN else frozenset(ids("central"))
    mine = [user for user in selection.users(actor, now=NOW) if actor.role == Role.ADMIN or user.role != Role.SUPPORT]
    accesses = [user.product_access for user in mine if not user.product_access.erased]
    left = [target(access.products, **{key: asked[key] for key in ("mode", "wanted", "preserved")}) for access in accesses]
    keeping = choice["mode"] == Mode.REPLACE and not intent.wanted
    assert seen.kept == sum(bool(after) and after <= locked for after in left if keeping)
    if not seen.selected or (seen.short and not choice["until_full"]):
        return

    made = change(
        actor,
        [],
        *ticked,
        mode=choice["mode"],
        selection=selection,
        until_full=choice["until_full"],
        expected=seen.selected,
        mark=seen.mark,
    )

    assert made.state == BulkChange.State.FINISHED
    assert (made.changed, made.unchanged) == (seen.changed, seen.unchanged)
    assert (made.suspended, made.restored) == (seen.suspending, seen.restoring)
    skipped = {"OUTRANKS": seen.outranking, "NO_SEAT": seen.left_out}
    assert skipped_by_reason(made) == {reason: count for reason, count in skipped.items() if count}
    moved = {move.product_id: (move.gained, move.lost, move.onboarding) for move in made.moves.all()}
    for each in moved.keys() | seen.gains.keys() | seen.losses.keys():
        told = (seen.gains.get(each, 0), seen.losses.get(each, 0), seen.onboarding_emails.get(each, 0))
        assert moved.get(each, (0, 0, 0)) == told


def erase(user: User) -> User:
    """Let it be as after an erasure for what the user holds."""
    ProductAccess.objects.filter(user=user).update(products=[], erased=True)
    return user


@pytest.fixture
def manager() -> User:
    """Return the manager of the group Sales."""
    return make_user("Mary Manager", role=Role.MANAGER, manages=[make_group("Sales")])


def member_of(manager: User, **fields: Any) -> User:
    """Return a user whom the manager manages."""
    return make_user(groups=manager.managed_groups.all(), **fields)


def look(actor: User, selection: Selection, *codes: str, mode: str = Mode.REPLACE, until_full: bool = False) -> previews.Preview:
    """Return the preview of setting products by their codes."""
    intent = check_intent(actor=actor, products=ids(*codes), mode=mode)
    return preview(
        selection,
        actor=actor,
        mode=intent.mode,
        wanted=intent.wanted,
        preserved=intent.preserved,
        notify=True,
        now=NOW,
        until_full=until_full,
    )


def test_who_holds_nothing_but_what_the_manager_may_not_take_is_counted_as_kept(manager):
    give(member_of(manager), "central")
    give(member_of(manager), "central", "rescue")
    give(member_of(manager), "rescue")

    seen = look(manager, Selection(everyone=True))

    assert (seen.kept, seen.unchanged, seen.suspending) == (2, 1, 1)


def test_a_retired_product_that_is_ticked_keeps_nobody_against_the_admins_will():
    admin = make_user(role=Role.ADMIN)
    Product.objects.filter(code="joinme").update(retired_at=NOW)
    users = [give(make_user(), "joinme"), give(make_user(), "joinme", "rescue")]

    seen = look(admin, Selection.of(user.pk for user in users), "joinme")

    assert (seen.kept, seen.suspending, seen.changed) == (0, 0, 1)


def test_with_something_ticked_nobody_is_kept_from_being_suspended(manager):
    give(member_of(manager), "central")

    assert look(manager, Selection(everyone=True), "rescue").kept == 0


def test_everyone_is_counted_without_looking_at_users(django_assert_num_queries):
    admin = make_user(role=Role.ADMIN)
    give(make_user(), "rescue")

    rows = Selection(everyone=True).accesses(admin, now=NOW)

    assert compose(rows, actor=admin).mark
    assert "users_user" not in str(rows.query)


def test_who_is_left_out_comes_last_and_keeps_everything(manager):
    admin = make_user(role=Role.ADMIN)
    limit("rescue", 2)
    users = [give(make_user(), "meeting") for _ in range(3)]
    selection = Selection.of(user.pk for user in users)

    seen = look(admin, selection, "rescue", until_full=True)

    assert (seen.changed, seen.left_out, seen.gains) == (2, 1, {product("rescue").pk: 2})
    assert [need.missing for need in seen.seats] == [1]
    asked: dict[str, Any] = {"mode": Mode.REPLACE, "wanted": ids("rescue"), "preserved": [], "now": NOW, "until_full": True}
    assert list(Affected(selection, actor=admin, number=Number.LEFT_OUT, **asked).users()) == [users[2]]


@pytest.mark.parametrize("mode", [Mode.REPLACE, Mode.ADD])
@pytest.mark.parametrize("until_full", [False, True])
def test_who_was_erased_stays_as_they_are_and_takes_no_seat(mode, until_full):
    admin, erased, alan = make_user(role=Role.ADMIN), erase(give(make_user(), "meeting")), make_user("Alan Turing")
    limit("rescue", 1)
    selection = Selection.of([erased.pk, alan.pk])

    seen = look(admin, selection, "rescue", mode=mode, until_full=until_full)
    made = change(admin, [], "rescue", mode=mode, until_full=until_full, selection=selection)

    assert (seen.selected, seen.changed, seen.unchanged, seen.left_out) == (2, 1, 1, 0)
    assert (seen.short, seen.gains, seen.restoring, seen.change_emails) == ([], {product("rescue").pk: 1}, 1, 1)
    assert (made.changed, made.unchanged, made.skipped) == (1, 1, 0)


def test_the_names_behind_a_number_as_csv_are_safe_in_a_spreadsheet():
    admin = make_user(role=Role.ADMIN)
    grace, alan = (
        give(make_user("=HYPERLINK 100%", email="grace@tests.example"), "meeting"),
        make_user("Alan Turing", email="alan@tests.example"),
    )
    found = Affected(
        Selection.of([grace.pk, alan.pk]),
        actor=admin,
        mode=Mode.REPLACE,
        wanted=ids("rescue", "webinar"),
        preserved=[],
        number=Number.CHANGED,
        now=NOW,
    )

    rows = b"".join(foreseen_as_csv(found.users, target=found.target_sql)).decode().splitlines()

    assert rows == [
        "\ufeffUser,Name,Email,Now,Afterwards",
        f"{grace.pk},'=HYPERLINK 100%,grace@tests.example,GoTo Meeting,GoTo Webinar; Rescue",
        f"{alan.pk},Alan Turing,alan@tests.example,,GoTo Webinar; Rescue",
    ]
