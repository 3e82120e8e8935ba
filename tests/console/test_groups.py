"""The user groups: the list, adding, renaming, moving and deleting one; who is in them and who manages them."""

import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import now

from notifications.models import Notification
from products import actions
from products.evidence import HistoryFilter
from products.models import BulkChange, Mode
from products.queries import selection_draft
from products.selection import Selection
from tests.factories import change, make_group, make_user, make_users, run
from users.actions import delete_group, move_group
from users.models import Action, AdminAction, Role, User, UserGroup
from users.queries import UserFilter

pytestmark = pytest.mark.django_db


@pytest.fixture
def sue(client: Client) -> User:
    """Return a Super admin who is signed in."""
    sue = make_user("Sue Super", role=Role.SUPER_ADMIN)
    client.force_login(sue)
    return sue


def shown(response: Any) -> str:
    """Return the words of an answer, without tags; of a page of the console, its own."""
    return " ".join(re.sub(r"<[^>]+>", " ", response.text.partition('<main id="main"')[2] or response.text).split())


# The list


def test_the_list_tells_path_members_and_managers(client: Client, ada: User) -> None:
    sales = make_group("Sales")
    benelux = make_group("Benelux", inside=sales)
    make_user(groups=[benelux])
    make_user(groups=[sales, benelux])
    for name in ("Ann A", "Bea B", "Cid C", "Dan D", "Eve E"):
        make_user(name, role=Role.MANAGER, manages=[benelux])

    page = client.get("/groups/")

    assert "Sales 2 Show in Manage users – Nobody Edit Sales" in shown(page)
    assert "Sales / Benelux 2 Show in Manage users Ann A , Bea B , Cid C +2 Edit Benelux" in shown(page)
    assert f'href="/users/?group={sales.pk}"' in page.text
    assert "2 user groups" in shown(page)


def test_the_list_is_searched_by_the_words_of_the_path(client: Client, ada: User) -> None:
    sales, council = make_group("Sales"), make_group("Works council")
    make_group("Bénélux", inside=sales)

    def found(search: str) -> list[str]:
        return [row.path for row in client.get("/groups/", {"search": search}).context["rows"]]

    assert found("benelux SALES") == ["Sales / Bénélux"]
    assert found("") == ["Sales", "Sales / Bénélux", council.name]
    assert "No user group found" in shown(client.get("/groups/", {"search": "nowhere"}))


def test_the_list_costs_the_same_for_few_groups_and_for_many(client: Client, ada: User) -> None:
    def statements() -> int:
        with CaptureQueriesContext(
            connection,
        ) as caught:
            assert client.get("/groups/").status_code == 200
        return len(caught)

    top = make_group()
    make_user(role=Role.MANAGER, manages=[top])
    statements()
    few = statements()
    for _ in range(120):
        make_user(role=Role.MANAGER, manages=[make_group(inside=top)])
    assert statements() == few
    page = client.get("/groups/?page=2")
    assert (len(page.context["rows"]), "Previous page" in page.text) == (21, True)


@pytest.mark.parametrize("role", [Role.MANAGER, Role.SUPPORT])
def test_only_who_manages_users_sees_the_pages(client: Client, role: Role) -> None:
    sales, grace = make_group(), make_user()
    client.force_login(make_user(role=role, manages=[sales]))

    for where in ("groups/add/", f"groups/{sales.pk}/", f"groups/{sales.pk}/delete/", f"users/{grace.pk}/groups/"):
        assert client.get(f"/{where}").status_code == client.post(f"/{where}").status_code == 403
    assert client.get("/groups/").status_code == 403
    assert 'href="/groups/"' not in client.get("/users/").text


# One group


def test_a_group_is_added_inside_another_one(client: Client, ada: User) -> None:
    sales = make_group("Sales")

    response = client.post("/groups/add/", {"name": " Benelux ", "parent": sales.pk})

    benelux = UserGroup.objects.get(name="Benelux")
    assert (response["Location"], benelux.parent) == (f"/groups/{benelux.pk}/", sales)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "sales"}, "There is a group called “sales” already."),
        ({"name": "a/b"}, "cannot hold “/” or “;”"),
        ({"name": ""}, "This field is required."),
        ({"name": "Benelux", "parent": "999999"}, "not one of the available choices"),
    ],
)
def test_refused_the_form_keeps_what_was_filled_in(client: Client, ada: User, fields: dict[str, str], said: str) -> None:
    make_group("Sales")

    response = client.post("/groups/add/", fields)

    assert response.status_code == 422
    assert said in shown(response)
    assert f'value="{fields["name"]}"' in response.text or not fields["name"]
    assert UserGroup.objects.count() == 1


