"""The bulk changes: the list, and the page of one with its progress, result, users, skips and emails."""

import csv
import io
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import now

from admin_console import change_page
from admin_console.templatetags.console import duration, time_left
from notifications.models import Notification, State
from products import actions, reports
from products.models import AccessChange, BulkChange, BulkChangeBatch, BulkChangeMove, BulkChangeSkip, Mode, Source
from tests.console.pages import shown
from tests.factories import change, give, held_by, limit, make_group, make_holders, make_user, make_users, product
from users.models import Role, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def in_batches(settings: Any) -> None:
    """Let a change of more than two users be a large one, in batches of ten."""
    settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE = 2, 10


def page_of(client: Client, made: BulkChange, query: str = "", target: str = "") -> Any:
    """Ask for the page of a change, or as htmx for one part of it."""
    headers = {"HX-Request": "true", "HX-Target": target} if target else {}
    return client.get(f"/changes/{made.pk}/{query}", headers=headers)


def listed(client: Client, query: str = "") -> str:
    """Return the words of the list, without the drop-downs above it."""
    return shown(client.get(f"/changes/{query}", headers={"HX-Request": "true", "HX-Target": "results"}))


def numbers(response: Any) -> list[int]:
    """Return the numbers of the listed changes."""
    return [int(n) for n in re.findall(r'<a href="/changes/(\d+)/"><span', response.content.decode())]


# The list


def test_the_list_tells_who_did_what_for_how_many_and_why(client: Client, ada: User) -> None:
    grace = give(make_user("Grace Hopper"), "rescue")
    first = change(make_user("Otto Other", role=Role.ADMIN), [grace], "meeting", "webinar", reason="New contract", now=now())
    second = change(ada, [grace, make_user()], "rescue", mode=Mode.REMOVE, now=now())
    change(ada, [grace], now=now())

    words = listed(client)

    set_to = rf"#{first.pk} Set to GoTo Meeting, GoTo Webinar New contract Otto Other just now \S+ \S+ UTC 1 Finished &lt; 0\.1 s"
    assert re.search(set_to, words)
    assert re.search(rf"#{second.pk} Remove Rescue Ada Admin just now \S+ \S+ UTC 2 Finished", words)
    assert words.index("Remove all products") < words.index("Remove Rescue") < words.index("Set to GoTo Meeting")


def test_an_empty_list_says_so(client: Client, ada: User) -> None:
    assert "There are no changes yet" in shown(client.get("/changes/"))


def test_older_changes_are_on_the_next_page(client: Client, ada: User) -> None:
    grace = make_user()
    made = [change(ada, [grace], *codes).pk for codes in [["rescue"], []] * 26]

    first = client.get("/changes/?kind=REPLACE")
    assert numbers(first) == made[:1:-1]
    older = re.findall(r'href="/changes/(\?kind=REPLACE&amp;before=\d+)"', first.content.decode())[0].replace("&amp;", "&")
    second = client.get(f"/changes/{older}")
    assert numbers(second) == made[1::-1]
    assert "Older" not in shown(second)


def test_a_page_of_the_list_that_cannot_be_is_the_first(client: Client, ada: User) -> None:
    assert client.get("/changes/?before=x").status_code == 200
    assert "There are no older changes" in shown(client.get("/changes/?before=1"))


def test_the_list_is_narrowed_down(client: Client, ada: User) -> None:
    grace, otto = give(make_user(), "central"), make_user("Otto Other", role=Role.ADMIN)
    by_otto = change(otto, [grace], "meeting", now=datetime(2026, 3, 1, 12, tzinfo=UTC), reason="New contract")
    added = change(ada, [grace], "rescue", mode=Mode.ADD, now=datetime(2026, 3, 2, 12, tzinfo=UTC))
    imported = change(ada, [grace], "webinar", mode=Mode.ADD, source=Source.IMPORT, now=datetime(2026, 3, 3, 12, tzinfo=UTC))
    paused = change(ada, [make_user()], "meeting", now=datetime(2026, 3, 4, 12, tzinfo=UTC))
    BulkChange.objects.filter(pk=paused.pk).update(state=BulkChange.State.PAUSED)

    def found(query: str) -> list[int]:
        return numbers(client.get(f"/changes/?{query}"))

    assert found(f"actor={otto.pk}") == [by_otto.pk]
    assert found("kind=ADD") == [added.pk]
    assert found("kind=IMPORT") == [imported.pk]
    assert found("state=PAUSED") == [paused.pk]
    assert found(f"product={product('meeting').pk}") == [paused.pk, by_otto.pk]
    assert found("from=2026-03-02&to=2026-03-03") == [imported.pk, added.pk]
    assert found("search=contract") == [by_otto.pk]
    assert found(f"search=%23{added.pk}") == found(f"search={added.pk}") == [added.pk]
    assert found("kind=ADD&state=PAUSED") == []
    assert "No change matches all of the filters" in listed(client, "?kind=ADD&state=PAUSED")


