"""The dialog Manage products: what it shows, previews and applies, and who may open it."""

import re
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import now

from notifications.models import Notification
from products import actions
from products.models import BulkChange, Mode, Product, ProductAccess, SelectionDraft
from products.queries import selection_draft
from tests.console.change_dialog import APPLY, HTMX, OPEN, PREVIEW, box, facts, form, links, member_of, opened, ticking
from tests.console.pages import shown
from tests.factories import change, give, held_by, ids, limit, make_holders, make_user, product
from users.models import Role, User
from users.queries import UserFilter

pytestmark = pytest.mark.django_db


# The dialog


def test_the_dialog_shows_how_many_have_each_product(client: Client, ada: User) -> None:
    limit("rescue", 50)
    users = [give(make_user(), "meeting", "rescue"), give(make_user(), "meeting"), give(make_user(), "meeting")]

    response = opened(client, ada, *users)

    assert response.status_code == 200
    assert "for 3 users" in shown(response)
    assert " checked" in box(response, "meeting")
    assert "indeterminate" not in box(response, "meeting")
    assert facts(response, "meeting") == "Onboarding email at the first activation. 3 of 3 have it"
    assert "data-indeterminate" in box(response, "rescue")
    assert " checked" not in box(response, "rescue")
    assert facts(response, "rescue") == "some 1 of 3 have it 49 of 50 free"
    assert facts(response, "central") == "0 of 3 have it"
    assert "indeterminate" not in box(response, "central")
    assert "If all boxes are unticked, products are removed and the user shows as Suspended." in shown(response)


def test_a_dash_is_not_a_tick_and_the_preview_says_what_is_lost(client: Client, ada: User) -> None:
    response = opened(client, ada, give(make_user(), "rescue"), make_user())

    assert "1 user becomes Suspended" in shown(response)
    assert "Removed Rescue 1 user" in shown(response)
    assert "A dash means that some have it; left as it is, it counts as unticked." in shown(response)


def test_who_was_erased_unticks_no_box_that_all_others_hold(client: Client, ada: User) -> None:
    holders, erased = [give(make_user(), "rescue"), give(make_user(), "rescue")], make_user()
    ProductAccess.objects.filter(user=erased).update(erased=True)

    response = opened(client, ada, *holders, erased)

    assert " checked" in box(response, "rescue")
    assert "indeterminate" not in box(response, "rescue")
    assert facts(response, "rescue") == "2 of 2 have it"
    assert "Nobody changes" in shown(response)


def test_what_is_lost_and_gained_opens_above_the_button_by_itself(client: Client, ada: User) -> None:
    ticking(ada, [give(make_user(), "rescue"), give(make_user(), "rescue")])

    answer = client.post(PREVIEW, form(ada, "meeting"), headers=HTMX).content.decode()
    opener, moves = re.findall(
        r'popovertarget="short-moves">(.*?)</button>\s*<div class="[^"]*" id="short-moves" popover>(.*?)</div>', answer, re.S
    )[0]

    assert "2 users change" in opener
    assert re.findall(r"<span>(GoTo Meeting|Rescue)</span><span>(.*?)</span>", moves) == [
        ("Rescue", "2 users"),
        ("GoTo Meeting", "2 users"),
    ]
    nothing = client.post(PREVIEW, form(ada, "rescue"), headers=HTMX).content.decode()
    assert "Nobody changes" in nothing
    assert "short-moves" not in nothing


def test_nobody_selected_is_said(client: Client, ada: User) -> None:
    response = opened(client, ada)

    assert response.status_code == 422
    assert "Tick some users first" in shown(response)


def test_without_javascript_the_dialog_is_a_page_for_the_users_of_one_page(client: Client, ada: User) -> None:
    grace = make_user()

    response = client.get(OPEN, {"user": [grace.pk, ada.pk]})

    assert "<h1>Manage products</h1>" in response.content.decode()
    assert "for 2 users" in shown(response)
    assert f'name="user" value="{grace.pk}"' in response.content.decode()


def test_enter_applies_and_does_not_press_the_preview_button_of_who_has_no_javascript(client: Client, ada: User) -> None:
    assert "noscript" not in opened(client, ada, make_user()).content.decode()
    assert f'formaction="{PREVIEW}"' in client.get(OPEN, {"user": ada.pk}).content.decode()


def test_an_expired_selection_holds_nobody(client: Client, ada: User) -> None:
    draft = ticking(ada, [make_user()])
    SelectionDraft.objects.update(touched_at=now() - SelectionDraft.LIFETIME - timedelta(hours=1))

    assert client.get(OPEN, {"draft": draft.pk}, headers=HTMX).status_code == 422