def test_a_group_is_renamed_and_moved(client: Client, ada: User) -> None:
    sales, europe = make_group("Sales"), make_group("Europe")

    client.post(f"/groups/{europe.pk}/", {"name": "EMEA", "parent": sales.pk})

    europe.refresh_from_db()
    assert (europe.name, europe.parent) == ("EMEA", sales)
    assert "Sales / EMEA" in shown(client.get(f"/groups/{europe.pk}/"))


def test_a_group_moves_into_none_of_its_subgroups(client: Client, ada: User) -> None:
    sales = make_group("Sales")
    benelux = make_group("Benelux", inside=sales)

    assert f'<option value="{benelux.pk}"' not in client.get(f"/groups/{sales.pk}/").text
    assert client.post(f"/groups/{sales.pk}/", {"name": "Sales", "parent": benelux.pk}).status_code == 422


def test_before_a_group_is_deleted_it_is_told_what_becomes_of_whom(client: Client, ada: User) -> None:
    sales, support = make_group("Sales"), make_group()
    make_user(groups=[sales])
    make_user("Max Both", role=Role.MANAGER, manages=[sales, support])
    make_user("Mia Only", role=Role.MANAGER, manages=[sales])

    asked = shown(client.get(f"/groups/{sales.pk}/delete/"))
    response = client.post(f"/groups/{sales.pk}/delete/")

    assert "1 member leaves this group. Nobody is deleted" in asked
    assert "It will no longer be managed by: Max Both , Mia Only" in asked
    assert "They manage no other group and will see nobody: Mia Only Selections" in asked
    assert response["Location"] == "/groups/"
    assert list(UserGroup.objects.all()) == [support]
    assert client.get(f"/groups/{sales.pk}/").status_code == 404


def test_a_group_with_subgroups_stays(client: Client, ada: User) -> None:
    sales = make_group("Sales")
    make_group("Benelux", inside=sales)

    assert "It has 1 subgroup: move or delete that first." in shown(client.get(f"/groups/{sales.pk}/delete/"))
    response = client.post(f"/groups/{sales.pk}/delete/")

    assert response.status_code == 422
    assert "“Sales” has subgroups" in shown(response)
    assert UserGroup.objects.filter(pk=sales.pk).exists()


# What named a deleted group


def test_a_filter_by_a_deleted_group_is_left_out_and_said_and_selects_nobody(client: Client, ada: User) -> None:
    sales = make_group()
    make_user(groups=[sales])
    delete_group(actor=ada, group=sales)

    assert "it was left out" in shown(client.get(f"/users/?group={sales.pk}"))
    assert client.post(f"/users/selection/everyone/?group={sales.pk}").status_code == 422
    assert not selection_draft(ada, now=now()).everyone


def test_a_selection_by_a_deleted_group_finds_nobody(client: Client, ada: User) -> None:
    sales = make_group()
    make_user(groups=[sales])
    actions.select_everyone(owner=ada, wanted=UserFilter(group=(sales.pk,)), now=now())
    delete_group(actor=ada, group=sales)

    assert Selection.of_draft(selection_draft(ada, now=now())).count(ada, now=now()) == 0
    assert f"deleted (#{sales.pk})" in shown(client.get("/users/"))


def test_a_change_that_runs_goes_on_when_the_group_it_was_asked_for_is_deleted(ada: User, settings: Any) -> None:
    settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE = 0, 2
    sales = make_group()
    members = make_users(5)
    for member in members:
        member.groups.add(sales)
    asked = Selection(everyone=True, filter=UserFilter(group=(sales.pk,)))
    made = change(ada, [], "meeting", selection=asked, mode=Mode.ADD, notify=False)
    actions.pause_change(actor=ada, change_id=made.pk)
    delete_group(actor=ada, group=sales)
    actions.resume_change(actor=ada, change_id=made.pk)

    assert (run(made).state, made.changed) == (BulkChange.State.FINISHED, 5)


def test_a_manager_whose_group_is_deleted_changes_nobody_any_more(ada: User, settings: Any) -> None:
    settings.BULK_AT_ONCE = 0
    sales = make_group()
    manager, grace = make_user(role=Role.MANAGER, manages=[sales]), make_user(groups=[sales])
    made = change(manager, [grace], "meeting", mode=Mode.ADD, notify=False)
    delete_group(actor=ada, group=sales)

    assert run(made).changed == 0


