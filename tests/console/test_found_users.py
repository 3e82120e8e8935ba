"""The orders of the list: whichever sort, filter and direction, its pages hold everybody once, in the order told naively."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin_console import found_users
from admin_console.found_users import Found, page_of
from admin_console.user_list import COLUMNS
from admin_console.user_order import Place, order_of
from tests.examples import tried
from tests.factories import NOW, give_all, ids, make_group, make_user, make_users
from users.models import GroupMembership, LastSeen, Role, User
from users.queries import (
    Status,
    UserFilter,
    scope_of,
    users_matching,
    visible_groups,
    with_status,
    with_subgroups,
)

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


class Organisation:
    """Sixty people of all kinds, and what each is sorted by."""

    def __init__(self) -> None:
        world = make_group("World")
        europe, asia = make_group("Europe", inside=world), make_group("Asia", inside=world)
        self.groups = [asia, europe, make_group("Benelux", inside=europe), make_group("Empty"), make_group("Zoo"), world]
        names = ["Zoë Ångström", "Ada Lovelace", "ada lovelace", "Jo O'Neil", "Öm Öm", "", "Zed"]
        users = make_users(60)
        for n, user in enumerate(users):
            user.first_name, _space, user.last_name = names[n % 7].partition(" ")
            user.role, user.language = list(Role)[n % 5 if n % 3 == 0 else 0], ["", "en", "fr"][n % 3]
        User.objects.bulk_update(users, ["first_name", "last_name", "role", "language"])
        GroupMembership.objects.bulk_create(
            GroupMembership(user=user, group=group)
            for n, user in enumerate(users)
            for place, group in enumerate(self.groups)
            if place != 3 and (n * 7) % 23 & (1 << place)
        )
        seen = [(user, NOW - (n % 9) * 8 * DAY) for n, user in enumerate(users) if n % 4]
        LastSeen.objects.bulk_create(LastSeen(user=user, first_at=at, at=at) for user, at in seen)
        for held in range(1, 5):
            give_all(users[held::6], *["meeting", "rescue", "connect", "central"][:held])
        admin, manager = make_user(role=Role.ADMIN), make_user(role=Role.MANAGER, manages=[europe, self.groups[4]])
        self.actors = [admin, manager]

    def sorted(self, actor: User, wanted: UserFilter, sort: str) -> list[int]:
        """Return the ids of those whom the filter finds, sorted naively."""
        users = users_matching(User.objects.filter(scope_of(actor)), wanted, now=NOW)
        people = list(with_status(users, now=NOW).select_related("product_access").prefetch_related("memberships"))
        groups = [pk for pk, _path in visible_groups(actor)]
        if wanted.group:
            asked = set(with_subgroups(wanted.group))
            groups = [pk for pk in groups if pk in asked]
        column, down = sort.removeprefix("-"), sort.startswith("-")

        def key(user: Any) -> Any:
            match column:
                case "name":
                    return user.name_key.encode()
                case "email":
                    return user.email.encode()
                case "role":
                    return Role.values.index(user.role)
                case "status":
                    return Status.values.index(user.status)
                case "products":
                    return len(user.product_access.products)
                case "seen":
                    return user.seen_at.timestamp() if user.seen_at else float("-inf")
            places = [groups.index(each.group_id) for each in user.memberships.all() if each.group_id in groups]
            return min(places, default=-1 if down else 1000)  # in no group comes last either way

        return [user.pk for user in sorted(people, key=lambda user: (key(user), user.pk), reverse=down)]


@pytest.fixture
def organisation() -> Organisation:
    return Organisation()


def pages(actor: User, wanted: UserFilter, sort: str, *, backwards: bool, size: int) -> Iterator[list[int]]:
    """Yield page after page, from the first on or from the last back, by the places that the pages before say."""
    groups = [pk for pk, _path in visible_groups(actor)]
    found, order = (
        Found(actor, wanted, NOW),
        order_of(sort, wanted, groups, ungrouped=actor.role != Role.MANAGER, most_products=12, now=NOW),
    )
    since: Place | None = None
    more = True
    while more:
        places, more = page_of(found, order, size=size, since=since, backwards=backwards)
        yield [place.id for place in places]
        if places:
            since = order.read(str(places[0 if backwards else -1]))


def some(values: Any) -> Any:
    return st.lists(st.sampled_from(list(values)), max_size=2, unique=True).map(tuple)


@pytest.mark.parametrize("sort", [f"{sign}{column}" for column in COLUMNS for sign in ("", "-")])
@given(data=st.data())
@tried(3)
def test_nobody_is_on_two_pages_or_on_none(
    organisation: Organisation, monkeypatch: pytest.MonkeyPatch, sort: str, data: st.DataObject
) -> None:
    # How far is walked before everybody is sorted must show in nothing but time.
    monkeypatch.setattr(found_users, "FAR", data.draw(st.sampled_from([1, 3, 20, 6000])))
    monkeypatch.setattr(found_users, "FAR_BY_ID", data.draw(st.sampled_from([1, 10, 6000])))
    monkeypatch.setattr(found_users, "FEW", data.draw(st.sampled_from([0, 0, 5])))
    monkeypatch.setattr(found_users, "FAR_SEARCHED", data.draw(st.sampled_from([1, 10, 6000])))
    monkeypatch.setattr(found_users, "SPARSE", data.draw(st.sampled_from([0, 0.3, 1])))
    monkeypatch.setattr(found_users, "MANY", data.draw(st.sampled_from([1, 2, 5])))
    actor = data.draw(st.sampled_from(organisation.actors))
    wanted = data.draw(
        st.builds(
            UserFilter,
            search=st.sampled_from(["", "", "zo", "ada l", "tests.example"]),
            group=some([0, *(pk for pk, _path in visible_groups(actor))]),
            role=some(Role.values),
            status=some(Status.values),
            product=some([0, *ids("meeting", "rescue", "central")]),
            language=some(["en", "fr"]),
        )
    )
    size = data.draw(st.sampled_from([2, 9, 50]))

    expected = organisation.sorted(actor, wanted, sort)
    forwards = list(pages(actor, wanted, sort, backwards=False, size=size))
    backwards = list(pages(actor, wanted, sort, backwards=True, size=size))

    assert [pk for page in forwards for pk in page] == expected
    assert [pk for page in reversed(backwards) for pk in page] == expected
    assert all(len(page) == size for page in forwards[:-1])