def test_who_lost_a_product_is_found_by_it(client: Client, ada: User) -> None:
    made = change(ada, [give(make_user(), "central")], "meeting")
    BulkChangeMove.objects.update_or_create(change=made, product=product("central"), defaults={"lost": 1})

    assert numbers(client.get(f"/changes/?product={product('central').pk}")) == [made.pk]


def test_days_are_those_of_the_reader(client: Client, ada: User) -> None:
    User.objects.filter(pk=ada.pk).update(time_zone="Asia/Tokyo")
    made = change(ada, [make_user()], "rescue", now=datetime(2026, 3, 1, 20, tzinfo=UTC))

    assert numbers(client.get("/changes/?from=2026-03-02&to=2026-03-02")) == [made.pk]
    assert numbers(client.get("/changes/?from=2026-03-01&to=2026-03-01")) == []


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("state=NONE", "There is no State “NONE” to filter by; it was left out."),
        ("actor=x", "There is no Admin “x” to filter by; it was left out."),
        ("product=99999999999999999999", "There is no Product “99999999999999999999” to filter by; it was left out."),
        ("from=2026-02-31", "“2026-02-31” is not a date; it was left out."),
        ("to=9999-12-31", ""),
        ("from=2026-03-02&to=2026-03-01", "The first day comes after the last one, so nothing can be found."),
        ("search=%00", ""),
        ("search=99999999999999999999", ""),
    ],
)
def test_a_filter_that_cannot_be_is_said_and_the_rest_is_kept(client: Client, ada: User, query: str, sentence: str) -> None:
    response = client.get(f"/changes/?kind=ADD&{query}")

    assert response.status_code == 200
    assert sentence in shown(response)
    assert '<option value="ADD" selected>' in response.content.decode()


def test_a_manager_sees_their_own_changes_only(client: Client) -> None:
    sales = make_group("Sales")
    manager = make_user("Mary Manager", role=Role.MANAGER, manages=[sales])
    grace = make_user(groups=[sales])
    own = change(manager, [grace], "rescue")
    foreign = change(make_user("Otto Other", role=Role.ADMIN), [grace], "meeting")
    client.force_login(manager)

    assert numbers(client.get("/changes/")) == [own.pk]
    assert "Otto Other" not in shown(client.get("/changes/"))
    assert page_of(client, own).status_code == 200
    assert page_of(client, foreign).status_code == 404


def test_the_list_costs_the_same_for_few_and_many(client: Client, ada: User) -> None:
    def statements(size: int) -> int:
        grace = make_user()
        for n in range(size):
            change(ada, [grace], *(["rescue"] if n % 2 else []))
        with CaptureQueriesContext(connection) as captured:
            client.get("/changes/")
        return len(captured)

    statements(1)  # writes when the admin was seen

    assert statements(3) == statements(12)


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


def run(made: BulkChange) -> BulkChange:
    """Do what a worker does for a change until there is nothing more to do."""
    while actions.advance_bulk_change(change_id=made.pk, now=now()) is actions.Step.MORE:
        pass
    made.refresh_from_db()
    return made


def named(response: Any) -> list[str]:
    """Return the numbers of those listed who are called "User …"."""
    return re.findall(r"User (\d{3})<", response.content.decode())


def ways(response: Any) -> dict[str, str]:
    """Return the queries that lead to other pages of the users."""
    found = re.findall(r'id="people-(\w+)" href="/changes/\d+/([^"#]*)#change-people"', response.content.decode())
    return {name: query.replace("&amp;", "&") for name, query in found}


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


