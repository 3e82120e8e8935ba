"""The dialog Manage products: what it shows, the preview, and applying the change."""

import re
import uuid
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import now

from notifications.models import Notification
from products import actions
from products.models import BulkChange, Mode, Product, SelectionDraft
from products.queries import selection_draft
from tests.console.pages import shown
from tests.factories import change, give, held_by, ids, limit, make_group, make_holders, make_user, make_users, product
from users.models import Role, User
from users.queries import UserFilter

pytestmark = pytest.mark.django_db
OPEN, PREVIEW, APPLY = "/users/products/", "/users/products/preview/", "/users/products/apply/"
NAMES, EXPORT = "/users/products/names/", "/users/products/names.csv"
HTMX = {"HX-Request": "true"}


@pytest.fixture
def manager(client: Client) -> User:
    """Return the manager of the group Sales, signed in."""
    manager = make_user("Mary Manager", role=Role.MANAGER, manages=[make_group("Sales")])
    client.force_login(manager)
    return manager


def member_of(manager: User, name: str = "", **fields: Any) -> User:
    """Return a user whom the manager manages."""
    return make_user(name, groups=manager.managed_groups.all(), **fields)


def ticking(owner: User, users: Iterable[User]) -> SelectionDraft:
    """Return the owner's selection draft with these users ticked."""
    return actions.tick_users(owner=owner, user_ids=[user.pk for user in users], ticked=True, now=now())


def opened(client: Client, owner: User, *users: User, **headers: str) -> Any:
    """Open the dialog for these users, as the bar of the selection does."""
    return client.get(OPEN, {"draft": ticking(owner, users).pk}, headers={**HTMX, **headers})


def form(owner: User, *codes: str, mode: str = Mode.REPLACE, expected: int = 1, **fields: Any) -> dict[str, Any]:
    """Return what the form posts."""
    posted = {"key": uuid.uuid4(), "mode": mode, "shown": mode, "product": ids(*codes), "expected": expected}
    return {**posted, "draft": selection_draft(owner, now=now()).pk, **fields}


def box(response: Any, code: str) -> str:
    """Return the checkbox of a product."""
    return re.findall(rf'<input type="checkbox" name="product" value="{product(code).pk}"[^>]*>', response.content.decode())[0]


def facts(response: Any, code: str) -> str:
    """Return what stands beside the checkbox of a product."""
    found = re.search(rf'id="product-{product(code).pk}-facts">(.*?)</p>', response.content.decode(), re.DOTALL)
    assert found
    return " ".join(re.sub(r"<[^>]+>", " ", found[1]).split())


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


# The names behind a number


def links(response: Any) -> dict[str, str]:
    """Return the ways to the names of a preview, by the ids of their links."""
    found = re.findall(r'<a [^>]*?id="names-([\w-]+)" href="([^"]+)"', response.content.decode())
    return {name: href.replace("&amp;", "&") for name, href in found}


def test_every_number_leads_to_its_names(client: Client, ada: User) -> None:
    limit("webinar", 1)
    grace, alan, mary = give(make_user("Grace Hopper"), "rescue"), make_user("Alan Turing"), make_user("Mary Shelley")
    ticking(ada, [grace, alan, mary])

    seen = links(client.post(PREVIEW, form(ada, "meeting", "webinar", until_full="on"), headers=HTMX))

    meeting, rescue, webinar = product("meeting").pk, product("rescue").pk, product("webinar").pk
    behind = {
        "changed": {"Grace Hopper"},
        "left_out": {"Alan Turing", "Mary Shelley"},
        f"gains-{meeting}": {"Grace Hopper"},
        f"gains-{webinar}": {"Grace Hopper"},
        f"losses-{rescue}": {"Grace Hopper"},
        "change_emails": {"Grace Hopper"},
        f"onboarding_emails-{meeting}": {"Grace Hopper"},
        f"onboarding_emails-{webinar}": {"Grace Hopper"},
    }
    assert seen.keys() == behind.keys()
    for number, url in seen.items():
        names = re.findall(r'names-name">([^<]+)<', client.get(url, headers=HTMX).content.decode())
        assert set(names) == behind[number]


def test_the_names_say_what_each_holds_now_and_afterwards(client: Client, ada: User) -> None:
    draft = ticking(ada, [give(make_user("Grace Hopper", email="grace@tests.example"), "rescue"), make_user()])

    words = shown(client.get(NAMES, {"draft": draft.pk, "mode": "REPLACE", "number": "suspending"}, headers=HTMX))

    assert "Users who become Suspended" in words
    assert "Grace Hopper grace@tests.example Rescue Suspended" in words