@pytest.mark.parametrize("draft", ["foreign", "unknown"])
def test_the_draft_of_somebody_else_is_not_found(client: Client, ada: User, draft: str) -> None:
    foreign = ticking(make_user(role=Role.ADMIN), [make_user()]).pk
    wanted = foreign if draft == "foreign" else uuid.uuid4()

    assert client.get(OPEN, {"draft": wanted}, headers=HTMX).status_code == 404
    assert client.post(APPLY, {**form(ada), "draft": wanted}, headers=HTMX).status_code == 404
    assert client.post(PREVIEW, {**form(ada), "draft": wanted}, headers=HTMX).status_code == 404


def test_a_product_out_of_reach_is_disabled_with_the_cause_and_preserved(client: Client, manager: User) -> None:
    response = opened(client, manager, give(member_of(manager), "central"), give(member_of(manager), "rescue"))

    assert " disabled" in box(response, "central")
    assert "Only an admin may grant or remove it. Who has it keeps it." in facts(response, "central")
    assert "1 user becomes Suspended" in shown(response)


def test_who_keeps_a_preserved_product_is_said(client: Client, manager: User) -> None:
    response = opened(client, manager, give(member_of(manager), "central", "rescue"), member_of(manager))

    assert "1 user keeps a product that this change leaves alone, and therefore does not become Suspended." in shown(response)


def test_a_retired_product_can_be_unticked_never_newly_ticked(client: Client, ada: User) -> None:
    Product.objects.filter(code__in=["joinme", "mypc"]).update(retired_at=now())

    response = opened(client, ada, give(make_user(), "joinme"))

    assert " checked" in box(response, "joinme")
    assert " disabled" not in box(response, "joinme")
    assert " disabled" in box(response, "mypc")
    assert "Retired" in facts(response, "mypc")


def test_who_outranks_the_manager_is_counted_as_skipped(client: Client, manager: User) -> None:
    response = opened(client, manager, member_of(manager), member_of(manager, role=Role.ADMIN))

    assert "1 user is skipped: their role is higher than yours." in shown(response)


def test_users_out_of_scope_are_not_counted(client: Client, manager: User) -> None:
    response = client.get(OPEN, {"user": [member_of(manager).pk, make_user().pk]})

    assert "for 1 user" in shown(response)


def test_the_dialog_costs_the_same_for_few_and_many(client: Client, ada: User) -> None:
    def statements(size: int) -> tuple[int, int]:
        draft = ticking(ada, make_holders(size, "meeting"))
        with CaptureQueriesContext(connection) as dialog:
            client.get(OPEN, {"draft": draft.pk}, headers=HTMX)
        with CaptureQueriesContext(connection) as preview:
            client.post(PREVIEW, form(ada, "meeting"), headers=HTMX)
        return len(dialog), len(preview)

    statements(1)  # writes when the admin was seen

    assert statements(3) == statements(300)


def test_what_goes_to_and_fro_is_as_small_for_many_as_for_few(client: Client, ada: User) -> None:
    def sizes(count: int) -> tuple[int, int]:
        make_holders(count, "meeting", "rescue")
        draft = actions.select_everyone(owner=ada, wanted=UserFilter(), now=now())
        dialog = client.get(OPEN, {"draft": draft.pk}, headers=HTMX)
        asks = [len(url) for url in links(dialog).values()]
        return len(dialog.content), max(asks)

    few, many = sizes(3), sizes(300)

    assert abs(many[0] - few[0]) < 1_000
    assert many[0] < 100_000
    assert many[1] == few[1] < 4_000


# The preview


def test_the_preview_tells_all(client: Client, ada: User) -> None:
    give(make_user(), "webinar")
    limit("webinar", 2)
    ticking(ada, [give(make_user(), "rescue"), give(make_user(), "meeting"), make_user()])

    words = shown(client.post(PREVIEW, form(ada, "meeting", "webinar"), headers=HTMX))

    assert "GoTo Webinar: 3 needed, 1 free, 2 missing" in words
    assert "3 Changed" in words or "Changed 3" in words
    assert "Coming back 1" in words
    assert "Removed Rescue 1 user" in words
    assert "Granted GoTo Meeting 2 users GoTo Webinar 3 users" in words
    assert "About the change 3" in words
    assert "Onboarding: GoTo Meeting 2 Onboarding: GoTo Webinar 3" in words
    assert words.endswith("3 changed, 0 unchanged, 0 become Suspended.")  # for a screen reader


def test_onboarding_emails_stay_when_users_are_not_notified(client: Client, ada: User) -> None:
    ticking(ada, [make_user()])

    words = shown(client.post(PREVIEW, form(ada, "meeting", quiet="on"), headers=HTMX))

    assert "About the change none, not notified" in words
    assert "Onboarding: GoTo Meeting 1" in words


def test_the_preview_carries_the_number_it_was_for(client: Client, ada: User) -> None:
    ticking(ada, [make_user(), make_user()])

    response = client.post(PREVIEW, form(ada, "meeting", expected=1), headers=HTMX)

    assert 'name="expected" value="2"' in response.content.decode()


