"""The page of a bulk change: what was asked and what happened to whom, found, paged and as a file."""

import csv
import io
import re
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.test import Client
from django.utils.timezone import now

from notifications.models import Notification, State
from products import actions, reports
from products.models import AccessChange, BulkChange, BulkChangeSkip
from tests.console.change_pages import named, page_of, run, ways
from tests.console.pages import shown
from tests.factories import change, give, make_group, make_user, make_users
from users.models import Role, User

pytestmark = pytest.mark.django_db


# One change


def test_the_page_tells_what_was_asked_and_what_happened(client: Client, ada: User) -> None:
    grace = give(make_user("Grace Hopper", email="grace@tests.example"), "rescue", "central")
    made = change(ada, [grace, give(make_user(), "meeting")], "meeting", reason="New contract", now=now())

    words = shown(page_of(client, made))

    assert "Set to GoTo Meeting" in words
    assert "1 user changed" in words
    assert "Changed 1 Unchanged 1 Skipped 0" in words
    assert "Removed Rescue 1 Central 1 Granted GoTo Meeting 1" in words
    assert "Change emails 1 owed 1 waiting Onboarding: GoTo Meeting 1 owed 1 waiting" in words
    assert "Grace Hopper grace@tests.example Rescue , Central GoTo Meeting" in words
    assert f'<a href="/users/{grace.pk}/">Grace Hopper</a>' in page_of(client, made).content.decode()
    assert "Reason New contract" in words


def test_before_and_after_only_what_moved_is_marked(client: Client, ada: User) -> None:
    grace = give(make_user(), "meeting", "rescue")
    made = change(ada, [grace], "meeting", "webinar", now=now())

    page = page_of(client, made).content.decode()

    assert '">GoTo Meeting, <span class="move-lost">Rescue</span></td>' in page
    assert '">GoTo Meeting, <span class="move-gained">GoTo Webinar</span></td>' in page


def test_who_became_suspended_shows_as_such(client: Client, ada: User) -> None:
    made = change(ada, [give(make_user("Grace Hopper"), "rescue")], notify=False)

    words = shown(page_of(client, made))

    assert "Remove all products" in words
    assert "Became Suspended 1" in words
    assert "Rescue Suspended" in words
    assert "No, users were not notified" in words


def test_the_fates_of_its_emails_are_counted(client: Client, ada: User) -> None:
    made = change(ada, make_users(5), "meeting")
    mails = list(Notification.objects.filter(kind="CHANGE").order_by("id"))
    for mail, state in zip(mails, [State.SENT, State.SENT, State.FAILED, State.EXPIRED], strict=False):
        Notification.objects.filter(pk=mail.pk).update(state=state)
    Notification.objects.filter(kind="ONBOARDING").update(state=State.SENT)

    words = shown(page_of(client, made))

    assert "Change emails 5 owed 2 sent 1 waiting 2 failed" in words
    assert "Onboarding: GoTo Meeting 5 owed 5 sent" in words


def test_a_change_that_changed_nobody_says_so(client: Client, ada: User) -> None:
    made = change(ada, [give(make_user(), "rescue")], "rescue")

    assert "Nobody changed It was like this already." in shown(page_of(client, made))


def test_the_skipped_are_listed_by_name_with_the_cause(client: Client) -> None:
    sales = make_group("Sales")
    manager = make_user(role=Role.MANAGER, manages=[sales])
    boss = make_user("Betty Boss", role=Role.ADMIN, groups=[sales])
    made = change(manager, [boss, make_user(groups=[sales])], "rescue")
    client.force_login(manager)

    words = shown(page_of(client, made))

    assert "Skipped Has a higher role than the admin 1" in words
    assert "Betty Boss" not in words
    assert "Betty Boss" in shown(page_of(client, made, "?show=skipped"))


def test_a_manager_no_longer_reads_the_name_of_who_left_their_groups(client: Client) -> None:
    sales = make_group("Sales")
    manager = make_user(role=Role.MANAGER, manages=[sales])
    grace = make_user("Grace Hopper", groups=[sales])
    made = change(manager, [grace], "rescue")
    grace.memberships.all().delete()
    client.force_login(manager)

    words = shown(page_of(client, made))

    assert "Grace Hopper" not in words
    assert "Somebody who is no longer in your groups" in words