def test_a_manager_finds_only_whom_they_may_see(client: Client) -> None:
    sales = make_group("Sales")
    manager = make_user(role=Role.MANAGER, manages=[sales])
    grace = make_user("Grace Hopper", groups=[sales])
    made = change(manager, [grace, make_user("Anna Alt", groups=[sales])], "rescue")
    grace.memberships.all().delete()
    client.force_login(manager)

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
    sales = make_group("Sales")
    manager = make_user(role=Role.MANAGER, manages=[sales])
    grace = make_user("Grace Hopper", groups=[sales])
    made = change(manager, [grace, make_user("Anna Alt", groups=[sales])], "rescue")
    grace.memberships.all().delete()
    client.force_login(manager)

    _header, gone, there = exported(client, made)

    assert gone[:3] == ["", "", ""]
    assert there[1] == "Anna Alt"


def test_the_file_is_named_after_the_change(client: Client, ada: User) -> None:
    made = change(ada, [make_user()], "rescue")

    response = client.get(f"/changes/{made.pk}/users.csv")

    assert response["Content-Disposition"] == f'attachment; filename="change-{made.pk}.csv"'
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert client.get("/changes/4711/users.csv").status_code == 404


# Progress


@pytest.mark.usefixtures("in_batches")
def test_the_progress_asks_for_itself_until_the_result_is_there(client: Client, ada: User) -> None:
    made = change(ada, make_users(12), "rescue", now=now())
    assert "0 of 12 users" in shown(page_of(client, made))
    assert '<noscript><meta http-equiv="refresh" content="3"></noscript>' in page_of(client, made).content.decode()

    actions.advance_bulk_change(change_id=made.pk, now=now())
    running = page_of(client, made, "?said=0", "change-progress")
    assert "10 of 12 users" in shown(running)
    assert "Granted Rescue 10" in shown(running)
    assert 'max="12" value="10"' in running.content.decode()
    assert 'data-title="83 %"' in running.content.decode()
    assert "80 percent done" in shown(running)
    assert f'hx-get="/changes/{made.pk}/?said=80" hx-trigger="every 1s"' in running.content.decode()
    assert "HX-Trigger" not in running

    assert "percent done" not in shown(page_of(client, made, "?said=80", "change-progress"))  # nothing new to speak of

    run(made)
    over = page_of(client, made, "?said=80", "change-progress")
    assert "12 users changed" in shown(over)
    assert over["HX-Retarget"] == f"#change-{made.pk}-state"
    assert 'hx-trigger="every' not in over.content.decode()
    assert "users-changed" in over["HX-Trigger"]
    assert "meta http-equiv" not in page_of(client, made).content.decode()


def test_a_change_that_waits_says_for_which(client: Client, ada: User, in_batches: None) -> None:
    users = make_users(4)
    first, second = change(ada, users, "rescue"), change(ada, users, "central")

    assert f"It waits for change #{first.pk}" in shown(page_of(client, second))
    run(first)
    assert "It waits for" not in shown(page_of(client, second))


def test_skips_and_emails_of_a_large_change_are_counted_afterwards(
    client: Client, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_page, "COUNT_AT_ONCE", 1)
    made = change(ada, [make_user(), make_user()], "rescue")

    page = page_of(client, made)
    assert f'hx-get="/changes/{made.pk}/" hx-trigger="load"' in page.content.decode()
    assert "waiting" not in shown(page)
    assert "Change emails 2 owed 2 waiting" in shown(page_of(client, made, target="change-details"))
    assert "Change emails 2 owed 2 waiting" in shown(page_of(client, made, "?counted"))  # without a script


@pytest.mark.usefixtures("in_batches")
def test_a_long_change_is_asked_for_less_often(client: Client, ada: User) -> None:
    made = change(ada, make_users(3), "rescue", now=now() - timedelta(minutes=1))

    assert 'hx-trigger="every 3s"' in page_of(client, made, "?said=0", "change-progress").content.decode()


@pytest.mark.usefixtures("in_batches")
def test_a_paused_change_says_why(client: Client, ada: User) -> None:
    otto = make_user("Otto Other", role=Role.ADMIN)
    made = change(otto, make_users(12), "rescue", now=now())
    actions.advance_bulk_change(change_id=made.pk, now=now())
    User.objects.filter(pk=otto.pk).update(role=Role.MEMBER)
    actions.advance_bulk_change(change_id=made.pk, now=now())

    words = shown(page_of(client, made))

    assert "Paused after 10 of 12 users Otto Other may no longer set products." in words
    assert "every" not in page_of(client, made, "?said=0", "change-progress").content.decode()


