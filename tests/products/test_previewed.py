"""A change is never made for others than the preview showed, and the admin is told who came and who left (rule S4)."""

import pytest

from products import actions, previews
from products.models import BulkChange, Mode, PreviewedUsers
from products.previewed import remember
from products.selection import Selection
from tests.factories import NOW, change, held_by, make_user
from users.models import Role, User
from users.queries import UserFilter

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin() -> User:
    """Return an admin."""
    return make_user("Ada Admin", role=Role.ADMIN)


def everyone(admin: User, **wanted: tuple[str, ...]) -> Selection:
    """Return the admin's selection of everyone whom a filter finds."""
    return Selection.of_draft(actions.select_everyone(owner=admin, wanted=UserFilter(**wanted), now=NOW))  # type: ignore[arg-type]


def look(admin: User, selection: Selection) -> dict[str, int]:
    """Show the admin a preview, and return what the form then knows of it."""
    seen = previews.preview(selection, actor=admin, mode=Mode.REPLACE, wanted=[], preserved=[], notify=True, now=NOW)
    remember(selection, mark=seen.mark, actor=admin, now=NOW)
    return {"expected": seen.selected, "mark": seen.mark}


def test_the_same_people_are_changed(admin):
    make_user()
    selection = everyone(admin)

    made = change(admin, [], "rescue", selection=selection, **look(admin, selection))

    assert made.changed == 2


def test_who_came_and_who_left_is_told_though_the_number_is_the_same(admin):
    grace, alan = make_user(role=Role.SUPPORT), make_user()
    selection = everyone(admin, role=(Role.SUPPORT,))
    shown = look(admin, selection)
    User.objects.filter(pk=grace.pk).update(role=Role.MEMBER)
    User.objects.filter(pk=alan.pk).update(role=Role.SUPPORT)

    with pytest.raises(actions.SelectionChanged) as refused:
        change(admin, [], "rescue", selection=selection, **shown)

    assert (refused.value.previewed, refused.value.found) == (1, 1)
    assert (refused.value.came.count, refused.value.came.ids) == (1, [alan.pk])
    assert (refused.value.left.count, refused.value.left.ids) == (1, [grace.pk])
    assert str(refused.value).startswith("Other users are selected now than the preview showed.")
    assert held_by(alan) == set()
    assert not BulkChange.objects.exists()


def test_of_many_who_came_the_first_ten_are_named(admin):
    selection = everyone(admin)
    shown = look(admin, selection)
    newcomers = [make_user().pk for _ in range(12)]

    with pytest.raises(actions.SelectionChanged) as refused:
        change(admin, [], "rescue", selection=selection, **shown)

    assert (refused.value.came.count, refused.value.came.ids) == (12, newcomers[:10])
    assert refused.value.left.count == 0


def test_who_left_is_told_when_nobody_came(admin):
    grace, _alan = make_user(role=Role.SUPPORT), make_user(role=Role.SUPPORT)
    selection = everyone(admin, role=(Role.SUPPORT,))
    shown = look(admin, selection)
    User.objects.filter(pk=grace.pk).update(role=Role.MEMBER)

    with pytest.raises(actions.SelectionChanged) as refused:
        change(admin, [], "rescue", selection=selection, **shown)

    assert (refused.value.came.count, refused.value.left.ids) == (0, [grace.pk])


def test_a_preview_in_another_window_does_not_hide_that_this_one_is_old(admin):
    selection = everyone(admin)
    shown = look(admin, selection)
    make_user()
    look(admin, selection)

    with pytest.raises(actions.SelectionChanged) as refused:
        change(admin, [], "rescue", selection=selection, **shown)

    assert (refused.value.came.count, refused.value.left.count) == (0, 0)  # it was forgotten whom the first preview was for


def test_the_same_people_are_written_down_once(admin, django_assert_num_queries):
    selection = everyone(admin)
    shown = look(admin, selection)

    with django_assert_num_queries(1):
        remember(selection, mark=shown["mark"], actor=admin, now=NOW)


def test_whom_a_manager_sees_is_what_is_remembered():
    from tests.factories import make_group

    sales = make_group("Sales")
    manager = make_user(role=Role.MANAGER, manages=[sales])
    grace = make_user(groups=[sales])
    make_user()

    look(manager, everyone(manager))

    assert PreviewedUsers.objects.get().user_ids == [grace.pk]


def test_ticked_users_of_a_page_need_no_draft(admin):
    grace = make_user()
    selection = Selection.of([grace.pk])

    assert change(admin, [], "rescue", selection=selection, **look(admin, selection)).changed == 1
    assert not PreviewedUsers.objects.exists()


def test_the_mark_is_the_same_for_the_same_people_only(admin):
    few, more = [make_user().pk for _ in range(3)], [make_user().pk for _ in range(4)]

    def mark(ids: list[int]) -> int:
        seen = previews.preview(Selection.of(ids), actor=admin, mode=Mode.ADD, wanted=[], preserved=[], notify=True, now=NOW)
        return seen.mark

    assert mark(few) == mark(few[::-1])
    assert len({mark(few), mark(more), mark(few + more), mark(few[:1])}) == 4
