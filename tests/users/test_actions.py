"""Users are added, given roles, put in groups, and seen."""

from datetime import timedelta
from typing import Any

import pytest
from allauth.account.auth_backends import AuthenticationBackend
from allauth.account.forms import default_token_generator
from allauth.account.models import EmailAddress
from django.contrib.auth import authenticate, get_user
from django.test import Client

from tests.factories import NOW, make_group, make_user
from users import actions
from users.invitations import InvitationOver, invited_by, token_of
from users.models import ERASED_AT, Action, AdminAction, LastSeen, Role, User, UserGroup

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"


# The first Super admin


def test_an_empty_organisation_gets_its_first_super_admin() -> None:
    assert actions.ensure_first_super_admin(email="  Grace@Tests.Example ", password=PASSWORD, now=NOW)

    grace = User.objects.get()
    assert (grace.email, grace.role, grace.is_active, grace.created_at) == ("grace@tests.example", Role.SUPER_ADMIN, True, NOW)
    assert grace.check_password(PASSWORD)


def test_an_organisation_with_a_super_admin_keeps_theirs() -> None:
    grace = make_user(role=Role.SUPER_ADMIN)
    assert not actions.ensure_first_super_admin(email="ada@tests.example", password=PASSWORD, now=NOW)
    assert list(User.objects.all()) == [grace]


@pytest.mark.parametrize("password", ["!never chosen", ""])
def test_a_super_admin_who_never_chose_a_password_lets_nobody_in(password: str) -> None:
    make_user(role=Role.SUPER_ADMIN, password=password)
    assert actions.ensure_first_super_admin(email="grace@tests.example", password=PASSWORD, now=NOW)
    assert User.objects.get(email="grace@tests.example").check_password(PASSWORD)


def test_a_user_of_that_email_becomes_the_super_admin() -> None:
    make_user("Grace", email="grace@tests.example", is_active=False)
    make_user(role=Role.SUPER_ADMIN, is_active=False)
    assert actions.ensure_first_super_admin(email="GRACE@tests.example", password=PASSWORD, now=NOW)
    assert User.objects.get(role=Role.SUPER_ADMIN, is_active=True).first_name == "Grace"


def test_an_email_that_is_none_makes_nobody() -> None:
    with pytest.raises(actions.InvalidUser):
        actions.ensure_first_super_admin(email="root", password=PASSWORD, now=NOW)
    assert not User.objects.exists()


# Adding


@pytest.mark.parametrize(("typed", "stored"), [("Zoe\u0308", "Zoë"), ("می\u200cگل", "می\u200cگل")])
def test_a_name_is_stored_as_it_is_looked_for(typed: str, stored: str) -> None:
    user = actions.add_user(actor=make_user(role=Role.ADMIN), email="z@x.example", first_name=typed, now=NOW)
    assert user.first_name == stored


def test_a_user_is_added_with_a_tidy_email_and_name() -> None:
    sales = make_group()
    user = actions.add_user(
        actor=make_user(role=Role.ADMIN),
        email=" Zoe.Not@X.example ",
        first_name="  Zoë ",
        last_name="van\t den  Berg",
        language="nl",
        time_zone="Europe/Brussels",
        groups=[sales],
        now=NOW,
    )
    user.refresh_from_db()

    assert (user.email, user.name, user.role) == ("zoe.not@x.example", "Zoë van den Berg", Role.MEMBER)
    assert not user.has_usable_password()
    assert list(user.groups.all()) == [sales]
    assert user.product_access.products == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", ""),
        ("email", "nobody"),
        ("email", "a b@x.example"),
        ("email", "a@b"),
        ("email", "a@b@x.example"),
        ("email", "a\x00@x.example"),
        ("email", "a@x.example\nBcc: b@x.example"),
        ("email", ".a@x.example"),
        ("email", "zoë@x.example"),
        ("email", "a" * 65 + "@x.example"),
        ("email", "a@" + "b" * 250 + ".example"),
        ("email", '"<script>"@x.example'),
        ("email", f"ghost{ERASED_AT}"),
        ("first_name", "x" * 65),
        ("first_name", "Zo\x00ë"),
        ("last_name", "Ber\u200bg"),
        ("language", "tlh"),
        ("time_zone", "Mars/Olympus"),
    ],
)
def test_a_user_who_cannot_be_is_refused(field: str, value: str) -> None:
    fields: dict[str, Any] = {"email": "a@x.example", field: value}
    with pytest.raises(actions.InvalidUser) as refused:
        actions.add_user(actor=make_user(role=Role.ADMIN), now=NOW, **fields)
    assert refused.value.field == field
    assert str(refused.value)