def test_the_page_costs_the_same_for_few_and_many(client: Client, ada: User) -> None:
    def statements(size: int) -> int:
        made = change(ada, make_holders(size, "rescue"), "meeting")
        with CaptureQueriesContext(connection) as captured:
            page_of(client, made)
        return len(captured)

    statements(1)  # writes when the admin was seen

    assert statements(3) == statements(60)


# Pausing, resuming, cancelling, trying again


@pytest.fixture
def half_done(in_batches: None, ada: User) -> BulkChange:
    """Return Ada's change of 30 users of whom 10 are done."""
    made = change(ada, make_users(30, "User {n:03}"), "rescue", now=now())
    actions.advance_bulk_change(change_id=made.pk, now=now())
    made.refresh_from_db()
    return made


def press(client: Client, made: BulkChange, verb: str, **headers: str) -> Any:
    """Press a button of a change, with htmx."""
    return client.post(f"/changes/{made.pk}/{verb}/", headers={"HX-Request": "true", "HX-Target": "change-state", **headers})


def test_a_change_is_paused_and_resumed(client: Client, half_done: BulkChange) -> None:
    assert "Pause Cancel…" in shown(page_of(client, half_done))

    paused = press(client, half_done, "pause")
    assert "Paused after 10 of 30 users Ada Admin paused it." in shown(paused)
    assert "Resume Cancel…" in shown(paused)
    assert 'hx-trigger="every' not in paused.content.decode()
    assert actions.advance_bulk_change(change_id=half_done.pk, now=now()) is actions.Step.OVER

    resumed = press(client, half_done, "resume")
    assert "10 of 30 users" in shown(resumed)
    assert 'hx-trigger="every 1s"' in resumed.content.decode()
    assert run(half_done).changed == 30


def test_cancelling_asks_first_and_tells_who_was_not_reached(client: Client, half_done: BulkChange) -> None:
    asked = shown(client.get(f"/changes/{half_done.pk}/cancel/"))
    assert f"Change #{half_done.pk} has reached 10 of 30 users." in asked
    assert "What is done stays as it is. About 20 users are not reached any more and keep what they have." in asked

    cancelled = press(client, half_done, "cancel")

    assert "Cancelled: 10 of 30 users were reached, 20 were not" in shown(cancelled)
    page = page_of(client, half_done, "?show=not_reached")
    assert named(page) == [f"{n:03}" for n in range(10, 30)]
    assert named(page_of(client, half_done, "?show=not_reached&search=user+01")) == [f"{n:03}" for n in range(10, 20)]
    assert BulkChange.objects.get(pk=half_done.pk).state == "CANCELLED"


@pytest.mark.usefixtures("in_batches")
def test_those_not_reached_are_paged_to_and_fro(client: Client, ada: User) -> None:
    made = change(ada, make_users(130, "User {n:03}"), "rescue", now=now())
    actions.advance_bulk_change(change_id=made.pk, now=now())
    actions.cancel_change(actor=ada, change_id=made.pk, now=now())
    left = [f"{n:03}" for n in range(10, 130)]

    first = page_of(client, made, "?show=not_reached")
    assert named(first) == left[:50]
    second = page_of(client, made, ways(first)["next"])
    assert named(second) == left[50:100]
    assert named(page_of(client, made, ways(second)["next"])) == left[100:]
    assert named(page_of(client, made, ways(second)["previous"])) == left[:50]
    assert named(page_of(client, made, ways(first)["last"])) == left[70:]


@pytest.mark.usefixtures("in_batches")
def test_a_number_that_its_user_has_in_the_email_too_finds_them_once(client: Client, ada: User) -> None:
    users = make_users(30, "User {n:03}")
    User.objects.filter(pk=users[20].pk).update(email=f"{users[20].pk}@numbers.example")
    made = change(ada, users, "rescue", now=now())
    actions.cancel_change(actor=ada, change_id=made.pk, now=now())

    assert named(page_of(client, made, f"?show=not_reached&search={users[20].pk}")).count("020") == 1


