"""What the dialog Manage products refuses: nothing is changed, the input is kept, the sentence stands beside its cause."""

import re
import uuid
from typing import Any

import pytest
from django.test import Client
from django.utils.timezone import now

from products import actions
from products.models import BulkChange, Mode, Product
from tests.console.change_dialog import APPLY, HTMX, OPEN, PREVIEW, box, form, member_of, opened, ticking
from tests.console.pages import shown
from tests.factories import give, held_by, ids, limit, make_group, make_user, make_users
from users.models import Role, User
from users.queries import UserFilter

pytestmark = pytest.mark.django_db


def refused(client: Client, posted: dict[str, Any], status: int = 422) -> Any:
    before = BulkChange.objects.count()
    response = client.post(APPLY, posted, headers=HTMX)
    assert (response.status_code, BulkChange.objects.count()) == (status, before)
    return response


def written(response: Any, name: str) -> str:
    """Return what the console wrote into a hidden field of a form."""
    found = re.search(rf'name="{name}" value="(-?\d+)"', response.content.decode())
    assert found
    return found[1]


def test_too_few_seats_are_told_beside_the_products(client: Client, ada: User) -> None:
    limit("rescue", 1)
    ticking(ada, [make_user(), make_user()])

    response = refused(client, form(ada, "rescue", "meeting", expected=2, quiet="on", reason="Pilot"))

    assert re.search(r'id="product-error" role="alert".*?Rescue: 2 seats needed', response.content.decode(), re.DOTALL)
    assert " checked" in box(response, "rescue")
    assert " checked" in box(response, "meeting")
    assert ">Pilot</textarea>" in response.content.decode()
    assert re.search(r'name="quiet"[^>]* checked', response.content.decode())


def test_a_selection_that_changed_shows_the_new_preview_and_asks_again(client: Client, ada: User) -> None:
    ticking(ada, [make_user(), make_user()])

    response = refused(client, form(ada, "rescue", expected=1))

    assert "The selection changed since the preview: it was for 1, now 2 users are selected." in shown(response)
    assert 'name="expected" value="2"' in response.content.decode()
    assert "Granted Rescue 2 users" in shown(response)


@pytest.mark.parametrize("otherwise", [{"retired_at": None}, {"retired_at": now()}, {"restricted": True}, {"onboarding": True}])
def test_what_may_be_done_with_a_product_is_what_the_preview_showed_or_asked_again(
    client: Client, otherwise: dict[str, Any]
) -> None:
    max_ = make_user("Max", role=Role.MANAGER, manages=[make_group()])
    client.force_login(max_)
    if "retired_at" in otherwise:
        Product.objects.filter(code="rescue").update(retired_at=None if otherwise["retired_at"] else now())
    holder = give(member_of(max_), "rescue", "meeting")
    seen = written(opened(client, max_, holder), "catalogue")
    Product.objects.filter(code="rescue").update(**otherwise)

    response = refused(client, form(max_, "meeting", catalogue=seen))

    assert "The products changed since the preview. Look at the preview again, then apply." in shown(response)
    assert held_by(holder) == {"rescue", "meeting"}
    again = written(response, "catalogue")
    assert client.post(APPLY, form(max_, "meeting", catalogue=again), headers=HTMX).status_code == 200


def test_nobody_is_suspended_because_the_one_ticked_product_was_retired_meanwhile(client: Client, ada: User) -> None:
    grace = give(make_user(), "meeting")
    page = f"/users/{grace.pk}/products/"
    seen = written(client.get(page), "catalogue")
    Product.objects.filter(code="rescue").update(retired_at=now())

    posted = {"user": grace.pk, "mode": "REPLACE", "shown": "REPLACE", "key": uuid.uuid4(), "expected": 1}
    response = client.post(page, {**posted, "product": ids("rescue"), "catalogue": seen})

    assert response.status_code == 422
    assert "The products changed since the preview." in shown(response)
    assert held_by(grace) == {"meeting"}


