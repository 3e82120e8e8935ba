"""Which users a filter and a search find, who may see whom, and who may do what."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import AnonymousUser
from django.http import QueryDict
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import tried
from tests.factories import NOW, give, ids, make_group, make_user
from users.models import Capability, Role, User
from users.queries import (
    InvalidFilter,
    Status,
    UserFilter,
    can,
    first_super_admin,
    grantable_roles,
    managers_of,
    managing_only,
    members_of,
    memberships_matching,
    scope_of,
    users_matching,
    visible_groups,
    visible_to,
    with_status,
    with_subgroups,
)

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


def found(wanted: UserFilter, users: Any = None) -> set[str]:
    """Return the first names of the users found."""
    everyone = User.objects.all() if users is None else users
    return set(users_matching(everyone, wanted, now=NOW).values_list("first_name", flat=True))


# The search


@pytest.fixture
def cast() -> None:
    make_user("Zoë Ångström", email="z.angstrom@north.example")
    make_user("José O'Brien-García", email="jose_ob@south.example")
    make_user("Anna 100%", email="anna@south.example")
    make_user("Ann\\a Backslash", email="backslash@south.example")
    make_user("Jürgen Weiß", email="weiss+news@south.example")


@pytest.mark.parametrize(
    ("search", "names"),
    [
        ("zoe", {"Zoë"}),
        ("ZOË", {"Zoë"}),
        ("angstrom", {"Zoë"}),
        ("zoe angstrom", {"Zoë"}),
        ("ë ÅNG", {"Zoë"}),
        ("north.example", {"Zoë"}),
        ("south.ex", {"José", "Anna", "Ann\\a", "Jürgen"}),
        ("o'brien", {"José"}),
        ("brien-garcia", {"José"}),
        ("weiss", {"Jürgen"}),
        ("Weiß", {"Jürgen"}),
        ("+news", {"Jürgen"}),
        ("%", {"Anna"}),
        ("0%", set()),  # fewer than three letters are found where a word begins
        ("10", {"Anna"}),
        ("s.", set()),
        ("z.", {"Zoë"}),
        ("_", {"José"}),
        ("e_o", {"José"}),
        ("\\", {"Ann\\a"}),
        ("n\\a", {"Ann\\a"}),
        ('"', set()),
        ("'; DROP TABLE users_user; --", set()),
        ("z", {"Zoë"}),
        ("zo", {"Zoë"}),
        ("nobody here", set()),
        ("angstrom zoe", set()),
    ],
)
def test_search_finds_a_part_of_name_or_email(cast: None, search: str, names: set[str]) -> None:
    assert found(UserFilter(search=search)) == names


def test_an_empty_search_finds_everyone(cast: None) -> None:
    assert len(found(UserFilter(search=""))) == 5


@pytest.mark.parametrize(
    ("typed", "search"), [("  Zoë \t Å ", "Zoë Å"), ("a\x00b", "ab"), ("\x00", ""), ("x" * 500, "x" * 200), ("   ", "")]
)
def test_what_is_typed_is_tidied(typed: str, search: str) -> None:
    assert UserFilter.from_query({"search": [typed]}).search == search


def test_a_name_and_an_email_are_not_searched_as_one_text(cast: None) -> None:
    assert found(UserFilter(search="angstromz.")) == set()


# The filters


def test_a_group_finds_the_members_of_its_subgroups() -> None:
    world = make_group()
    europe = make_group(inside=world)
    benelux = make_group(inside=europe)
    make_user("Grace", groups=[world])
    make_user("Ada", groups=[benelux, europe])
    make_user("Edsger", groups=[make_group()])

    assert found(UserFilter(group=(world.pk,))) == {"Grace", "Ada"}
    assert found(UserFilter(group=(europe.pk,))) == {"Ada"}
    assert users_matching(User.objects.all(), UserFilter(group=(europe.pk,)), now=NOW).count() == 1


def test_no_group_is_a_value_like_any_other() -> None:
    sales = make_group()
    make_user("Grace", groups=[sales])
    make_user("Ada")
    make_user("Edsger", groups=[make_group()])

    assert found(UserFilter(group=(0,))) == {"Ada"}
    assert found(UserFilter(group=(0, sales.pk))) == {"Ada", "Grace"}


def test_a_group_that_is_gone_finds_nobody() -> None:
    make_user("Grace")
    assert found(UserFilter(group=(999,))) == set()


def test_a_product_finds_its_holders_and_no_product_those_without() -> None:
    give(make_user("Grace"), "meeting", "rescue")
    give(make_user("Ada"), "rescue")
    make_user("Edsger")
    (meeting,), (rescue,) = ids("meeting"), ids("rescue")

    assert found(UserFilter(product=(meeting,))) == {"Grace"}
    assert found(UserFilter(product=(rescue,))) == {"Grace", "Ada"}
    assert found(UserFilter(product=(0,))) == {"Edsger"}
    assert found(UserFilter(product=(0, meeting))) == {"Edsger", "Grace"}


def test_role_and_language() -> None:
    make_user("Grace", role=Role.ADMIN, language="en")
    make_user("Ada", role=Role.SUPPORT, language="fr")
    make_user("Edsger", language="nl")

    assert found(UserFilter(role=(Role.ADMIN, Role.SUPPORT))) == {"Grace", "Ada"}
    assert found(UserFilter(language=("nl", "fr"))) == {"Ada", "Edsger"}


def test_all_categories_and_the_search_must_hold() -> None:
    sales = make_group()
    give(make_user("Grace Hopper", role=Role.ADMIN, groups=[sales], language="en", seen=DAY), "meeting")
    give(make_user("Grace Kelly", groups=[sales], language="en", seen=DAY), "meeting")
    give(make_user("Ada Hopper", role=Role.ADMIN, groups=[sales], language="en"), "meeting")
    (meeting,) = ids("meeting")

    wanted = UserFilter(
        search="HOPPER", group=(sales.pk,), role=(Role.ADMIN,), status=(Status.ACTIVE,), product=(meeting,), language=("en",)
    )
    assert found(wanted) == {"Grace"}


# The status


@pytest.mark.parametrize(
    ("products", "seen", "status"),
    [
        ([], None, Status.SUSPENDED),
        ([], DAY, Status.SUSPENDED),
        ([], 400 * DAY, Status.SUSPENDED),
        (["meeting"], None, Status.INVITED),
        (["meeting"], 0 * DAY, Status.ACTIVE),
        (["meeting"], 30 * DAY, Status.ACTIVE),
        (["meeting"], 30 * DAY + timedelta(microseconds=1), Status.INACTIVE),
        (["meeting"], 400 * DAY, Status.INACTIVE),
    ],
)
def test_status_follows_from_products_and_the_clock(products: list[str], seen: timedelta | None, status: Status) -> None:
    user = give(make_user("Grace", seen=seen), *products)

    assert with_status(User.objects.all(), now=NOW).get(pk=user.pk).status == status  # type: ignore[attr-defined]
    for each in Status:
        assert (found(UserFilter(status=(each,))) == {"Grace"}) == (each == status)


def test_status_changes_with_the_clock_alone() -> None:
    give(make_user("Grace", seen=29 * DAY), "meeting")
    wanted = UserFilter(status=(Status.INACTIVE,))

    assert not users_matching(User.objects.all(), wanted, now=NOW).exists()
    assert users_matching(User.objects.all(), wanted, now=NOW + 2 * DAY).exists()


@pytest.mark.parametrize(("period", "status"), [(30, Status.INACTIVE), (60, Status.ACTIVE), (90, Status.ACTIVE)])
def test_the_inactivity_period_is_a_setting(settings: Any, period: int, status: Status) -> None:
    settings.INACTIVE_AFTER_DAYS = period
    give(make_user("Grace", seen=45 * DAY), "meeting")
    assert found(UserFilter(status=(status,))) == {"Grace"}


# The written form of a filter


def test_a_filter_is_written_in_the_query_and_read_back() -> None:
    wanted = UserFilter(
        search="zoë & co", group=(3, 0), role=("ADMIN",), status=("ACTIVE", "INVITED"), product=(1,), language=("fr",)
    )

    assert UserFilter.from_query(QueryDict(urlencode(wanted.as_dict(), doseq=True))) == wanted
    assert UserFilter.from_query(wanted.as_dict()) == wanted
    assert bool(wanted)
    assert not UserFilter.from_query(QueryDict("group=&search="))


def test_values_are_taken_away_one_by_one_and_each_counts_once() -> None:
    wanted = UserFilter.from_query(QueryDict("search=zoë&role=ADMIN&role=SUPPORT&role=ADMIN&group=3"))

    assert (wanted.role, wanted.group) == (("ADMIN", "SUPPORT"), (3,))
    assert wanted.without("role", "ADMIN").without("group", "3").without("search", "") == UserFilter(role=("SUPPORT",))


@pytest.mark.parametrize(
    "query", ["role=BOSS", "status=active", "language=xx", "group=-1", "group=1.5", "group=١", "product=x", "group=12345678901"]
)
def test_a_value_that_cannot_be_is_refused(query: str) -> None:
    with pytest.raises(InvalidFilter):
        UserFilter.from_query(QueryDict(query))


# Who may what


MATRIX = {
    Role.MEMBER: set(),
    Role.MANAGER: {Capability.VIEW_USERS, Capability.ASSIGN_PRODUCTS},
    Role.ADMIN: {
        Capability.VIEW_USERS,
        Capability.MANAGE_USERS,
        Capability.ASSIGN_PRODUCTS,
        Capability.ASSIGN_RESTRICTED,
        Capability.VIEW_CHANGES,
        Capability.VIEW_NOTIFICATIONS,
    },
    Role.SUPER_ADMIN: set(Capability),
    Role.SUPPORT: {
        Capability.VIEW_USERS,
        Capability.VIEW_CHANGES,
        Capability.VIEW_NOTIFICATIONS,
        Capability.VIEW_EVIDENCE,
        Capability.EXPORT_EVIDENCE,
    },
}


@pytest.mark.parametrize("role", Role)
def test_what_each_role_may(role: Role) -> None:
    assert {capability for capability in Capability if can(User(role=role), capability)} == MATRIX[role]


@pytest.mark.parametrize("capability", Capability)
def test_a_deactivated_or_anonymous_actor_may_nothing(capability: Capability) -> None:
    assert not can(User(role=Role.SUPER_ADMIN, is_active=False), capability)
    assert not can(AnonymousUser(), capability)
    assert not can(None, capability)
    assert not can(User(role="EMPEROR"), capability)


@pytest.mark.parametrize("role", Role)
def test_only_a_super_admin_gives_roles(role: Role) -> None:
    assert grantable_roles(User(role=role)) == (list(Role) if role == Role.SUPER_ADMIN else [])


@pytest.mark.parametrize("role", Role)
def test_django_admin_is_a_reading_room_for_those_who_may_read_evidence(role: Role) -> None:
    user = User(role=role)
    may = Capability.VIEW_EVIDENCE in MATRIX[role]

    assert (user.is_staff, user.has_module_perms("products"), user.has_perm("products.view_accesschange")) == (may, may, may)
    for verb in ("add", "change", "delete"):
        assert not user.has_perm(f"products.{verb}_accesschange")


@pytest.mark.parametrize("role", [Role.ADMIN, Role.SUPER_ADMIN, Role.SUPPORT])
def test_admins_and_support_see_everyone(role: Role) -> None:
    make_user("Grace", groups=[make_group()])
    actor = make_user("Ada", role=role)
    assert found(UserFilter(), visible_to(actor)) == {"Grace", "Ada"}


def test_a_member_sees_nobody() -> None:
    actor = make_user("Ada", groups=[make_group("Sales")])
    assert not visible_to(actor).exists()
    assert visible_groups(actor) == []


def test_an_anonymous_or_deactivated_actor_sees_nobody() -> None:
    make_user("Grace")
    assert not visible_to(AnonymousUser()).exists()
    assert not visible_to(make_user("Ada", role=Role.SUPER_ADMIN, is_active=False)).exists()


def test_a_manager_sees_the_groups_they_manage_subgroups_included() -> None:
    europe = make_group("Europe")
    benelux = make_group("Benelux", inside=europe)
    make_user("Grace", groups=[europe])
    make_user("Ada", groups=[make_group("Ghent", inside=benelux), benelux])
    make_user("Edsger", groups=[make_group("Asia")])
    make_user("Barbara")
    actor = make_user("Margaret", role=Role.MANAGER, manages=[europe])

    assert found(UserFilter(), visible_to(actor)) == {"Grace", "Ada"}
    assert visible_to(actor).count() == 2
    assert [path for _id, path in visible_groups(actor)] == ["Europe", "Europe / Benelux", "Europe / Benelux / Ghent"]


def test_a_manager_of_a_subgroup_does_not_see_upwards() -> None:
    europe = make_group("Europe")
    benelux = make_group("Benelux", inside=europe)
    make_user("Grace", groups=[europe])
    make_user("Ada", groups=[benelux])
    actor = make_user("Margaret", role=Role.MANAGER, manages=[benelux])

    assert found(UserFilter(group=(europe.pk,)), visible_to(actor)) == {"Ada"}
    assert [path for _id, path in visible_groups(actor)] == ["Europe / Benelux"]


def test_a_manager_of_nothing_sees_nobody() -> None:
    sales = make_group()
    make_user("Grace", groups=[sales])
    actor = make_user("Margaret", role=Role.MANAGER, groups=[sales])

    assert not visible_to(actor).exists()
    assert visible_groups(actor) == []


def test_groups_of_a_member_do_not_give_a_former_manager_a_scope() -> None:
    sales = make_group()
    make_user("Grace", groups=[sales])
    actor = make_user("Margaret", role=Role.MEMBER, manages=[sales])
    assert not visible_to(actor).exists()


def test_the_first_super_admin_is_the_one_who_was_there_first_and_can_sign_in() -> None:
    assert first_super_admin() is None
    make_user("Grace", role=Role.SUPER_ADMIN, is_active=False)
    make_user("Alan", role=Role.SUPER_ADMIN, password="!invited")
    assert first_super_admin() is None
    ada = make_user("Ada", role=Role.SUPER_ADMIN)
    make_user("Edsger", role=Role.SUPER_ADMIN)
    assert first_super_admin() == ada


# The scope, whatever is asked


@pytest.fixture
def organisation() -> Callable[[UserFilter], None]:
    """Make an organisation; return a check that a filter stays inside of the scope of each of its actors."""
    groups = [make_group() for _n in range(2)]
    groups += [make_group(inside=groups[0]), make_group(inside=groups[1])]
    for n in range(24):
        user = make_user(
            f"{'Zoë' if n % 2 else 'José'} {'A_%' if n % 3 else 'O´Brien'}{n}",
            groups=[group for place, group in enumerate(groups) if n & (1 << place)],
            role=list(Role)[n % 5],
            language=["", "en", "fr"][n % 3],
            seen=None if n % 4 == 0 else n * 3 * DAY,
        )
        give(user, *["meeting", "rescue", "connect"][: n % 4])
    actors = [make_user(role=role) for role in Role]
    actors += [make_user(role=Role.MANAGER, manages=groups[:1]), make_user(role=Role.MANAGER, manages=groups[2:])]
    scopes = [(actor, set(visible_to(actor).values_list("id", flat=True))) for actor in actors]

    def check(wanted: UserFilter) -> None:
        everywhere = set(users_matching(User.objects.all(), wanted, now=NOW).values_list("id", flat=True))
        for actor, scope in scopes:
            matching = users_matching(visible_to(actor), wanted, now=NOW)
            rows = list(matching.values_list("id", flat=True))
            assert len(rows) == matching.count() == len(set(rows))
            assert set(rows) == everywhere & scope

    group_ids = [group.pk for group in groups]
    check.groups = group_ids  # type: ignore[attr-defined]
    return check


@given(data=st.data())
@tried(15)
def test_no_filter_and_no_search_leaves_the_scope(organisation: Any, data: st.DataObject) -> None:
    def some(values: Any) -> Any:
        return st.lists(st.sampled_from(list(values)), max_size=3, unique=True).map(tuple)

    wanted = data.draw(
        st.builds(
            UserFilter,
            search=st.one_of(st.sampled_from(["", "zoe", "a_%", "o´", "JOSÉ a", "tests.example"]), st.text(max_size=4)).map(
                lambda text: UserFilter.from_query({"search": [text.encode(errors="ignore").decode()]}).search
            ),
            group=some([0, 999, *organisation.groups]),
            role=some(Role.values),
            status=some(Status.values),
            product=some([0, *ids("meeting", "rescue", "connect")]),
            language=some(["en", "fr", "nl"]),
        )
    )
    organisation(wanted)


# Few and many cost the same


@pytest.mark.parametrize("size", [3, 30])
def test_the_list_of_groups_costs_the_same_for_few_and_many(django_assert_num_queries: Any, size: int) -> None:
    above = None
    for _n in range(size):
        above = make_group(inside=above)
    admin = make_user(role=Role.ADMIN)
    manager = make_user(role=Role.MANAGER, manages=[above])  # type: ignore[list-item]

    with django_assert_num_queries(1):
        assert len(visible_groups(admin)) == size
    with django_assert_num_queries(3):  # managed groups, their subgroups, all groups for the paths
        assert len(visible_groups(manager)) == 1


@pytest.mark.parametrize("size", [3, 30])
def test_finding_users_costs_the_same_for_few_and_many(django_assert_num_queries: Any, size: int) -> None:
    sales = make_group()
    for n in range(size):
        give(make_user(f"Zoë {n}", groups=[sales], seen=DAY), "meeting")
    manager = make_user(role=Role.MANAGER, manages=[sales])
    wanted = UserFilter(search="zoe", group=(sales.pk,), status=(Status.ACTIVE,), product=tuple(ids("meeting")))

    with django_assert_num_queries(4):  # managed groups, their subgroups, the filter's subgroups, the users
        assert len(with_status(users_matching(visible_to(manager), wanted, now=NOW), now=NOW)) == size


def test_subgroups_of_nothing_are_nothing() -> None:
    assert with_subgroups([]) == []


def test_members_are_counted_with_those_of_subgroups_and_each_once(django_assert_num_queries: Any) -> None:
    world = make_group()
    europe, asia, empty = make_group(inside=world), make_group(inside=world), make_group()
    benelux = make_group(inside=europe)
    for groups in ([benelux], [benelux, europe], [world, asia, benelux], [asia], []):
        make_user(groups=groups)

    with django_assert_num_queries(1):
        counts = members_of([world.pk, europe.pk, asia.pk, benelux.pk, empty.pk])

    assert counts == {world.pk: 4, europe.pk: 3, asia.pk: 2, benelux.pk: 3}
    for group, count in counts.items():
        assert users_matching(User.objects.all(), UserFilter(group=(group,)), now=NOW).count() == count
    assert members_of([asia.pk]) == {asia.pk: 2}


def test_managers_of_a_group_are_managers_by_name() -> None:
    sales, support = make_group(), make_group()
    zoe = make_user("Zoe", role=Role.MANAGER, manages=[sales])
    eva = make_user("Éva", role=Role.MANAGER, manages=[sales, support])
    make_user("Ada", role=Role.ADMIN, manages=[sales])

    assert managers_of([sales.pk, support.pk]) == {sales.pk: [eva, zoe], support.pk: [eva]}
    assert (list(managing_only(sales)), list(managing_only(support))) == ([zoe], [])


@pytest.mark.parametrize("role", [Role.ADMIN, Role.MANAGER, Role.MEMBER])
@pytest.mark.parametrize("group", [(), ("Sales",), ("Benelux",), ("Works council", "Sales")])
def test_a_count_finds_whom_the_list_finds(role: str, group: tuple[str, ...]) -> None:
    sales, council = make_group("Sales"), make_group("Works council")
    benelux = make_group("Benelux", inside=sales)
    ids_of = {"Sales": sales.pk, "Benelux": benelux.pk, "Works council": council.pk}
    for n, groups in enumerate([[sales], [benelux], [sales, council, benelux], [council], []]):
        make_user(f"U{n}", groups=groups)
    actor = make_user("Ada", role=role, manages=[benelux, council] if role == Role.MANAGER else [])
    wanted = UserFilter(group=tuple(ids_of[name] for name in group))

    listed = users_matching(visible_to(actor), wanted, now=NOW)
    memberships = memberships_matching(actor, wanted)
    one_by_one = users_matching(User.objects.filter(scope_of(actor, each=True)), wanted, now=NOW, each=True)

    assert set(one_by_one) == set(listed)
    if memberships is not None:
        assert set(memberships.values_list("user", flat=True)) == set(listed.values_list("id", flat=True))
    assert (memberships is None) == (role == Role.MEMBER or (role == Role.ADMIN and not group))