def test_an_email_is_taken_whatever_its_capitals() -> None:
    make_user(email="grace@tests.example")
    with pytest.raises(actions.InvalidUser, match="already"):
        actions.add_user(actor=make_user(role=Role.ADMIN), email="GRACE@tests.EXAMPLE", now=NOW)


@pytest.mark.parametrize("role", [Role.MEMBER, Role.MANAGER, Role.SUPPORT])
def test_only_those_who_manage_users_add_them(role: Role) -> None:
    with pytest.raises(actions.NotAllowed):
        actions.add_user(actor=make_user(role=role), email="a@x.example", now=NOW)


@pytest.mark.parametrize("role", [role for role in Role if role != Role.MEMBER])
def test_an_admin_adds_members_only(role: Role) -> None:
    with pytest.raises(actions.NotAllowed):
        actions.add_user(actor=make_user(role=Role.ADMIN), email="a@x.example", role=role, now=NOW)


# Editing


def edited(actor: User, user: User, **fields: str) -> User:
    """Return the user as they are after the actor edited what is given."""
    called = {"first_name": user.first_name, "last_name": user.last_name, "email": user.email}
    actions.edit_user(actor=actor, user=user, **{**called, **fields})
    return User.objects.get(pk=user.pk)


def test_a_name_and_an_email_are_corrected_and_found_and_the_record_tells_both() -> None:
    ada, user = make_user(role=Role.ADMIN), make_user("Jorg Muller", email="jmuler@tests.example")

    user = edited(ada, user, first_name=" Jörg ", last_name="Müller  Weiß", email=" J.Mueller@Tests.example")

    assert (user.name, user.email) == ("Jörg Müller Weiß", "j.mueller@tests.example")
    assert (user.name_key, user.search_key) == ("jorg muller weiss", "jorg muller weiss\nj.mueller@tests.example")
    row = AdminAction.objects.get(action=Action.USER_EDITED)
    assert (row.actor, row.subject_id, row.before, row.after) == (
        ada,
        user.pk,
        None,
        {"changed": ["email", "first_name", "last_name"]},
    )
    assert row.words == {
        "before": {"email": "jmuler@tests.example", "first_name": "Jorg", "last_name": "Muller"},
        "after": {"email": "j.mueller@tests.example", "first_name": "Jörg", "last_name": "Müller Weiß"},
    }


def test_who_is_called_so_already_stays_as_they_are_and_nothing_is_recorded() -> None:
    edited(make_user(role=Role.ADMIN), make_user("Grace Hopper", email="grace@tests.example"), email="GRACE@tests.example ")

    assert not AdminAction.objects.exists()


@pytest.mark.parametrize(("field", "value"), [("email", "nobody"), ("first_name", "x" * 65), ("last_name", "Ber\u202eg")])
def test_nobody_is_edited_into_a_user_who_cannot_be(field: str, value: str) -> None:
    user = make_user("Grace Hopper")
    with pytest.raises(actions.InvalidUser) as refused:
        edited(make_user(role=Role.ADMIN), user, **{field: value})
    assert refused.value.field == field


def test_nobody_gets_the_email_of_another_whatever_its_capitals() -> None:
    make_user(email="grace@tests.example")
    with pytest.raises(actions.InvalidUser, match="already") as refused:
        edited(make_user(role=Role.ADMIN), make_user(), email="Grace@Tests.example")
    assert refused.value.field == "email"