def test_the_preview_shows_the_seats_as_they_are_now(client: Client, ada: User) -> None:
    limit("rescue", 5)
    ticking(ada, [make_user()])
    give(make_user(), "rescue")

    answer = client.post(PREVIEW, form(ada, "meeting"), headers=HTMX).content.decode()

    seats = re.search(rf'<span [^>]*id="seats-{product("rescue").pk}"[^>]*hx-swap-oob="true">4 of 5 free</span>', answer)
    assert seats
    assert 'title="1 used, 0 reserved for changes that run"' in seats[0]


def test_short_of_seats_it_is_offered_to_assign_until_full(client: Client, ada: User) -> None:
    limit("rescue", 1)
    ticking(ada, [make_user("Ann First"), make_user("Bob Second")])
    offer = client.post(PREVIEW, form(ada, "rescue"), headers=HTMX)
    assert "Assign until full In the order in which users were added." in shown(offer)
    assert not re.search(r'name="until_full"[^>]* checked', offer.content.decode())

    taken = client.post(PREVIEW, form(ada, "rescue", until_full="on"), headers=HTMX)

    assert "Changed 1 Unchanged 0 Left out 1" in shown(taken)
    assert re.search(r'name="until_full"[^>]* checked', taken.content.decode())


def test_with_seats_enough_nothing_is_offered(client: Client, ada: User) -> None:
    limit("rescue", 2)
    ticking(ada, [make_user()])

    assert "Assign until full" not in shown(client.post(PREVIEW, form(ada, "rescue", until_full="on"), headers=HTMX))


@pytest.mark.parametrize("mode", [Mode.ADD, Mode.REMOVE])
def test_another_mode_starts_with_nothing_ticked(client: Client, ada: User, mode: str) -> None:
    ticking(ada, [give(make_user(), "meeting")])

    response = client.post(PREVIEW, {**form(ada, "meeting"), "mode": mode}, headers=HTMX)

    assert response["HX-Retarget"] == "#choice"
    assert " checked" not in box(response, "meeting")
    assert f'name="shown" value="{mode}"' in response.content.decode()
    assert "0 changed, 1 unchanged" in shown(response)
    assert f"Tick the products to {mode.lower()}." in shown(response)


def test_back_in_replace_the_boxes_show_what_all_hold(client: Client, ada: User) -> None:
    ticking(ada, [give(make_user(), "meeting")])

    response = client.post(PREVIEW, {**form(ada, mode=Mode.ADD), "mode": Mode.REPLACE}, headers=HTMX)

    assert " checked" in box(response, "meeting")


def test_the_preview_without_javascript_is_the_page_with_the_input_kept(client: Client, ada: User) -> None:
    grace = make_user()

    response = client.post(PREVIEW, {**form(ada, "rescue", reason="Pilot"), "draft": "", "user": [grace.pk]})

    assert "<h1>Manage products</h1>" in response.content.decode()
    assert " checked" in box(response, "rescue")
    assert ">Pilot</textarea>" in response.content.decode()
    assert "Granted Rescue" in shown(response)


def test_the_preview_changes_nothing(client: Client, ada: User) -> None:
    grace = give(make_user(), "rescue")
    ticking(ada, [grace])

    client.post(PREVIEW, form(ada), headers=HTMX)

    assert held_by(grace) == {"rescue"}
    assert not BulkChange.objects.exists()


# Applying


def test_a_small_change_is_done_when_the_answer_arrives(client: Client, ada: User) -> None:
    grace, alan = give(make_user(), "rescue"), make_user()
    ticking(ada, [grace, alan])

    response = client.post(APPLY, form(ada, "meeting", expected=2, reason="New contract"), headers=HTMX)

    assert response.status_code == 200
    assert held_by(grace) == held_by(alan) == {"meeting"}
    assert "2 users changed" in shown(response)
    assert "Removed Rescue 1 Granted GoTo Meeting 2" in shown(response)
    assert "Change emails 2 owed 2 waiting" in shown(response)
    assert "Onboarding: GoTo Meeting 2 owed 2 waiting" in shown(response)
    assert "users-changed" in response["HX-Trigger"]
    assert BulkChange.objects.get().reason == "New contract"


def test_the_selection_is_empty_afterwards(client: Client, ada: User) -> None:
    actions.select_everyone(owner=ada, wanted=UserFilter(), now=now())
    make_user()

    client.post(APPLY, form(ada, "rescue", expected=2), headers=HTMX)

    draft = selection_draft(ada, now=now())
    assert (draft.everyone, draft.ids) == (False, [])


def test_no_box_ticked_suspends(client: Client, ada: User) -> None:
    grace = give(make_user(), "rescue")
    ticking(ada, [grace])

    response = client.post(APPLY, form(ada), headers=HTMX)

    assert "Became Suspended 1" in shown(response)
    assert held_by(grace) == set()


