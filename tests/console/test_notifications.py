"""The page Notifications: every email and its fate, what failed tried again, and the addresses that nobody writes to."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import now

from admin_console.user_page import UserPage
from notifications import actions, queries
from notifications.models import MailServer, Notification, State, Suppression
from tests.console.pages import nameless, shown
from tests.factories import change, give, make_group, make_user, make_users, product, undo
from users import invitations
from users.models import Action, AdminAction, Role, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def grace() -> User:
    return make_user("Grace Hopper", email="grace@people.example", language="fr")


def owed(reader: User, kind: str = "ONBOARDING", about: int = 0, **fields: Any) -> Notification:
    """Return an email that is owed; nobody sends it."""
    lane = {"ONBOARDING": 1, "CHANGE": 2}.get(kind, 0)
    return Notification.objects.create(user=reader, kind=kind, about=about or product("meeting").pk, lane=lane, **fields)


def part(client: Client, target: str, query: str = "") -> Any:
    """Ask as htmx for a part of the page."""
    return client.get(f"/notifications/{query}", headers={"HX-Request": "true", "HX-Target": target})


def listed(client: Client, query: str = "") -> list[int]:
    """Return the ids of the emails that the list shows."""
    return [int(n) for n in re.findall(r'href="/notifications/(\d+)/"', part(client, "results", query).content.decode())]


# The list


def test_the_list_tells_what_went_to_whom_and_what_became_of_it(client: Client, ada: User, grace: User) -> None:
    owed(grace, state=State.FAILED, subject="Bienvenue", to_address=grace.email, language="fr", last_words="550 No such user")

    words = shown(part(client, "results"))

    assert (
        "Bienvenue How to start with a product: GoTo Meeting Grace Hopper grace@people.example fr Failed 550 No such user"
        in words
    )
    assert "Notifications" in shown(client.get("/notifications/"))


def test_an_empty_list_says_so(client: Client, ada: User) -> None:
    assert "There are no emails yet" in shown(client.get("/notifications/"))
    assert "No email matches all of the filters" in shown(client.get("/notifications/?state=SENT"))


def test_each_filter_narrows_it_down(client: Client, ada: User, grace: User) -> None:
    made = change(ada, [grace], "rescue", notify=True)
    told = Notification.objects.get(kind="CHANGE")
    start = owed(grace, state=State.DEFERRED, language="fr", possible_duplicate=True)
    alan = owed(
        make_user("Alan Turing"), state=State.SENT, language="en", message_id=f"<onboarding.1.{grace.pk}@console.example>"
    )
    tomorrow = f"{now() + timedelta(days=1):%Y-%m-%d}"

    assert listed(client) == [alan.pk, start.pk, told.pk]
    assert listed(client, "?kind=CHANGE") == [told.pk]
    assert listed(client, "?state=OPEN") == [start.pk, told.pk]
    assert listed(client, "?state=DUPLICATE") == [start.pk]
    assert listed(client, "?state=UNSENT") == []
    assert listed(client, "?language=fr&state=DEFERRED") == [start.pk]
    assert listed(client, f"?product={product('rescue').pk}") == [told.pk]
    assert listed(client, f"?product={product('meeting').pk}") == [alan.pk, start.pk]
    assert listed(client, f"?change=%23{made.pk}") == [told.pk]
    assert listed(client, "?change=4711") == []
    assert listed(client, f"?user={grace.pk}") == [start.pk, told.pk]
    assert listed(client, f"?from={tomorrow}") == []
    assert listed(client, f"?to={tomorrow}") == [alan.pk, start.pk, told.pk]


def test_a_user_is_found_by_name_email_and_message_id(client: Client, ada: User, grace: User) -> None:
    mine = owed(grace)
    owed(make_user("Grace Kelly"))

    assert listed(client, "?search=HOPPER") == [mine.pk]
    assert listed(client, "?search=Grace@People.example") == [mine.pk]
    assert listed(client, f"?search=<onboarding.{mine.about}.{grace.pk}@console.example>") == [mine.pk]
    assert listed(client, "?search=nobody") == []
    both = part(client, "results", "?search=grace")
    assert "Several users are called like this" in shown(both)
    assert f"?user={grace.pk}" in both.content.decode()


def test_the_onboarding_emails_of_a_change_are_found(client: Client, ada: User, grace: User) -> None:
    owed(make_user(), about=product("meeting").pk)  # of no change
    give(grace, "rescue")
    made = change(ada, [grace], "meeting", "webinar", now=now())
    undo(ada, made, now=now())

    found = Notification.objects.filter(user=grace, kind="ONBOARDING").order_by("-id")
    assert listed(client, f"?kind=ONBOARDING&change={made.pk}") == [letter.pk for letter in found]
    [webinar] = [letter.pk for letter in found if letter.about == product("webinar").pk]
    assert listed(client, f"?kind=ONBOARDING&change={made.pk}&product={product('webinar').pk}") == [webinar]


def test_a_filter_that_cannot_be_is_left_out_and_said_so(client: Client, ada: User, grace: User) -> None:
    mine = owed(grace)
    query = "?kind=LOVE&state=%00&language=tlh&product=x&change=one&user=-1&from=soon&before=x"

    words = shown(part(client, "results", query))

    assert listed(client, query) == [mine.pk]
    assert words.count("it was left out") == 6
    late = shown(client.get("/notifications/?from=2026-02-02&to=2026-02-01"))
    assert "The first day comes after the last one, so nothing can be found." in late
    assert part(client, "results", f"?user={10**17}&change={10**17}&before={10**17}").status_code == 200


def test_pages_follow_each_other_by_key(client: Client, ada: User, grace: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("admin_console.notifications_page.PAGE_SIZE", 2)
    made = [owed(reader).pk for reader in make_users(3)]

    assert listed(client, "?state=OPEN") == made[:0:-1]
    older = re.search(r'id="older" href="/notifications/([^"]+)"', part(client, "results", "?state=OPEN").content.decode())
    assert older
    assert listed(client, older[1].replace("&amp;", "&")) == made[:1]


def test_a_search_that_ends_before_it_is_through_says_how_far_it_came(
    client: Client, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    for reader in make_users(3):
        owed(reader, language="de")
    monkeypatch.setattr(queries, "LOOKED_AT", 1)

    words = shown(part(client, "results", "?language=en"))

    assert "None among those looked through so far." in words
    assert "there may be older ones" in words
    assert "Look on" in words


@pytest.mark.parametrize("size", [2, 40])
def test_it_costs_the_same_for_few_and_many(client: Client, ada: User, size: int) -> None:
    for reader in make_users(size):
        owed(reader, state=State.FAILED)
    client.get("/notifications/")  # the first page of a session also notes who was seen

    with CaptureQueriesContext(
        connection,
    ) as page:
        client.get("/notifications/?state=FAILED")
    with CaptureQueriesContext(connection) as counted:
        part(client, "letters-counted")

    assert len(page) == 14
    assert len(counted) == 6


def test_how_many_are_in_each_state_is_told_after_the_list(client: Client, ada: User, grace: User) -> None:
    for state in (State.SENT, State.SENT, State.DEFERRED, State.FAILED):
        owed(make_user(), state=state)

    counted = part(client, "letters-counted", "?state=SENT")

    assert "All 4 Deferred 1 Sent 2 Failed 1" in shown(counted)
    assert "All 4 Deferred 1" in shown(client.get("/notifications/?counted"))  # without JavaScript


# How emails go


def test_it_tells_how_emails_go(client: Client, ada: User, grace: User, settings: Any) -> None:
    settings.EMAIL_RATE = 60
    owed(grace)
    MailServer.objects.create(speed=1_200)

    assert nameless(part(client, "delivery")) == []
    assert "1 Waiting" not in shown(part(client, "delivery"))
    assert re.search(
        "Waiting 1 The oldest was owed just now .* Sending takes about 1 s .* 1,200 May go, a minute 60",
        shown(part(client, "delivery")),
    )


def test_it_tells_what_the_mail_server_said_last(client: Client, ada: User, grace: User) -> None:
    owed(grace)
    MailServer.objects.create(down_since=now(), next_try_at=now(), last_words="421 Come <later>")

    page = shown(part(client, "delivery"))

    assert "The mail server stopped answering just now." in page
    assert "It said last: 421 Come &lt;later&gt;" in page
    assert "No email is lost." in page


# Late emails, on every page


def test_every_page_says_when_emails_are_late_and_what_will_happen(client: Client, ada: User, grace: User) -> None:
    owed(grace)
    MailServer.objects.create(down_since=now() - timedelta(minutes=5), next_try_at=now(), last_words="421 Come later")

    words = shown(client.get("/users/"))

    assert "Emails are delayed: 1 waits. The mail server stopped answering 5 minutes ago." in words.replace("\xa0", " ")
    assert "all of them are sent when it answers. It said last: 421 Come later Show them" in words


def test_a_manager_is_told_that_emails_are_late_and_no_more(client: Client, grace: User) -> None:
    client.force_login(make_user(role=Role.MANAGER, manages=[make_group()]))
    owed(grace)
    MailServer.objects.create(down_since=now(), next_try_at=now(), last_words="421 Come later")

    words = shown(client.get("/users/"))

    assert "Emails are delayed: 1 waits." in words
    assert "Come later" not in words
    assert "Show them" not in words


def test_the_rate_is_told_when_it_keeps_emails_long(client: Client, ada: User, settings: Any) -> None:
    for reader in make_users(12):
        owed(reader)
    settings.EMAIL_RATE = 1

    words = shown(client.get("/users/")).replace("\xa0", " ")

    assert "Emails are delayed: 12 wait. The oldest was owed just now." in words
    assert "At most 1 a minute are sent, so the last one goes in about 12 min." in words
    settings.EMAIL_RATE = 2
    assert "Emails are delayed" not in shown(client.get("/users/"))


# Trying again, and releasing


def test_all_that_failed_of_a_filter_is_tried_again(client: Client, ada: User, grace: User) -> None:
    failed = [owed(reader, state=State.FAILED, language="fr") for reader in make_users(2)]
    others = [owed(grace, state=State.FAILED, language="de"), owed(make_user(), state=State.SENT, language="fr")]
    erased = owed(make_user(), kind="ACCOUNT", state=State.FAILED, language="fr")

    assert "Try 2 failed emails again" in shown(part(client, "letters-counted", "?language=fr"))
    response = client.post("/notifications/retry/", {"language": "fr"})

    assert (response.status_code, response["Location"]) == (303, "/notifications/?language=fr")
    assert set(Notification.objects.filter(state=State.QUEUED)) == set(failed)
    assert [Notification.objects.get(pk=each.pk).state for each in (*others, erased)] == ["FAILED", "SENT", "FAILED"]
    assert "2 emails are tried again." in shown(client.get("/notifications/"))
    assert AdminAction.objects.filter(actor=ada, action=Action.EMAIL_RETRIED).exists()


def test_what_offers_to_be_tried_again_is_what_is_tried_again(client: Client, ada: User, grace: User) -> None:
    young, old = (now() - invitations.LIFETIME + timedelta(hours=hours) for hours in (1, -1))
    owed_since = [("ONBOARDING", old), ("ACCOUNT", young), ("INVITATION", young), ("INVITATION", old)]
    each = [(kind, state, since) for kind, since in owed_since for state in State]
    letters = [owed(grace, kind, n, state=state, owed_at=since) for n, (kind, state, since) in enumerate(each, 1)]
    by_itself = [one.pk for one in letters if 'id="retry"' in client.get(f"/notifications/{one.pk}/").content.decode()]
    on_their_page = re.findall(r'id="retry-(\d+)"', client.get(f"/users/{grace.pk}/").content.decode())

    assert actions.retry(actor=ada, ids=[one.pk for one in letters], now=now()) == len(by_itself) == 6
    again = Notification.objects.filter(state=State.QUEUED).exclude(pk__in=[one.pk for one in letters if one.is_open])
    assert sorted(again.values_list("pk", flat=True)) == by_itself == sorted(map(int, on_their_page))


def test_whether_an_invitation_can_be_tried_again_depends_on_the_time_that_is_asked_about(ada: User, grace: User) -> None:
    owed(grace, "INVITATION", 1, state=State.FAILED)

    for when, expected in ((now(), True), (now() + invitations.LIFETIME, False)):
        [event] = UserPage(ada, grace, now=when).events
        assert event.letter.can_be_retried == expected
        assert Notification.objects.filter(queries.retryable(when)).exists() == expected


def test_more_than_at_once_is_said(client: Client, ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("admin_console.notifications_page.MOST", 2)
    for reader in make_users(3):
        owed(reader, state=State.EXPIRED)

    assert "Try 2 failed emails again There are more; 2 are tried at once." in shown(part(client, "letters-counted"))


def test_nothing_is_tried_again_for_a_filter_that_cannot_be(client: Client, ada: User, grace: User) -> None:
    mine = owed(grace, state=State.FAILED)

    client.post("/notifications/retry/", {"language": "tlh"})
    client.post("/notifications/retry/", {"search": "nobody"})
    client.post("/notifications/retry/", {"change": "4711"})

    mine.refresh_from_db()
    assert mine.state == State.FAILED


def test_suppressed_addresses_are_listed_with_the_reason_and_released(client: Client, ada: User, grace: User) -> None:
    for address, since in ((grace.email, now()), ("once@people.example", None)):
        Suppression.objects.create(
            address=address, failures=2, reason="550 5.1.1 <gone>", source="BOUNCED", failed_at=now(), since=since
        )

    page = shown(client.get("/notifications/suppressed/?search=GRACE"))
    assert re.search("grace@people.example An email came back 550 5.1.1 &lt;gone&gt; 2 just now .{,30} Release", page)
    assert "once@" not in shown(client.get("/notifications/suppressed/"))
    assert "No address like this is suppressed." in shown(client.get("/notifications/suppressed/?search=nobody%00"))

    response = client.post(
        "/notifications/suppressed/release/",
        {"address": grace.email},
        headers={"Referer": "http://testserver/notifications/suppressed/"},
    )

    assert (response.status_code, response["Location"]) == (303, "/notifications/suppressed/")
    assert "grace@people.example is written to again." in shown(client.get("/notifications/suppressed/"))
    assert not Suppression.objects.filter(address=grace.email).exists()
    client.post("/notifications/suppressed/release/", {"address": f"{grace.email}\0"})
    assert "was not suppressed any more" in shown(client.get("/notifications/suppressed/"))
    assert AdminAction.objects.filter(actor=ada, action=Action.ADDRESS_RELEASED).count() == 1


# Who may


PAGES = ("/notifications/", "/notifications/suppressed/", "/notifications/{}/", "/notifications/{}/html/")
POSTS = ("/notifications/retry/", "/notifications/{}/retry/", "/notifications/suppressed/release/")


def test_a_manager_sees_none_of_it(client: Client, grace: User) -> None:
    client.force_login(make_user(role=Role.MANAGER, manages=[make_group()]))
    letter = owed(grace, state=State.FAILED)

    assert [client.get(page.format(letter.pk)).status_code for page in PAGES] == [403] * 4
    assert [client.post(page.format(letter.pk)).status_code for page in POSTS] == [403] * 3
    assert 'href="/notifications/' not in client.get("/users/").content.decode()


def test_support_sees_all_of_it_and_changes_nothing(client: Client, grace: User) -> None:
    client.force_login(make_user(role=Role.SUPPORT))
    letter = owed(grace, state=State.FAILED)
    Suppression.objects.create(address=grace.email, reason="550", source="REFUSED", failed_at=now(), since=now())

    assert listed(client) == [letter.pk]
    assert [client.post(page.format(letter.pk)).status_code for page in POSTS] == [403] * 3
    assert "again" not in shown(part(client, "letters-counted"))
    for page in PAGES[:3]:
        assert '<form method="post" action="/notifications/' not in client.get(page.format(letter.pk)).content.decode()


def test_who_is_signed_out_signs_in_first(client: Client) -> None:
    assert [client.get(page.format(1)).status_code for page in PAGES] == [302] * 4


def test_a_post_needs_its_token_and_a_get_changes_nothing(grace: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user(role=Role.ADMIN))
    letter = owed(grace, state=State.FAILED)

    assert [client.post(page.format(letter.pk)).status_code for page in POSTS] == [403] * 3
    assert [client.get(page.format(letter.pk)).status_code for page in POSTS] == [405] * 3