@pytest.mark.parametrize("role", [Role.MEMBER, Role.MANAGER, Role.SUPPORT])
def test_only_those_who_manage_users_edit_them(role: Role) -> None:
    with pytest.raises(actions.NotAllowed):
        edited(make_user(role=role), make_user(), first_name="Grace")


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("actor", [Role.ADMIN, Role.SUPER_ADMIN])
@pytest.mark.parametrize(("field", "value"), [("first_name", "Grace"), ("last_name", "Hopper"), ("email", "mine@tests.example")])
def test_nobody_gets_at_a_role_that_they_may_not_give_nor_at_its_name(actor: Role, role: Role, field: str, value: str) -> None:
    user = make_user("Sue Super", email="sue@tests.example", role=role)
    allowed = actor == Role.SUPER_ADMIN or role == Role.MEMBER
    try:
        edited(make_user(role=actor), user, **{field: value})
    except actions.NotAllowed:
        assert not allowed
    user.refresh_from_db()
    assert (getattr(user, field) == value) == allowed


def test_an_admin_corrects_their_own_name_and_not_their_own_email() -> None:
    ada = make_user("Ada Lovlace", role=Role.ADMIN)

    assert edited(ada, ada, last_name="Lovelace").name == "Ada Lovelace"
    with pytest.raises(actions.NotAllowed, match="ask a Super admin"):
        edited(ada, ada, email="mine@tests.example")


def test_whoever_corrects_their_own_email_keeps_their_password() -> None:
    sue = make_user(email="old@tests.example", role=Role.SUPER_ADMIN)  # and the last one
    sue.set_password(PASSWORD)
    sue.save()

    assert authenticate(email="new@tests.example", password=PASSWORD) is None  # type: ignore[arg-type]
    assert edited(sue, sue, email="new@tests.example") == authenticate(email="new@tests.example", password=PASSWORD)  # type: ignore[arg-type]


def test_a_password_chosen_through_another_mailbox_waits_for_no_promotion() -> None:
    ada, user = make_user(role=Role.ADMIN), make_user(email="grace@tests.example")
    user = edited(ada, user, email="adas@tests.example")
    user.set_password(PASSWORD)  # by a link that Ada asked for
    user.save()

    user = edited(ada, user, email="grace@tests.example")
    actions.change_role(actor=make_user(role=Role.SUPER_ADMIN), user=user, role=Role.ADMIN)

    assert authenticate(email="grace@tests.example", password=PASSWORD) is None  # type: ignore[arg-type]


def test_what_an_email_opened_stays_over_when_the_user_gets_it_back() -> None:
    ada, user = make_user(role=Role.ADMIN), make_user(email="grace@tests.example", password="!never chosen")
    invited, reset, session = token_of(user, invited_at=NOW), default_token_generator.make_token(user), Client()
    session.force_login(user)

    user = edited(ada, edited(ada, user, email="other@tests.example"), email="grace@tests.example")

    assert not get_user(session).is_authenticated
    assert not default_token_generator.check_token(user, reset)
    with pytest.raises(InvitationOver):
        invited_by(invited, now=NOW)
    assert invited_by(token_of(user, invited_at=NOW), now=NOW) == user  # invited afresh


def test_the_last_super_admin_who_can_sign_in_keeps_the_email_with_the_password() -> None:
    sue = make_user(email="sue@tests.example", role=Role.SUPER_ADMIN)
    other = make_user(role=Role.SUPER_ADMIN, password="!lost meanwhile")

    with pytest.raises(actions.LastSuperAdmin):
        edited(other, sue, email="new@tests.example")

    sue.refresh_from_db()
    assert (sue.email, sue.has_usable_password()) == ("sue@tests.example", True)


def test_an_email_opens_nothing_any_more_once_the_user_has_another_nor_does_the_password() -> None:
    sue, user = make_user(role=Role.SUPER_ADMIN), make_user(email="old@tests.example", role=Role.SUPPORT)
    user.set_password(PASSWORD)
    user.save()
    invited, reset, session = token_of(user, invited_at=NOW), default_token_generator.make_token(user), Client()
    session.force_login(user)
    EmailAddress.objects.create(user=user, email="old@tests.example", primary=True)  # as allauth made one of earlier versions
    assert (invited_by(invited, now=NOW), default_token_generator.check_token(user, reset)) == (user, True)

    user = edited(sue, user, first_name="Grace")
    assert get_user(session) == user
    user = edited(sue, user, email="new@tests.example")

    assert not get_user(session).is_authenticated
    assert not default_token_generator.check_token(user, reset)
    with pytest.raises(InvitationOver):
        invited_by(invited, now=NOW)
    for email in ("old@tests.example", "new@tests.example"):
        assert authenticate(email=email, password=PASSWORD) is None  # type: ignore[arg-type]