def test_without_a_script_the_buttons_are_forms(client: Client, half_done: BulkChange) -> None:
    for verb, state in (("pause", "PAUSED"), ("resume", "RUNNING"), ("cancel", "CANCELLED")):
        response = client.post(f"/changes/{half_done.pk}/{verb}/")

        assert (response.status_code, response["Location"]) == (303, f"/changes/{half_done.pk}/")
        assert BulkChange.objects.get(pk=half_done.pk).state == state


def test_what_is_no_longer_possible_is_said(client: Client, half_done: BulkChange) -> None:
    run(half_done)

    for verb in ("pause", "resume", "cancel", "retry"):
        refused = press(client, half_done, verb)
        assert refused.status_code == 409
        assert "That is not possible any more: the change is “Finished” now. 30 users changed" in shown(refused)
        assert client.post(f"/changes/{half_done.pk}/{verb}/").status_code == 303
    assert "That is not possible any more" in shown(page_of(client, half_done))
    assert client.get(f"/changes/{half_done.pk}/cancel/")["Location"] == f"/changes/{half_done.pk}/"


def test_who_may_not_steer_sees_no_buttons_and_is_refused(client: Client, half_done: BulkChange) -> None:
    client.force_login(make_user(role=Role.SUPPORT))
    assert "Pause" not in shown(page_of(client, half_done))
    assert [press(client, half_done, verb).status_code for verb in ("pause", "resume", "cancel", "retry")] == [403] * 4

    client.force_login(make_user(role=Role.MANAGER))
    assert [press(client, half_done, verb).status_code for verb in ("pause", "resume", "cancel", "retry")] == [404] * 4
    assert client.get(f"/changes/{half_done.pk}/cancel/").status_code == 404

    client.force_login(make_user(role=Role.ADMIN))
    assert "Pause" in shown(page_of(client, half_done))
    assert client.get(f"/changes/{half_done.pk}/pause/").status_code == 405


def test_who_could_not_be_changed_is_named_with_the_cause_and_tried_again(client: Client, ada: User, in_batches: None) -> None:
    users = make_users(12, "User {n:03}")
    made = change(ada, users, "rescue", now=now())
    refused = users[4].pk
    BulkChangeBatch.objects.filter(change=made, n=0).update(state="DONE")
    BulkChangeBatch.objects.create(
        change=made, n=9, user_ids=[refused], first_user=refused, last_user=refused, state="FAILED", depth=4
    )
    BulkChangeSkip.objects.create(change=made, user_id=refused, reason="FAILED", detail="the disk is full of flowers")
    BulkChange.objects.filter(pk=made.pk).update(skipped=1, unchanged=9)
    run(made)

    page = page_of(client, made)
    assert "Finished, but 1 user could not be changed" in shown(page)
    assert "User 004" in shown(page_of(client, made, "?show=failed"))
    assert "The database said: the disk is full of flowers" in shown(page_of(client, made, "?show=failed"))

    again = press(client, made, "retry")
    assert "of 12 users" in shown(again)
    assert run(made).state == "FINISHED"
    assert held_by(users[4]) == {"rescue"}


def test_who_failed_in_a_cancelled_change_is_counted_listed_and_tried_again(client: Client, ada: User, in_batches: None) -> None:
    *others, grace = make_users(11, "User {n:03}")
    made = change(ada, [*others, grace], "rescue", now=now())
    made.batches.filter(user_ids=[grace.pk]).update(state="FAILED")
    BulkChangeSkip.objects.create(change=made, user_id=grace.pk, reason="FAILED", detail="too many flowers")
    BulkChange.objects.filter(pk=made.pk).update(skipped=1)

    cancelled = shown(press(client, made, "cancel"))
    assert "1 of 11 users were reached, 10 were not" in cancelled
    assert "1 user could not be changed. They keep what they had. Who, and why" in cancelled
    assert "too many flowers" in shown(page_of(client, made, "?show=failed"))
    assert "Retry failed" in cancelled
    assert "0 of 11 users" in shown(press(client, made, "retry"))
    assert (run(made).state, made.changed, held_by(grace), held_by(others[0])) == ("CANCELLED", 1, {"rescue"}, set())
    page = shown(page_of(client, made))
    assert "Ada Admin cancelled it." in page
    assert "Retry failed" not in page
    assert "There is nobody left to try again." in shown(press(client, made, "retry"))


# Undo


