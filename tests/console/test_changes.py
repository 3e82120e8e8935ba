"""The bulk changes: the list, and the page of one with its progress, result, users, skips and emails."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import now

from notifications.models import Notification, State
from products import actions
from products.models import BulkChange, BulkChangeMove, Mode, Source
from tests.factories import change, give, make_group, make_user, product
from users.models import Role, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada(client: Client) -> User:
    """Return an admin who is signed in."""
    ada = make_user("Ada Admin", role=Role.ADMIN)
    client.force_login(ada)
    return ada


@pytest.fixture
def in_batches(settings: Any) -> None:
    """Let a change of more than two users be a large one, in batches of ten."""
    settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE = 2, 10


def page_of(client: Client, made: BulkChange, query: str = "", target: str = "") -> Any:
    """Ask for the page of a change, or as htmx for one part of it."""
    headers = {"HX-Request": "true", "HX-Target": target} if target else {}
    return client.get(f"/changes/{made.pk}/{query}", headers=headers)


def shown(response: Any) -> str:
    """Return the words of an answer, without tags."""
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


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

    assert f"#{first.pk} Set to GoTo Meeting, GoTo Webinar New contract Otto Other just now 1 Finished 0.0 s" in words
    assert f"#{second.pk} Remove Rescue Ada Admin just now 2 Finished" in words
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

    assert statements(3) == statements(60)


# One change


def test_the_page_tells_what_was_asked_and_what_happened(client: Client, ada: User) -> None:
    grace = give(make_user("Grace Hopper", email="grace@tests.example"), "rescue", "central")
    made = change(ada, [grace, give(make_user(), "meeting")], "meeting", reason="New contract", now=now())

    words = shown(page_of(client, made))

    assert "Set to GoTo Meeting" in words
    assert "1 user changed" in words
    assert "Changed 1 Unchanged 1 Skipped 0" in words
    assert "Removed Rescue 1 Central 1 Granted GoTo Meeting 1" in words
    assert "Change emails 1 waiting Onboarding: GoTo Meeting 1 waiting" in words
    assert "Grace Hopper grace@tests.example Rescue, Central GoTo Meeting" in words
    assert f'<a href="/users/{grace.pk}/">Grace Hopper</a>' in page_of(client, made).content.decode()
    assert "Reason New contract" in words


def test_who_became_suspended_shows_as_such(client: Client, ada: User) -> None:
    made = change(ada, [give(make_user("Grace Hopper"), "rescue")], notify=False)

    words = shown(page_of(client, made))

    assert "Remove all products" in words
    assert "Became Suspended 1" in words
    assert "Rescue Suspended" in words
    assert "No, users were not notified" in words


def test_the_fates_of_its_emails_are_counted(client: Client, ada: User) -> None:
    made = change(ada, [make_user() for _ in range(5)], "meeting")
    mails = list(Notification.objects.filter(kind="CHANGE").order_by("id"))
    for mail, state in zip(mails, [State.SENT, State.SENT, State.FAILED, State.EXPIRED], strict=False):
        Notification.objects.filter(pk=mail.pk).update(state=state)
    Notification.objects.filter(kind="ONBOARDING").update(state=State.SENT)

    words = shown(page_of(client, made))

    assert "Change emails 2 sent 1 waiting 2 failed" in words
    assert "Onboarding: GoTo Meeting 5 sent" in words


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
    assert "Betty Boss" in words


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


@pytest.mark.usefixtures("in_batches")
def test_users_and_skips_are_paged(client: Client) -> None:
    sales = make_group("Sales")
    manager = make_user(role=Role.MANAGER, manages=[sales])
    users = [make_user(f"User {n:03}", groups=[sales], role=Role.ADMIN if n % 2 else Role.MEMBER) for n in range(120)]
    made = change(manager, users, "rescue")
    while actions.advance_bulk_change(change_id=made.pk, now=now()) is actions.Step.MORE:
        pass
    client.force_login(manager)

    def names(response: Any) -> list[str]:
        return re.findall(r"User (\d{3})<", response.content.decode())

    even, odd = [f"{n:03}" for n in range(0, 120, 2)], [f"{n:03}" for n in range(1, 120, 2)]
    assert names(page_of(client, made)) == even[:50] + odd[:50]
    after = re.findall(r"\?after=\d+", page_of(client, made).content.decode())[0]
    assert names(page_of(client, made, after, "change-users")) == even[50:]
    after = re.findall(r"\?skipped_after=\d+", page_of(client, made).content.decode())[0]
    assert names(page_of(client, made, after, "change-skips")) == odd[50:]


@pytest.mark.usefixtures("in_batches")
def test_the_progress_asks_for_itself_until_the_result_is_there(client: Client, ada: User) -> None:
    made = change(ada, [make_user() for _ in range(12)], "rescue", now=now())
    assert "0 of 12 users" in shown(page_of(client, made))
    assert '<noscript><meta http-equiv="refresh" content="3"></noscript>' in page_of(client, made).content.decode()

    actions.advance_bulk_change(change_id=made.pk, now=now())
    running = page_of(client, made, "?said=0", "change-state")
    assert "10 of 12 users" in shown(running)
    assert 'max="12" value="10"' in running.content.decode()
    assert "80 percent done" in shown(running)
    assert f'hx-get="/changes/{made.pk}/?said=80" hx-trigger="every 1s"' in running.content.decode()
    assert "HX-Trigger" not in running

    assert "percent done" not in shown(page_of(client, made, "?said=80", "change-state"))  # nothing new to speak of

    while actions.advance_bulk_change(change_id=made.pk, now=now()) is actions.Step.MORE:
        pass
    over = page_of(client, made, "?said=80", "change-state")
    assert "12 users changed" in shown(over)
    assert "hx-trigger" not in over.content.decode()
    assert "users-changed" in over["HX-Trigger"]
    assert "meta http-equiv" not in page_of(client, made).content.decode()


@pytest.mark.usefixtures("in_batches")
def test_a_long_change_is_asked_for_less_often(client: Client, ada: User) -> None:
    made = change(ada, [make_user() for _ in range(3)], "rescue", now=now() - timedelta(minutes=1))

    assert 'hx-trigger="every 3s"' in page_of(client, made, "?said=0", "change-state").content.decode()


@pytest.mark.usefixtures("in_batches")
def test_a_paused_change_says_why(client: Client, ada: User) -> None:
    otto = make_user("Otto Other", role=Role.ADMIN)
    made = change(otto, [make_user() for _ in range(12)], "rescue", now=now())
    actions.advance_bulk_change(change_id=made.pk, now=now())
    User.objects.filter(pk=otto.pk).update(role=Role.MEMBER)
    actions.advance_bulk_change(change_id=made.pk, now=now())

    words = shown(page_of(client, made))

    assert "Paused after 10 of 12 users Otto Other may no longer set products." in words
    assert "every" not in page_of(client, made, "?said=0", "change-state").content.decode()


def test_the_page_costs_the_same_for_few_and_many(client: Client, ada: User) -> None:
    def statements(size: int) -> int:
        made = change(ada, [give(make_user(), "rescue") for _ in range(size)], "meeting")
        with CaptureQueriesContext(connection) as captured:
            page_of(client, made)
        return len(captured)

    statements(1)  # writes when the admin was seen

    assert statements(3) == statements(60)


# Who may


def test_who_is_signed_out_signs_in_and_comes_back(client: Client) -> None:
    assert client.get("/changes/7/")["Location"] == "/accounts/login/?next=/changes/7/"
    asking = {"HX-Request": "true", "HX-Target": "change-state", "HX-Current-URL": "http://testserver/changes/7/"}
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