def test_a_hundred_names_are_shown_page_by_page_there_and_back(client: Client, ada: User) -> None:
    draft = ticking(ada, make_users(120, "Ann{n:03}"))
    url = f"{NAMES}?draft={draft.pk}&mode=ADD&product={product('rescue').pk}&number=changed"

    def names(page: Any) -> list[str]:
        return re.findall(r'names-name">([^<]+)<', page.content.decode())

    def way(page: Any, where: str) -> str:
        found = re.search(rf'id="names-{where}" href="([^"]+)"', page.content.decode())
        return NAMES + found[1].replace("&amp;", "&") if found else ""

    first = client.get(url)
    second = client.get(way(first, "next"))
    third = client.get(way(second, "next"), headers={**HTMX, "HX-Target": "names-list"})

    assert names(first) + names(second) + names(third) == [f"Ann{n:03}" for n in range(120)]
    assert (way(first, "previous"), way(third, "next")) == ("", "")
    assert names(client.get(way(third, "previous"))) == names(second)
    assert b"<html" not in third.content


def test_without_javascript_the_names_are_a_page_and_the_way_back_keeps_the_choice(client: Client, ada: User) -> None:
    grace = make_user()
    posted = {**form(ada, "rescue", quiet="on", reason="Pilot"), "draft": "", "user": [grace.pk, ada.pk]}

    page = client.get(links(client.post(PREVIEW, posted))["changed"])
    back = re.search(r'href="(/users/products/\?[^"]+)"', page.content.decode())
    assert back
    response = client.get(back[1].replace("&amp;", "&"))

    assert "<h1>Users who are changed</h1>" in page.content.decode()
    assert " checked" in box(response, "rescue")
    assert ">Pilot</textarea>" in response.content.decode()
    assert re.search(r'name="quiet"[^>]* checked', response.content.decode())
    assert "for 2 users" in shown(response)


def test_the_names_come_as_a_file(client: Client, ada: User) -> None:
    draft = ticking(ada, [give(make_user("=Grace Hopper", email="grace@tests.example"), "rescue")])

    response = client.get(EXPORT, {"draft": draft.pk, "mode": "REPLACE", "number": "suspending"})

    rows = b"".join(response.streaming_content).decode().splitlines()  # type: ignore[attr-defined]
    assert response["Content-Disposition"] == 'attachment; filename="users-suspending.csv"'
    assert [row.partition(",")[2] for row in rows] == ["Name,Email,Now,Afterwards", "'=Grace Hopper,grace@tests.example,Rescue,"]


def test_nobody_out_of_scope_is_ever_named(client: Client, manager: User) -> None:
    stranger = make_user("Sam Stranger")

    words = shown(client.get(NAMES, {"user": stranger.pk, "mode": "REPLACE", "number": "unchanged"}))

    assert "Stranger" not in words
    assert "Nobody any more." in words


@pytest.mark.parametrize(
    "wrong",
    [
        {"number": "x"},
        {"number": "gains"},
        {"of": "1"},
        {"mode": "ALL"},
        {"after": "x"},
        {"draft": "x"},
        {"product": "x"},
        {"user": "x"},
    ],
)
@pytest.mark.parametrize("url", [NAMES, EXPORT])
def test_a_number_that_no_preview_has_is_refused(client: Client, ada: User, wrong: dict[str, str], url: str) -> None:
    assert client.get(url, {"mode": "REPLACE", "number": "changed", "user": ada.pk, **wrong}).status_code == 400


@pytest.mark.parametrize("url", [NAMES, EXPORT])
def test_the_names_are_for_who_may_set_products(client: Client, url: str) -> None:
    admin, support = make_user(role=Role.ADMIN), make_user(role=Role.SUPPORT)
    asked = {"mode": "REPLACE", "number": "changed", "draft": ticking(admin, [support]).pk}
    assert client.get(url, asked).status_code == 302
    client.force_login(support)
    assert client.get(url, asked).status_code == 403
    client.force_login(make_user(role=Role.ADMIN))
    assert client.get(url, asked).status_code == 404
    assert client.post(url, asked).status_code == 405


def test_the_names_of_a_choice_that_may_not_be_made_are_not_told(client: Client, manager: User) -> None:
    asked = {"mode": "ADD", "number": "changed", "user": member_of(manager).pk, "product": product("central").pk}

    assert client.get(NAMES, asked, headers=HTMX).status_code == 422
    assert client.get(EXPORT, asked).status_code == 422


# Refusals: nothing is changed, the input is kept, the sentence stands beside its cause


def refused(client: Client, posted: dict[str, Any], status: int = 422) -> Any:
    before = BulkChange.objects.count()
    response = client.post(APPLY, posted, headers=HTMX)
    assert (response.status_code, BulkChange.objects.count()) == (status, before)
    return response


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
    assert "There is no product with the number 999999" in shown(response)


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