def undo_of(client: Client, made: BulkChange, **posted: str) -> Any:
    """Post the form of an undo, as it is when it was just opened but for what is named, as htmx."""
    page = client.get(f"/changes/{made.pk}/undo/", headers={"HX-Request": "true"}).content.decode()
    hidden = dict(re.findall(r'<input type="hidden" name="(key|expected)" value="([^"]+)"', page))
    return client.post(f"/changes/{made.pk}/undo/", {**hidden, **posted}, headers={"HX-Request": "true", "HX-Target": "undo"})


@pytest.fixture
def done(ada: User) -> BulkChange:
    """Return Ada's change that took Rescue from two and gave three GoTo Meeting; one of them was changed again since."""
    users = [give(make_user("Grace Hopper"), "rescue"), give(make_user("Hedy Lamarr"), "rescue"), make_user("Anna Alt")]
    made = change(ada, users, "meeting", reason="New contract")
    change(ada, users[:1], "meeting", "central")
    return made


def test_the_preview_of_an_undo_tells_what_it_would_do(client: Client, done: BulkChange) -> None:
    words = shown(client.get(f"/changes/{done.pk}/undo/"))

    assert f"Undo change #{done.pk}" in words
    assert "1 user becomes Suspended" in words
    assert "2 Set back" in words.replace("Set back 2", "2 Set back")
    assert "Left alone 1" in words
    assert "Removed GoTo Meeting 2 users Granted Rescue 1 user" in words
    assert "Changed again since 1" in words
    assert "About the change none, not notified" in words
    asked = client.get(f"/changes/{done.pk}/undo/?notify=on", headers={"HX-Request": "true", "HX-Target": "undo-preview"})
    assert "About the change 2" in shown(asked)


def test_an_undo_is_silent_and_links_both_ways(client: Client, done: BulkChange) -> None:
    Notification.objects.all().delete()

    response = undo_of(client, done, reason="A mistake")

    undo = BulkChange.objects.get(undoes=done)
    assert "2 users changed" in shown(response)
    assert "users-changed" in response["HX-Trigger"]
    assert (undo.notify, undo.reason, Notification.objects.count()) == (False, "A mistake", 0)
    assert f"Undo #{done.pk}" in listed(client)
    assert f"Undone by #{undo.pk}" in listed(client)
    assert f"Undo #{undo.pk}" in listed(client)  # the undo can be undone, the list does not offer what was undone once more
    assert f'id="undo-{done.pk}"' not in client.get("/changes/").content.decode()
    assert f'<a href="/changes/{undo.pk}/">' in page_of(client, done).content.decode()
    assert f"Undone by #{undo.pk}" in shown(page_of(client, done))
    assert f"This undoes #{done.pk}" in shown(page_of(client, undo))


def test_an_undo_tells_the_users_if_asked(client: Client, done: BulkChange) -> None:
    Notification.objects.all().delete()

    undo_of(client, done, notify="on")

    assert Notification.objects.count() == 2


def test_without_a_script_an_undo_leads_to_its_page(client: Client, done: BulkChange) -> None:
    page = client.get(f"/changes/{done.pk}/undo/").content.decode()
    hidden = dict(re.findall(r'<input type="hidden" name="(key|expected)" value="([^"]+)"', page))

    response = client.post(f"/changes/{done.pk}/undo/", hidden)

    assert (response.status_code, response["Location"]) == (303, f"/changes/{BulkChange.objects.get(undoes=done).pk}/")
    assert client.post(f"/changes/{done.pk}/undo/", hidden)["Location"] == response["Location"]  # twice is once


def test_an_undo_of_many_asks_to_type_the_number(client: Client, done: BulkChange, settings: Any) -> None:
    settings.BULK_CONFIRM_ABOVE = 2

    assert "Type 3 to confirm" in shown(client.get(f"/changes/{done.pk}/undo/"))
    refused = undo_of(client, done, confirmed="2", reason="A mistake")
    assert refused.status_code == 422
    assert "Type that number to confirm." in shown(refused)
    assert "A mistake" in refused.content.decode()
    assert undo_of(client, done, confirmed="3").status_code == 200


def test_an_undo_for_others_than_shown_is_asked_again(client: Client, done: BulkChange) -> None:
    refused = undo_of(client, done, expected="7")

    assert refused.status_code == 422
    assert "The selection changed since the preview" in shown(refused)
    assert not BulkChange.objects.filter(undoes=done).exists()


