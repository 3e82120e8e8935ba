"""A bulk change under way: its progress on its page and on every other; paused, resumed, cancelled, tried again."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import now

from admin_console import change_page
from admin_console.templatetags.console import duration, time_left
from products import actions
from products.models import BulkChange, BulkChangeBatch, BulkChangeSkip
from tests.console.change_pages import named, page_of, press, run, ways
from tests.console.pages import nameless, shown
from tests.factories import change, held_by, make_holders, make_user, make_users
from users.models import Role, User

pytestmark = pytest.mark.django_db


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
    page = client.get(f"/changes/{half_done.pk}/cancel/")
    asked = shown(page)
    assert page.content.decode().count("<h1>Cancel this change?</h1>") == 1
    assert "<h1" not in client.get(f"/changes/{half_done.pk}/cancel/", headers={"HX-Request": "true"}).content.decode()
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
    assert nameless(strip(client, "?of=another")) == nameless(polled) == []

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