def test_nobody_who_was_erased_is_edited() -> None:
    with pytest.raises(actions.NotAllowed, match="erased already"):
        edited(make_user(role=Role.SUPER_ADMIN), make_user(email=f"7{ERASED_AT}"), email="new@tests.example")


# Roles


@pytest.mark.parametrize("actor", Role)
@pytest.mark.parametrize("before", Role)
@pytest.mark.parametrize("after", Role)
def test_only_a_super_admin_changes_roles(actor: Role, before: Role, after: Role) -> None:
    make_user(role=Role.SUPER_ADMIN)
    user = make_user(role=before)
    allowed = actor == Role.SUPER_ADMIN
    try:
        actions.change_role(actor=make_user(role=actor), user=user, role=after)
    except actions.NotAllowed:
        assert not allowed
    else:
        assert allowed
    user.refresh_from_db()
    assert user.role == (after if allowed else before)


def test_the_last_super_admin_keeps_the_role() -> None:
    grace = make_user(role=Role.SUPER_ADMIN)
    with pytest.raises(actions.LastSuperAdmin):
        actions.change_role(actor=grace, user=grace, role=Role.ADMIN)
    grace.refresh_from_db()
    assert grace.role == Role.SUPER_ADMIN


def test_a_super_admin_may_step_down_when_there_is_another() -> None:
    grace = make_user(role=Role.SUPER_ADMIN)
    make_user(role=Role.SUPER_ADMIN)
    actions.change_role(actor=grace, user=grace, role=Role.MEMBER)
    grace.refresh_from_db()
    assert grace.role == Role.MEMBER


def test_a_role_that_does_not_exist_cannot_be_given() -> None:
    with pytest.raises(actions.NotAllowed):
        actions.change_role(actor=make_user(role=Role.SUPER_ADMIN), user=make_user(), role="EMPEROR")


def test_a_deactivated_super_admin_gives_nothing() -> None:
    with pytest.raises(actions.NotAllowed):
        actions.change_role(actor=make_user(role=Role.SUPER_ADMIN, is_active=False), user=make_user(), role=Role.ADMIN)


# Groups


def test_a_user_is_put_in_groups_and_out_of_others() -> None:
    sales, support, people = make_group(), make_group(), make_group()
    grace = make_user(groups=[sales, support])
    admin = make_user(role=Role.ADMIN)
    for _twice in range(2):
        actions.put_in_groups(actor=admin, user=grace, groups=[support, people])
        assert set(grace.groups.all()) == {support, people}
    assert AdminAction.objects.count() == 1
    with pytest.raises(actions.NotAllowed):
        actions.put_in_groups(actor=make_user(role=Role.MANAGER), user=grace, groups=[])


def test_only_a_super_admin_says_who_manages_what() -> None:
    sales = make_group()
    manager = make_user(role=Role.MANAGER)
    for changes in (True, False):
        assert actions.let_manage(actor=make_user(role=Role.SUPER_ADMIN), user=manager, groups=[sales]) is changes
    assert list(manager.managed_groups.all()) == [sales]
    assert AdminAction.objects.count() == 1
    with pytest.raises(actions.NotAllowed):
        actions.let_manage(actor=make_user(role=Role.ADMIN), user=manager, groups=[sales])


def test_a_manager_manages_a_group_at_least_and_nobody_else_any() -> None:
    sue, sales = make_user(role=Role.SUPER_ADMIN), make_group()
    manager, former = make_user(role=Role.MANAGER), make_user(role=Role.ADMIN, manages=[sales])
    with pytest.raises(actions.InvalidUser, match="sees nobody"):
        actions.let_manage(actor=sue, user=manager, groups=[])
    actions.let_manage(actor=sue, user=former, groups=[sales])
    assert not former.managed_groups.exists()


