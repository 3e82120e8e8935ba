"""What was held when: of a user and of a product, as of any moment and between two, whatever happened before and since."""

import csv
import io
import random
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from products import asof
from products.asof import Question, What
from products.models import AccessChange, Source
from products.sealing import seal
from products.stretches import summarise
from tests.factories import NOW, change, give, ids, make_group, make_holders, make_user, make_users, product
from users.models import Role, User

pytestmark = pytest.mark.django_db
EDGES = (65_535, 65_536, 131_072, 2**31 - 1)  # ids between which the parts begin and end in which it is noted who turned


def clock() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]


def who(
    code: str, since: datetime, until: datetime | None = None, what: What = What.HELD, reader: User | None = None
) -> list[int]:
    """Return whom the first page, the pages one by one, the count and the export all agree on."""
    reader = reader or User(role=Role.SUPPORT)
    question = Question(product=product(code), reader=reader, since=since, until=until, what=what)
    listed = [row.user_id for row in asof.found(question, size=1000).rows]
    turned: list[int] = []
    page = asof.found(question, size=2)
    while True:
        turned += [row.user_id for row in page.rows]
        if page.next is None:
            break
        page = asof.found(question, after=page.next, size=2)
    exported = list(csv.reader(io.StringIO(b"".join(asof.users_as_csv(question)).decode("utf-8-sig"))))
    assert exported[0] == ["User", "Name", "Email"]
    assert listed == turned == [int(line[0]) for line in exported[1:]] == sorted(listed)
    assert asof.count(question) == len(listed)
    return listed


# Of a user


def test_what_a_user_held_at_any_moment_is_known() -> None:
    admin, grace = make_user(role=Role.ADMIN), make_user()
    started = clock()
    change(admin, [grace], "meeting")
    between = clock()
    change(admin, [grace], "rescue")

    assert asof.held_at(grace, started) == []
    assert asof.held_at(grace, between) == ids("meeting")
    assert asof.held_at(grace, timezone.now()) == ids("rescue")
    assert asof.held_at(make_user(), NOW) == []


def test_between_two_moments_a_user_gained_and_lost_what_is_told() -> None:
    grace = give(make_user(), "meeting", "webinar")
    since = clock()
    for codes in (["webinar", "rescue"], ["webinar", "rescue", "training"], ["webinar", "training"]):
        give(grace, *codes)
    until = clock()
    give(grace)

    told = asof.difference(grace, since, until)
    assert (told.gained, told.lost) == (frozenset(ids("training")), frozenset(ids("meeting")))
    assert len(asof.changes_between(grace, since, until)) == 3


def test_why_a_user_holds_a_product_is_the_change_that_gave_it_last() -> None:
    admin, grace = make_user(role=Role.ADMIN), give(make_user(), "rescue")
    change(admin, [grace], "rescue", "meeting", reason="First")
    between = clock()
    change(admin, [grace], "rescue")
    change(admin, [grace], "rescue", "meeting", reason="Second")
    rescue, meeting = ids("rescue")[0], ids("meeting")[0]

    assert {pk: row.change and row.change.reason for pk, row in asof.granted_by(grace).items()} == {
        rescue: None,
        meeting: "Second",
    }
    assert asof.granted_by(grace, between)[meeting].change.reason == "First"
    assert asof.granted_by(grace)[rescue].source == Source.HELD_BEFORE


# Of a product


def test_who_held_a_product_at_a_moment_is_known() -> None:
    grace, alan = make_user(), give(make_user(), "meeting")
    started = clock()
    give(grace, "meeting")
    between = clock()
    give(grace, "rescue")
    give(alan, "meeting", "rescue")

    assert who("meeting", started) == [alan.pk]
    assert who("meeting", between) == [grace.pk, alan.pk]
    assert who("meeting", clock()) == [alan.pk]
    assert who("rescue", clock()) == [grace.pk, alan.pk]
    assert who("rescue", NOW - timedelta(days=9999)) == []


def test_between_two_moments_who_gained_and_who_lost_a_product_is_known() -> None:
    stays, gains, loses, visits = (make_user() for _ in range(4))
    give(stays, "meeting"), give(loses, "meeting")
    since = clock()
    give(stays), give(stays, "meeting"), give(gains, "meeting"), give(loses, "rescue")
    give(visits, "meeting"), give(visits)
    until = clock()
    give(gains), give(loses, "meeting")

    assert who("meeting", since, until, What.GAINED) == [gains.pk]
    assert who("meeting", since, until, What.LOST) == [loses.pk]