def test_do_not_notify_owes_no_change_email(client: Client, ada: User) -> None:
    ticking(ada, [make_user()])

    client.post(APPLY, form(ada, "meeting", quiet="on"), headers=HTMX)

    assert list(Notification.objects.values_list("kind", flat=True)) == ["ONBOARDING"]


def test_the_same_form_twice_is_one_change_and_leaves_new_ticks_alone(client: Client, ada: User) -> None:
    ticking(ada, [make_user()])
    posted = form(ada, "rescue")
    client.post(APPLY, posted, headers=HTMX)
    ticking(ada, [make_user(), make_user()])

    response = client.post(APPLY, posted, headers=HTMX)

    assert "1 user changed" in shown(response)
    assert BulkChange.objects.count() == 1
    assert len(selection_draft(ada, now=now()).ids) == 2


def test_the_same_key_with_other_content_is_refused(client: Client, ada: User) -> None:
    ticking(ada, [make_user()])
    posted = form(ada, "rescue")
    client.post(APPLY, posted, headers=HTMX)

    response = client.post(APPLY, {**posted, "product": ids("central")}, headers=HTMX)

    assert response.status_code == 409
    assert "already used for another change" in shown(response)
    assert str(posted["key"]) not in response.content.decode()


def test_without_javascript_the_way_leads_to_the_change(client: Client, ada: User) -> None:
    grace = make_user()

    response = client.post(APPLY, {**form(ada, "rescue"), "draft": "", "user": [grace.pk]})

    made = BulkChange.objects.get()
    assert (response.status_code, response["Location"]) == (303, f"/changes/{made.pk}/")
    assert held_by(grace) == {"rescue"}


def test_a_large_change_answers_with_its_progress(client: Client, ada: User, settings: Any) -> None:
    settings.BULK_AT_ONCE = 1
    ticking(ada, [make_user(), make_user()])

    response = client.post(APPLY, form(ada, "rescue", expected=2), headers=HTMX)

    made = BulkChange.objects.get()
    assert made.state == BulkChange.State.RUNNING
    assert "0 of 2 users" in shown(response)
    assert f'hx-get="/changes/{made.pk}/?said=0" hx-trigger="every 1s"' in response.content.decode()


def test_until_full_applies_to_as_many_as_there_are_seats(client: Client, ada: User) -> None:
    limit("rescue", 1)
    ann, bob = give(make_user(), "meeting"), give(make_user(), "meeting")
    ticking(ada, [bob, ann])

    response = client.post(APPLY, form(ada, "rescue", expected=2, until_full="on"), headers=HTMX)

    assert "1 user changed" in shown(response)
    assert "No seat was left" in shown(response)
    assert (held_by(ann), held_by(bob)) == ({"rescue"}, {"meeting"})


# Who may


def test_who_is_signed_out_signs_in_and_comes_back(client: Client) -> None:
    current = {**HTMX, "HX-Current-URL": "http://testserver/users/?role=MEMBER"}
    for response in (
        client.get(OPEN, headers=current),
        client.post(PREVIEW, headers=current),
        client.post(APPLY, headers=current),
    ):
        assert response["HX-Redirect"] == "/accounts/login/?next=/users/%3Frole%3DMEMBER"


@pytest.mark.parametrize("role", [Role.MEMBER, Role.SUPPORT])
def test_who_may_not_set_products_may_not_open_it(client: Client, role: str) -> None:
    somebody = give(make_user(role=role), "rescue")
    client.force_login(somebody)

    assert client.get(OPEN, headers=HTMX).status_code == 403
    assert client.post(PREVIEW, form(somebody), headers=HTMX).status_code == 403
    assert client.post(APPLY, form(somebody), headers=HTMX).status_code == 403


def test_an_admin_reduced_meanwhile_changes_nothing(client: Client, ada: User) -> None:
    grace = make_user()
    ticking(ada, [grace])
    posted = form(ada, "rescue")
    User.objects.filter(pk=ada.pk).update(role=Role.SUPPORT)

    assert client.post(APPLY, posted, headers=HTMX).status_code == 403
    assert held_by(grace) == set()


def test_other_methods_are_refused(client: Client, ada: User) -> None:
    assert client.post(OPEN).status_code == 405
    assert client.get(PREVIEW).status_code == 405
    assert client.get(APPLY).status_code == 405


def test_a_change_of_another_admin_may_use_the_same_key(client: Client, ada: User) -> None:
    key = uuid.uuid4()
    change(make_user(role=Role.ADMIN), [make_user()], "rescue", key=key)
    ticking(ada, [make_user()])

    assert client.post(APPLY, form(ada, "rescue", key=key), headers=HTMX).status_code == 200