def test_who_came_and_who_left_is_told_by_name(client: Client, ada: User) -> None:
    grace, alan = make_user("Grace Hopper", role=Role.SUPPORT), make_user("Alan Turing")
    draft = actions.select_everyone(owner=ada, wanted=UserFilter(role=(Role.SUPPORT,)), now=now())
    dialog = client.get(OPEN, {"draft": draft.pk}, headers=HTMX).content.decode()
    mark = re.search(r'name="mark" value="(-?\d+)"', dialog)
    assert mark
    User.objects.filter(pk=grace.pk).update(role=Role.MEMBER)
    User.objects.filter(pk=alan.pk).update(role=Role.SUPPORT)

    response = refused(client, form(ada, "rescue", expected=1, mark=mark[1], reason="Pilot", quiet="on"))

    assert "Other users are selected now than the preview showed." in shown(response)
    assert "Came since: Alan Turing Left since: Grace Hopper" in shown(response)
    assert ">Pilot</textarea>" in response.content.decode()
    assert " checked" in box(response, "rescue")
    again = re.search(r'name="mark" value="(-?\d+)"', response.content.decode())
    assert again
    assert client.post(APPLY, form(ada, "rescue", expected=1, mark=again[1]), headers=HTMX).status_code == 200
    assert (held_by(alan), held_by(grace)) == ({"rescue"}, set())


def test_of_more_than_ten_who_came_the_rest_is_a_number(client: Client, ada: User) -> None:
    draft = actions.select_everyone(owner=ada, wanted=UserFilter(), now=now())
    dialog = client.get(OPEN, {"draft": draft.pk}, headers=HTMX).content.decode()
    mark = re.search(r'name="mark" value="(-?\d+)"', dialog)
    assert mark
    for n in range(12):
        make_user(f"Ann{n:02}")

    words = shown(refused(client, form(ada, "rescue", expected=1, mark=mark[1])))

    assert "it was for 1, now 13 users are selected" in words
    assert "Came since: Ann00, Ann01, Ann02, Ann03, Ann04, Ann05, Ann06, Ann07, Ann08, Ann09 and 2 more" in words


def test_a_manager_is_not_told_the_name_of_who_left_their_groups(client: Client, manager: User) -> None:
    sales, grace = manager.managed_groups.get(), member_of(manager, "Grace Hopper")
    member_of(manager)
    draft = actions.select_everyone(owner=manager, wanted=UserFilter(), now=now())
    mark = re.search(r'name="mark" value="(-?\d+)"', client.get(OPEN, {"draft": draft.pk}, headers=HTMX).content.decode())
    assert mark
    sales.memberships.filter(user=grace).delete()

    words = shown(refused(client, form(manager, "rescue", expected=2, mark=mark[1])))

    assert "Left since: 1 user" in words
    assert "Grace" not in words


def test_above_the_threshold_the_number_is_typed(client: Client, ada: User, settings: Any) -> None:
    settings.BULK_CONFIRM_ABOVE = 1
    users = make_users(2)
    assert "Type 2 to confirm" in shown(opened(client, ada, *users))

    response = refused(client, form(ada, "rescue", expected=2, confirmed="3"))
    assert re.search(r'id="confirmed-error" role="alert">This changes 2 users', response.content.decode())
    assert 'value="3"' in response.content.decode()

    assert client.post(APPLY, form(ada, "rescue", expected=2, confirmed=" 2 "), headers=HTMX).status_code == 200


@pytest.mark.parametrize("typed", ["1,240", "1.240", "1 240", "1’240", "1240"])
def test_a_number_may_be_typed_with_separators(typed: str) -> None:
    from django.http import QueryDict

    from admin_console.forms import ChangeForm

    assert ChangeForm(QueryDict(f"confirmed={typed}")).asked["confirmed"] == 1240


def test_nobody_selected_any_more_is_told(client: Client, ada: User) -> None:
    draft = ticking(ada, [make_user()])
    posted = form(ada, "rescue")
    actions.clear_selection(owner=ada, now=now())

    assert posted["draft"] == draft.pk
    assert "No users are selected" in shown(refused(client, posted))


@pytest.mark.parametrize("number", ["999999", "99999999999999", "-1", "x"])
def test_an_unknown_product_is_told(client: Client, ada: User, number: str) -> None:
    ticking(ada, [make_user()])

    response = refused(client, {**form(ada), "product": [number]})

    assert f"There is no product with the number {number}" in shown(response)