def test_each_who_is_found_comes_with_the_row_that_did_it() -> None:
    admin, grace, alan = make_user(role=Role.ADMIN), make_user("Grace Hopper"), give(make_user(), "meeting")
    since = clock()
    given = change(admin, [grace], "meeting")
    change(admin, [grace], "meeting", "rescue")
    between = clock()
    taken = change(admin, [grace], "rescue")

    def found(**asked: Any) -> dict[int, Any]:
        question = Question(product=product("meeting"), reader=User(role=Role.SUPPORT), **asked)
        return {each.user_id: each for each in asof.found(question).rows}

    held = found(since=between)
    assert held[grace.pk].user == grace
    assert held[grace.pk].row.change == given
    assert held[alan.pk].row.source == Source.HELD_BEFORE
    assert found(since=between, until=clock(), what=What.LOST)[grace.pk].row.change == taken
    assert found(since=since, until=between, what=What.GAINED)[grace.pk].row.change == given


def test_who_was_deleted_since_is_still_told() -> None:
    grace = give(make_user("Grace Hopper"), "meeting")
    between, gone = clock(), grace.pk
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM users_user WHERE id = %s", [gone])

    assert who("meeting", between) == [gone]
    assert who("meeting", between, clock(), What.LOST) == [gone]
    question = Question(product=product("meeting"), reader=User(role=Role.SUPPORT), since=between)
    assert [each.user for each in asof.found(question).rows] == [None]


def test_a_manager_is_told_of_the_members_of_their_groups_only() -> None:
    sales = make_group("Sales")
    manager = make_user(role=Role.MANAGER, manages=[sales])
    grace, _alan = give(make_user(groups=[sales]), "meeting"), give(make_user(), "meeting")

    assert who("meeting", clock(), reader=manager) == [grace.pk]


def test_names_in_an_export_are_no_formulas() -> None:
    give(make_user("=SUM(1) O'Brien", email="=evil@tests.example"), "meeting")
    question = Question(product=product("meeting"), reader=User(role=Role.SUPPORT), since=clock())

    rows = list(csv.reader(io.StringIO(b"".join(asof.users_as_csv(question)).decode("utf-8-sig"))))

    assert rows[1][1:] == ["'=SUM(1) O'Brien", "'=evil@tests.example"]


@pytest.mark.parametrize("seed", range(2))
def test_whatever_happened_all_questions_agree_with_a_replay(seed: int) -> None:
    chance = random.Random(seed)
    people, codes = [*make_users(3), *(make_user(id=pk) for pk in EDGES)], ["meeting", "rescue", "training"]
    moments = [clock()]
    states: list[dict[int, frozenset[str]]] = [{user.pk: frozenset() for user in people}]
    for step in range(12):
        some = chance.sample(people, chance.randint(1, 3))
        wanted = frozenset(chance.sample(codes, chance.randint(0, 3)))
        for user in some:
            give(user, *wanted)
        states.append({**states[-1], **{user.pk: wanted for user in some}})
        moments.append(clock())
        if step < 9 and chance.random() < 0.4:  # blocks of several moments; what follows the last is not summarised
            seal()
            summarise()

    for at, state in zip(moments, states, strict=True):
        for user in people:
            assert asof.held_at(user, at) == ids(*state[user.pk])
    for code in codes:
        holding = [{pk for pk, held in state.items() if code in held} for state in states]
        for _pair in range(2):
            first, last = sorted(chance.sample(range(len(moments)), 2))
            assert who(code, moments[first]) == sorted(holding[first])
            assert who(code, moments[first], moments[last], What.GAINED) == sorted(holding[last] - holding[first])
            assert who(code, moments[first], moments[last], What.LOST) == sorted(holding[first] - holding[last])


def test_a_row_counts_from_its_very_moment_on() -> None:
    people = [give(user, "meeting") for user in make_users(3)]
    seal()
    summarise()
    ats = list(AccessChange.objects.filter(user__in=people).order_by("id").values_list("at", flat=True))

    for number, at in enumerate(ats, start=1):  # at both ends of the block, and in it
        assert who("meeting", at) == [user.pk for user in people[:number]]
        assert who("meeting", at, ats[-1], What.GAINED) == [user.pk for user in people[number:]]
        assert who("meeting", ats[0] - timedelta(seconds=1), at, What.GAINED) == [user.pk for user in people[:number]]


def test_a_page_costs_the_same_for_few_and_many() -> None:
    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            asof.found(Question(product=product("meeting"), reader=User(role=Role.SUPPORT), since=clock()), size=60)
        return len(queries)

    make_holders(3, "meeting")
    few = cost()
    make_holders(50, "meeting")

    assert cost() == few


def test_a_product_that_few_hold_is_found_far_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asof, "RANGES", (1, 2))
    holders = [make_holders(4, "rescue")[3], make_holders(2, "meeting")[1]]

    assert who("rescue", clock())[-1] == holders[0].pk
    assert who("meeting", clock())[-1] == holders[1].pk