def test_an_undo_without_seats_is_refused(client: Client, done: BulkChange) -> None:
    limit("rescue", 0)

    assert "Rescue: 1 needed, 0 free, 1 missing" in shown(client.get(f"/changes/{done.pk}/undo/"))
    assert undo_of(client, done).status_code == 422
    assert not BulkChange.objects.filter(undoes=done).exists()


def test_what_is_undone_has_nothing_to_undo(client: Client, done: BulkChange) -> None:
    undo_of(client, done)

    words = shown(client.get(f"/changes/{done.pk}/undo/"))

    assert "There is nothing to undo: nobody holds what this change wrote." in words
    assert "Undo the change" not in words


def test_an_undo_can_be_undone(client: Client, ada: User) -> None:
    grace = give(make_user(), "rescue")
    made = change(ada, [grace], "meeting")

    undo_of(client, made)
    assert held_by(grace) == {"rescue"}
    undo_of(client, BulkChange.objects.get(undoes=made))
    assert held_by(grace) == {"meeting"}


def test_the_undo_of_a_change_that_runs_is_refused(client: Client, half_done: BulkChange) -> None:
    assert "Undo…" not in shown(page_of(client, half_done))
    assert client.get(f"/changes/{half_done.pk}/undo/").status_code == 409
    assert client.post(f"/changes/{half_done.pk}/undo/").status_code == 409


def test_who_may_undo(client: Client, done: BulkChange) -> None:
    assert "Undo…" in shown(page_of(client, done))
    client.force_login(make_user(role=Role.SUPPORT))
    assert "Undo" not in shown(page_of(client, done)).replace("Undone", "")
    assert client.get(f"/changes/{done.pk}/undo/").status_code == 403
    client.force_login(make_user(role=Role.MANAGER))
    assert client.get(f"/changes/{done.pk}/undo/").status_code == 404
    client.force_login(make_user(role=Role.ADMIN))
    assert client.get(f"/changes/{done.pk}/undo/").status_code == 200
    assert client.post(f"/changes/{done.pk}/undo/", {"key": "x", "expected": "2"}).status_code == 400


# The strip on every page


def strip(client: Client, query: str = "", on: str = "/users/") -> Any:
    """Ask for the strip as a page does."""
    headers = {"HX-Request": "true", "HX-Target": "strip-now", "HX-Current-URL": f"http://testserver{on}"}
    return client.get(f"/changes/running/{query}", headers=headers)


def test_a_running_change_shows_on_every_page(client: Client, half_done: BulkChange) -> None:
    page = client.get("/users/")

    assert f"Change #{half_done.pk} 33 % 10 of 30 users" in shown(page)
    assert 'data-title="33 %"' in page.content.decode()
    assert f"/changes/running/?of={half_done.pk}-0&amp;said=30" in page.content.decode()
    assert "strip-now" not in page_of(client, half_done).content.decode()  # there it is shown anyway


def test_nothing_asks_for_itself_while_nothing_runs(client: Client, ada: User) -> None:
    assert 'hx-trigger="every' not in client.get("/users/").content.decode()


def test_the_strip_goes_on_and_ends_with_one_word(client: Client, half_done: BulkChange) -> None:
    of = f"?of={half_done.pk}-0"
    client.get("/users/")
    actions.advance_bulk_change(change_id=half_done.pk, now=now())
    polled = strip(client, f"{of}&said=30")
    assert "66 % 20 of 30 users" in shown(polled)
    assert f"Change #{half_done.pk}: 60 percent done" in shown(polled)
    assert "percent done" not in shown(strip(client, f"{of}&said=60"))
    assert "percent done" not in shown(strip(client, f"{of}&said=²&watched=²"))

    run(half_done)
    over = strip(client, f"{of}&said=60")
    assert f"Change #{half_done.pk} is finished: 30 users changed. Show it" in shown(over)
    assert 'hx-swap-oob="beforeend:#toasts"' in over.content.decode()
    assert over["HX-Retarget"] == "#strip"
    assert "users-changed" in over["HX-Trigger"]
    assert 'hx-trigger="every' not in over.content.decode()
    assert "is finished" not in shown(strip(client))  # once