def test_groups_are_added_inside_each_other() -> None:
    admin = make_user(role=Role.ADMIN)
    sales = actions.add_group(actor=admin, name="  Sales ")
    benelux = actions.add_group(actor=admin, name="Benelux", parent=sales)
    assert (sales.name, benelux.parent) == ("Sales", sales)


@pytest.mark.parametrize("name", ["", "  ", "a/b", "a;b", "x" * 121, "a\x00b"])
def test_a_group_cannot_be_called_anything(name: str) -> None:
    with pytest.raises(actions.InvalidGroup):
        actions.add_group(actor=make_user(role=Role.ADMIN), name=name)


def test_a_groups_name_is_taken_whatever_its_capitals() -> None:
    make_group("Sales")
    with pytest.raises(actions.GroupNameTaken, match="SALES"):
        actions.add_group(actor=make_user(role=Role.ADMIN), name="SALES")


def test_what_looks_like_a_groups_name_is_that_name() -> None:
    admin = make_user(role=Role.ADMIN)
    assert actions.add_group(actor=admin, name="Zu\u0308rich").name == "Zürich"
    with pytest.raises(actions.GroupNameTaken):
        actions.add_group(actor=admin, name="Zu\u0308rich")


def test_a_group_moves_but_not_into_itself() -> None:
    admin = make_user(role=Role.ADMIN)
    world = make_group("World")
    europe = make_group("Europe", inside=world)
    with pytest.raises(actions.GroupCycle, match="World"):
        actions.move_group(actor=admin, group=world, parent=europe)
    actions.move_group(actor=admin, group=europe, parent=None)
    actions.move_group(actor=admin, group=world, parent=europe)
    assert UserGroup.objects.get(name="World").parent == europe


def test_a_group_is_renamed_and_moved_at_once_or_not_at_all() -> None:
    admin, world = make_user(role=Role.ADMIN), make_group("World")
    europe = make_group("Europe", inside=world)
    with pytest.raises(actions.GroupCycle):
        actions.edit_group(actor=admin, group=world, name="Everywhere", parent=europe)
    with pytest.raises(actions.GroupNameTaken):
        actions.edit_group(actor=admin, group=europe, name="WORLD", parent=None)
    assert set(UserGroup.objects.values_list("name", "parent__name")) == {("World", None), ("Europe", "World")}

    actions.edit_group(actor=admin, group=europe, name=" EMEA ", parent=None)
    actions.edit_group(actor=admin, group=europe, name="EMEA", parent=None)
    assert (UserGroup.objects.get(pk=europe.pk).name, UserGroup.objects.get(pk=europe.pk).parent) == ("EMEA", None)
    assert [row.action for row in AdminAction.objects.order_by("id")] == [Action.GROUP_RENAMED, Action.GROUP_MOVED]


def test_a_deleted_group_leaves_its_members_where_else_they_are() -> None:
    admin, sales, support = make_user(role=Role.ADMIN), make_group("Sales"), make_group()
    grace, manager = make_user(groups=[sales, support]), make_user(role=Role.MANAGER, manages=[sales, support])
    actions.delete_group(actor=admin, group=sales)

    assert list(grace.groups.all()) == list(manager.managed_groups.all()) == [support]
    [row] = AdminAction.objects.all()
    assert (row.action, row.subject_id) == (Action.GROUP_DELETED, sales.pk)
    assert row.before == {"name": "Sales", "parent": None, "members": 1, "managers": [manager.pk]}


def test_a_group_with_subgroups_is_not_deleted() -> None:
    admin, world = make_user(role=Role.ADMIN), make_group("World")
    europe = make_group("Europe", inside=world)
    with pytest.raises(actions.GroupHasSubgroups, match="World"):
        actions.delete_group(actor=admin, group=world)
    actions.delete_group(actor=admin, group=europe)
    actions.delete_group(actor=admin, group=world)
    assert not UserGroup.objects.exists()