def test_the_entitlement_history_of_a_deleted_group_is_nobodys(client: Client, sue: User) -> None:
    sales = make_group()
    change(sue, [make_user("Grace Hopper", groups=[sales])], "meeting")
    page = "/admin/products/accesschange/"
    assert "Grace Hopper" in client.get(page, {"group": sales.pk}).text
    delete_group(actor=sue, group=sales)

    assert "Grace Hopper" not in client.get(page, {"group": sales.pk}, follow=True).text
    assert HistoryFilter.from_query({"group": str(sales.pk)}).rows(now=now()).count() == 0


def test_the_record_calls_a_group_by_its_name(client: Client, sue: User) -> None:
    move_group(actor=sue, group=make_group("Night shift"), parent=make_group())

    assert "Moved a user group Night shift" in shown(client.get("/admin/users/adminaction/", {"action": "group.moved"}))


# Who is in which


def test_a_user_is_put_in_groups(client: Client, ada: User) -> None:
    sales, support = make_group("Sales"), make_group("Support")
    grace = make_user("Grace Hopper", groups=[support])

    opened = client.get(f"/users/{grace.pk}/groups/")
    response = client.post(f"/users/{grace.pk}/groups/", {"groups": [sales.pk]})

    assert re.findall(r'value="(\d+)"[^>]* checked', opened.text) == [str(support.pk)]
    assert shown(opened).index("Support") < shown(opened).index("Sales")
    assert response["Location"] == f"/users/{grace.pk}/"
    assert list(grace.groups.all()) == [sales]
    assert f'href="/users/{grace.pk}/groups/"' in client.get(f"/users/{grace.pk}/").text


@pytest.mark.parametrize("forged", ["999999", "x", "-1"])
def test_a_group_that_there_is_not_is_refused(client: Client, ada: User, forged: str) -> None:
    grace = make_user(groups=[make_group()])

    response = client.post(f"/users/{grace.pk}/groups/", {"groups": [forged]})

    assert response.status_code == 422
    assert 'id="id_groups_error"' in response.text
    assert grace.groups.count() == 1


# Who manages which


def test_a_role_and_its_groups_are_given_in_one(client: Client, sue: User) -> None:
    sales, grace = make_group("Sales"), make_user("Grace Hopper")

    refused = client.post(f"/users/{grace.pk}/role/", {"role": "MANAGER"})
    grace.refresh_from_db()
    assert (refused.status_code, grace.role) == (422, Role.MEMBER)
    assert "Choose at least one user group: a Manager of none sees nobody." in shown(refused)
    assert not AdminAction.objects.filter(subject_id=grace.pk).exists()

    client.post(f"/users/{grace.pk}/role/", {"role": "MANAGER", "manages": [sales.pk]})

    grace.refresh_from_db()
    assert (grace.role, list(grace.managed_groups.all())) == (Role.MANAGER, [sales])
    recorded = AdminAction.objects.filter(subject_id=grace.pk).order_by("id")
    assert [row.action for row in recorded] == [Action.USER_ROLE_CHANGED, Action.USER_MANAGED_GROUPS_CHANGED]
    assert [owed.kind for owed in Notification.objects.all()] == ["ROLE"]
    assert "Managed groups Sales" in shown(client.get(f"/users/{grace.pk}/"))


def test_a_manager_is_given_other_groups_and_not_told_of_another_role(client: Client, sue: User) -> None:
    sales, support = make_group(), make_group()
    grace = make_user(role=Role.MANAGER, manages=[sales])

    client.post(f"/users/{grace.pk}/role/", {"role": "MANAGER", "manages": [support.pk]})

    assert list(grace.managed_groups.all()) == [support]
    assert not Notification.objects.exists()


def test_whoever_is_no_manager_any_more_manages_nothing(client: Client, sue: User) -> None:
    sales = make_group()
    grace = make_user(role=Role.MANAGER, manages=[sales])

    client.post(f"/users/{grace.pk}/role/", {"role": "ADMIN", "manages": [sales.pk]})

    assert not grace.managed_groups.exists()


def test_a_manager_of_no_group_is_told_apart(client: Client, ada: User) -> None:
    assert "none, so sees nobody" in shown(client.get(f"/users/{make_user(role=Role.MANAGER).pk}/"))