def mixed_change() -> tuple[User, BulkChange]:
    """Return a manager, and their change that reached 60 users and skipped 60 others."""
    sales = make_group("Sales")
    manager = make_user(role=Role.MANAGER, manages=[sales])
    users = [make_user(f"User {n:03}", groups=[sales], role=Role.ADMIN if n % 2 else Role.MEMBER) for n in range(120)]
    return manager, run(change(manager, users, "rescue"))


@pytest.mark.usefixtures("in_batches")
@pytest.mark.parametrize(("fate", "first"), [("changed", 0), ("skipped", 1)])
def test_the_users_of_each_fate_are_paged_to_and_fro(client: Client, fate: str, first: int) -> None:
    manager, made = mixed_change()
    client.force_login(manager)
    of_fate = [f"{n:03}" for n in range(first, 120, 2)]

    start = page_of(client, made, f"?show={fate}")
    assert named(start) == of_fate[:50]
    assert ways(start).keys() == {"next", "last"}
    following = page_of(client, made, ways(start)["next"], "change-people")
    assert named(following) == of_fate[50:]
    assert ways(following).keys() == {"first", "previous"}
    assert named(page_of(client, made, ways(following)["previous"], "change-people")) == of_fate[:50]
    last = page_of(client, made, ways(start)["last"], "change-people")
    assert named(last) == of_fate[10:]
    assert named(page_of(client, made, ways(last)["previous"], "change-people")) == of_fate[:10]


@pytest.mark.usefixtures("in_batches")
def test_users_are_found_by_name_email_and_number(client: Client, ada: User) -> None:
    users = [make_user(f"User {n:03}", email=f"person-{n:03}@tests.example") for n in range(30)]
    made = run(change(ada, users, "rescue"))
    stranger = make_user("User 999")

    assert named(page_of(client, made, "?search=user+007")) == ["007"]
    assert named(page_of(client, made, "?search=PERSON-011@")) == ["011"]
    assert named(page_of(client, made, f"?search={users[12].pk}")) == ["012"]
    assert named(page_of(client, made, f"?search=%23{users[12].pk}")) == ["012"]
    assert "Nobody here is called that" in shown(page_of(client, made, f"?search={stranger.pk}"))


@pytest.mark.usefixtures("in_batches")
def test_a_search_that_finds_many_looks_at_some_of_the_change_at_a_time(
    client: Client, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "FEW", 3)
    monkeypatch.setattr(reports, "WINDOW", 20)
    users = [make_user(f"User {n:03}" if n % 5 == 0 else "Somebody") for n in range(60)]
    made = run(change(ada, users, "rescue"))

    seen, query = [], "?search=user+0"
    while query:
        page = page_of(client, made, query, "change-people")
        seen.append(named(page))
        query = ways(page).get("next", "")

    assert seen == [[f"{n:03}" for n in range(start, start + 20, 5)] for start in (0, 20, 40)]


@pytest.mark.usefixtures("in_batches")
def test_back_to_where_nobody_matches_and_forth_again_leaves_nobody_out(
    client: Client, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "FEW", 3)
    monkeypatch.setattr(reports, "WINDOW", 20)
    users = [make_user("Somebody" if n < 40 else f"User {n:03}") for n in range(60)]
    made = run(change(ada, users, "rescue"))

    def follow(page: Any, way: str) -> Any:
        return page_of(client, made, ways(page)[way], "people-rows")

    found = follow(follow(page_of(client, made, "?search=user+0"), "next"), "next")
    nobody = follow(found, "previous")
    assert (named(found)[0], named(nobody)) == ("040", [])

    assert named(follow(nobody, "next"))[0] == "040"


def test_the_field_of_a_search_is_not_swapped_by_what_it_finds(client: Client, ada: User) -> None:
    made = change(ada, [make_user("Grace Hopper"), make_user("Hedy Lamarr")], "rescue")

    found = page_of(client, made, "?search=grace", "people-rows")

    assert "Grace Hopper" in shown(found)
    assert b'id="people-search"' not in found.content
    tabs = re.search(r'<div class="tabs" id="people-tabs"[^>]*>.*?</div>', found.content.decode())
    assert tabs
    assert 'hx-swap-oob="true"' in tabs[0]
    assert "search=grace" in tabs[0]