def test_nothing_is_done_with_a_group_that_was_deleted_meanwhile() -> None:
    sue, user, gone = make_user(role=Role.SUPER_ADMIN), make_user(role=Role.MANAGER), make_group()
    UserGroup.objects.filter(pk=gone.pk).delete()
    for verb in (
        lambda: actions.put_in_groups(actor=sue, user=user, groups=[gone]),
        lambda: actions.let_manage(actor=sue, user=user, groups=[gone]),
        lambda: actions.add_group(actor=sue, name="Sales", parent=gone),
        lambda: actions.edit_group(actor=sue, group=gone, name="Sales", parent=None),
        lambda: actions.move_group(actor=sue, group=make_group(), parent=gone),
        lambda: actions.delete_group(actor=sue, group=gone),
    ):
        with pytest.raises(actions.GroupGone, match="deleted meanwhile"):
            verb()
    assert not AdminAction.objects.exists()


def test_whoever_was_erased_is_put_in_no_group_and_gets_no_role() -> None:
    sue, group, erased = make_user(role=Role.SUPER_ADMIN), make_group(), make_user(email=f"1{ERASED_AT}", role=Role.MANAGER)
    for verb in (
        lambda: actions.put_in_groups(actor=sue, user=erased, groups=[group]),
        lambda: actions.change_role(actor=sue, user=erased, role=Role.ADMIN),
        lambda: actions.let_manage(actor=sue, user=erased, groups=[group]),
    ):
        with pytest.raises(actions.NotAllowed, match="erased"):
            verb()
    assert not AdminAction.objects.exists()


@pytest.mark.parametrize("role", [Role.MEMBER, Role.MANAGER, Role.SUPPORT])
def test_only_those_who_manage_users_change_groups(role: Role) -> None:
    actor, group = make_user(role=role), make_group()
    for verb in (
        lambda: actions.add_group(actor=actor, name="Sales"),
        lambda: actions.rename_group(actor=actor, group=group, name="Sales"),
        lambda: actions.move_group(actor=actor, group=group, parent=None),
        lambda: actions.delete_group(actor=actor, group=group),
    ):
        with pytest.raises(actions.NotAllowed):
            verb()


# Seen


def test_being_seen_is_written_at_most_hourly(django_assert_num_queries: Any) -> None:
    grace = make_user()

    def seen_after(minutes: int) -> tuple[float, float]:
        with django_assert_num_queries(1):
            actions.seen(user=grace, now=NOW + timedelta(minutes=minutes))
        row = LastSeen.objects.get()
        return (row.first_at - NOW).total_seconds() / 60, (row.at - NOW).total_seconds() / 60

    assert seen_after(0) == (0, 0)
    assert seen_after(59) == (0, 0)
    assert seen_after(60) == (0, 60)
    assert seen_after(61) == (0, 60)
    assert seen_after(24 * 60) == (0, 24 * 60)
    assert seen_after(5) == (0, 24 * 60)


# Django's and allauth's view of a user


def test_a_user_signs_in_with_email_and_password(rf: Any) -> None:
    actions.ensure_first_super_admin(email="grace@tests.example", password=PASSWORD, now=NOW)
    request = rf.post("/")

    assert authenticate(request, email="Grace@tests.example", password=PASSWORD) == User.objects.get()
    assert authenticate(request, email="grace@tests.example", password="wrong") is None
    assert AuthenticationBackend().get_user(User.objects.get().pk) == User.objects.get()


def test_a_user_without_a_password_cannot_sign_in(rf: Any) -> None:
    user = actions.add_user(actor=make_user(role=Role.ADMIN), email="ada@tests.example", now=NOW)
    for password in ("", "!", user.password):
        assert authenticate(rf.post("/"), email="ada@tests.example", password=password) is None


def test_a_deactivated_user_cannot_sign_in(rf: Any) -> None:
    actions.ensure_first_super_admin(email="grace@tests.example", password=PASSWORD, now=NOW)
    user = User.objects.get()
    user.pk, user.email, user.role, user.is_active = None, "ada@tests.example", Role.MEMBER, False
    user.save()
    assert authenticate(rf.post("/"), email="ada@tests.example", password=PASSWORD) is None


def test_a_user_is_found_by_email_whatever_its_capitals() -> None:
    user = make_user(email="grace@tests.example")
    assert User.objects.get_by_natural_key("Grace@Tests.Example") == user