def test_an_unknown_product_has_no_preview(client: Client, ada: User) -> None:
    ticking(ada, [make_user()])

    response = client.post(PREVIEW, {**form(ada), "product": ["999999"]}, headers=HTMX)

    assert response.status_code == 422
    assert shown(response).count("There is no product with the number 999999") == 1  # it is said by itself, and once
    assert 'role="alert"' in response.content.decode()


def test_a_product_out_of_reach_cannot_be_smuggled_in(client: Client, manager: User) -> None:
    grace = member_of(manager)
    ticking(manager, [grace])

    response = refused(client, form(manager, "central"), 403)

    assert "Your role does not let you grant or remove Central." in shown(response)
    assert held_by(grace) == set()


def test_a_retired_product_cannot_be_added(client: Client, ada: User) -> None:
    Product.objects.filter(code="joinme").update(retired_at=now())
    ticking(ada, [make_user()])

    assert "join.me is retired" in shown(refused(client, form(ada, "joinme", mode=Mode.ADD)))


def test_a_reason_that_is_too_long_is_told_beside_it(client: Client, ada: User) -> None:
    ticking(ada, [make_user()])

    response = refused(client, form(ada, "rescue", reason="x" * 501))

    assert re.search(r'id="reason-error" role="alert">Ensure this value has at most 500', response.content.decode())
    assert " checked" in box(response, "rescue")


def test_line_breaks_of_a_reason_count_once(client: Client, ada: User) -> None:
    ticking(ada, [make_user()])

    response = client.post(APPLY, form(ada, "rescue", reason="\r\n".join(["x" * 99] * 5)), headers=HTMX)

    assert response.status_code == 200
    assert len(BulkChange.objects.get().reason) == 499


def test_a_mode_changed_without_javascript_never_takes_the_old_ticks(client: Client, ada: User) -> None:
    grace = give(make_user(), "meeting")

    posted = {**form(ada, "meeting"), "mode": Mode.REMOVE, "draft": "", "user": [grace.pk]}
    response = client.post(APPLY, posted)

    assert response.status_code == 422
    assert "The mode was changed, so the ticks start anew." in shown(response)
    assert " checked" not in box(response, "meeting")
    assert 'value="REMOVE" id="mode-REMOVE" aria-describedby="mode-REMOVE-does" autocomplete="off" checked' in (
        response.content.decode()
    )
    assert held_by(grace) == {"meeting"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": "x"},
        {"expected": "many"},
        {"draft": "x"},
        {"shown": "ALL"},
        {"role": "ADMIN"},
        {"actor": "1"},
        {"user": "x"},
        {"mark": "x"},
    ],
)
@pytest.mark.parametrize("url", [APPLY, PREVIEW])
def test_a_form_that_is_not_ours_is_refused(client: Client, ada: User, wrong: dict[str, str], url: str) -> None:
    ticking(ada, [make_user()])

    assert client.post(url, {**form(ada, "rescue"), **wrong}, headers=HTMX).status_code == 400
    assert not BulkChange.objects.exists()


@pytest.mark.parametrize(("count", "status"), [(501, 422), (10_000, 400)])
def test_thousands_of_posted_ids_are_refused_with_a_sentence(client: Client, ada: User, count: int, status: int) -> None:
    many = list(range(1, count + 1))
    for response in (client.post(APPLY, {**form(ada), "draft": "", "user": many}), client.get(OPEN, {"user": many})):
        assert response.status_code == status
        assert "That was too much at once." in shown(response)


def test_ids_out_of_scope_are_never_changed(client: Client, manager: User) -> None:
    stranger = give(make_user(), "rescue")

    response = client.post(APPLY, {**form(manager), "draft": "", "user": [stranger.pk]}, headers=HTMX)

    assert response.status_code == 422
    assert held_by(stranger) == {"rescue"}


def test_a_draft_and_ids_together_are_not_ours(client: Client, ada: User) -> None:
    ticking(ada, [make_user()])

    assert client.post(APPLY, {**form(ada), "user": [ada.pk]}, headers=HTMX).status_code == 404