def one_has_left(client: Client) -> tuple[BulkChange, User]:
    """Sign a Manager in; return their change of two users, and of these Grace Hopper, who has left their group since."""
    sales = make_group("Sales")
    manager = make_user(role=Role.MANAGER, manages=[sales])
    grace = make_user("Grace Hopper", groups=[sales])
    made = change(manager, [grace, make_user("Anna Alt", groups=[sales])], "rescue")
    grace.memberships.all().delete()
    client.force_login(manager)
    return made, grace


def test_a_manager_finds_only_whom_they_may_see(client: Client) -> None:
    made, grace = one_has_left(client)

    assert "Anna Alt" in shown(page_of(client, made, "?search=Anna"))
    assert "Nobody here is called that" in shown(page_of(client, made, "?search=Grace"))
    assert "Nobody here is called that" in shown(page_of(client, made, f"?search={grace.pk}"))


# The file


def exported(client: Client, made: BulkChange) -> list[list[str]]:
    """Return the rows of a change's file."""
    content = b"".join(client.get(f"/changes/{made.pk}/users.csv").streaming_content)  # type: ignore[attr-defined]
    return list(csv.reader(content.decode("utf-8-sig").splitlines()))


@pytest.mark.usefixtures("in_batches")
def test_all_users_are_exported_with_what_became_of_them(client: Client, ada: User) -> None:
    User.objects.filter(pk=ada.pk).update(time_zone="Europe/Rome")
    grace, hedy = give(make_user("Grace Hopper"), "rescue", "meeting"), give(make_user("Hedy Lamarr"), "central")
    others = make_users(18, "User {n:03}")
    made = change(ada, [grace, hedy, *others], "central")
    actions.advance_bulk_change(change_id=made.pk, now=now())
    made = actions.cancel_change(actor=ada, change_id=made.pk, now=now())
    BulkChangeSkip.objects.create(change=made, user_id=hedy.pk, reason="FAILED", detail="=too much")

    header, *rows = exported(client, made)

    assert header == ["User", "Name", "Email", "Before", "After", "At (Europe/Rome)", "Outcome", "Why"]
    assert [row[0] for row in rows] == [str(user.pk) for user in (grace, hedy, *others)]
    at = AccessChange.objects.get(change=made, user=grace).at.astimezone(ZoneInfo("Europe/Rome"))
    changed = ["GoTo Meeting; Rescue", "Central", f"{at:%Y-%m-%d %H:%M:%S}", "Changed", ""]
    assert rows[0] == [str(grace.pk), "Grace Hopper", grace.email, *changed]
    assert rows[1][3:] == ["", "", "", "Could not be changed", "Could not be changed: '=too much"]
    assert rows[2][3:5] + rows[2][6:] == ["", "Central", "Changed", ""]
    assert rows[-1][3:] == ["", "", "", "Not reached", ""]


def test_who_had_it_already_is_exported_as_unchanged(client: Client, ada: User) -> None:
    made = change(ada, [give(make_user(), "rescue")], "rescue")

    assert exported(client, made)[1][6] == "Unchanged"


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_name_is_no_formula(client: Client, ada: User, name: str) -> None:
    made = change(ada, [make_user(name)], "rescue")

    content = b"".join(client.get(f"/changes/{made.pk}/users.csv").streaming_content).decode("utf-8-sig")  # type: ignore[attr-defined]

    assert next(csv.reader(io.StringIO(content.split("\n", 1)[1], newline="")))[1] == f"'{name}"


def test_a_manager_exports_no_names_of_others(client: Client) -> None:
    made, _grace = one_has_left(client)

    _header, gone, there = exported(client, made)

    assert gone[:3] == ["", "", ""]
    assert there[1] == "Anna Alt"


def test_the_file_is_named_after_the_change(client: Client, ada: User) -> None:
    made = change(ada, [make_user()], "rescue")

    response = client.get(f"/changes/{made.pk}/users.csv")

    assert response["Content-Disposition"] == f'attachment; filename="change-{made.pk}.csv"'
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert client.get("/changes/4711/users.csv").status_code == 404