def test_who_was_on_the_way_between_two_pages_hears_of_the_end_too(client: Client, half_done: BulkChange) -> None:
    client.get("/users/")
    run(half_done)

    assert "is finished: 30 users changed." in shown(client.get("/users/"))
    assert "is finished" not in client.get("/users/").content.decode().partition('id="toasts"')[2]  # only in the list of notices


def test_who_watches_the_change_hears_of_its_end_there(client: Client, half_done: BulkChange) -> None:
    client.get("/users/")
    run(half_done)

    assert "is finished" not in shown(strip(client, f"?of={half_done.pk}-0", on=f"/changes/{half_done.pk}/"))
    assert "is finished" not in shown(client.get("/users/"))


def test_who_watches_it_in_the_dialog_hears_of_it_there(client: Client, half_done: BulkChange) -> None:
    client.get("/users/")
    actions.advance_bulk_change(change_id=half_done.pk, now=now())
    assert "percent done" not in shown(strip(client, f"?of={half_done.pk}-0&said=30&watched={half_done.pk}"))
    run(half_done)

    assert "is finished" not in shown(strip(client, f"?of={half_done.pk}-0&watched={half_done.pk}"))


def test_who_paused_it_is_not_told(client: Client, half_done: BulkChange) -> None:
    client.get("/users/")
    press(client, half_done, "pause")

    assert "has paused" not in shown(client.get("/users/"))


def test_a_change_that_paused_by_itself_is_told(client: Client, half_done: BulkChange) -> None:
    client.get("/users/")
    BulkChange.objects.filter(pk=half_done.pk).update(state="PAUSED", state_reason="The disk is full.")

    assert f"Change #{half_done.pk} has paused: 10 users changed so far." in shown(client.get("/users/"))


def test_of_several_changes_the_own_one_is_shown(client: Client, ada: User, half_done: BulkChange) -> None:
    otto = make_user("Otto Other", role=Role.ADMIN)
    others = [change(otto, make_users(3), "rescue", now=now()) for _ in range(2)]

    assert f"Change #{half_done.pk} and 2 more" in shown(client.get("/users/"))
    client.force_login(otto)
    assert f"Change #{others[0].pk} and 2 more" in shown(client.get("/users/"))
    client.force_login(make_user(role=Role.MANAGER))
    assert "strip-now" not in client.get("/users/").content.decode()


# Durations


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "< 0.1 s"),
        (0.04, "< 0.1 s"),
        (0.06, "0.1 s"),
        (9.94, "9.9 s"),
        (9.97, "10 s"),
        (59.4, "59 s"),
        (200, "3 min 20 s"),
        (3_900, "1 h 5 min"),
    ],
)
def test_how_long_something_took_is_told_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (7, "7 s"), (31, "35 s"), (61, "2 min"), (3_540, "59 min"), (7_200, "2 h 0 min")]
)
def test_how_long_something_still_takes_is_told_roughly(seconds: int, words: str) -> None:
    assert time_left(seconds) == words


# Who may


def test_who_is_signed_out_signs_in_and_comes_back(client: Client) -> None:
    assert client.get("/changes/7/")["Location"] == "/accounts/login/?next=/changes/7/"
    asking = {"HX-Request": "true", "HX-Target": "change-progress", "HX-Current-URL": "http://testserver/changes/7/"}
    assert client.get("/changes/7/", headers=asking)["HX-Redirect"] == "/accounts/login/?next=/changes/7/"


def test_a_member_may_not(client: Client) -> None:
    made = change(make_user(role=Role.ADMIN), [member := make_user()], "rescue")
    client.force_login(member)

    assert client.get("/changes/").status_code == 403
    assert page_of(client, made).status_code == 403


def test_support_reads_all_changes(client: Client, ada: User) -> None:
    made = change(ada, [make_user()], "rescue")
    client.force_login(make_user(role=Role.SUPPORT))

    assert page_of(client, made).status_code == 200


@pytest.mark.parametrize("number", ["4711", "99999999999999999999"])
def test_an_unknown_change_is_not_found(client: Client, ada: User, number: str) -> None:
    assert client.get(f"/changes/{number}/").status_code == 404


def test_nothing_is_posted_here(client: Client, ada: User) -> None:
    made = change(ada, [make_user()], "rescue")

    assert client.post("/changes/").status_code == 405
    assert client.post(f"/changes/{made.pk}/").status_code == 405
