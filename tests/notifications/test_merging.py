"""Several waiting change emails of a user become one that tells all; the others point at it and share its fate (rule E1).

What was taken back before an email is sent is not in it.
"""

import pytest
from django.utils import timezone

from notifications import actions
from notifications.models import Notification, State
from tests.factories import change, give, make_user, undo
from tests.mail import Received, ScriptedServer
from tests.notifications.test_delivery import LATER, deliver
from users.models import Role, User

NOW = timezone.now()
pytestmark = pytest.mark.django_db


@pytest.fixture
def admin() -> User:
    return make_user(role=Role.ADMIN)


def told(user: User) -> list[Notification]:
    """Return the user's change emails, oldest first."""
    return list(Notification.objects.filter(user=user, kind="CHANGE").order_by("id"))


def changes_received(server: ScriptedServer, user: User) -> list[Received]:
    return [m for m in server.to(user.email) if m.message["Message-ID"].startswith("<change.")]


def products(received: Received, sign: str) -> set[str]:
    """Return the products that an email lists with a sign."""
    lines = (line.strip() for line in received.text.splitlines())
    return {line[2:] for line in lines if line.startswith(f"{sign} ")}


def test_one_email_tells_the_whole(smtp_script: ScriptedServer, admin: User) -> None:
    grace, ada = make_user(), make_user()
    change(admin, [grace], "meeting", "rescue")
    change(admin, [grace, ada], "rescue", "webinar")
    last = change(admin, [grace], "webinar", "central")

    deliver()

    [received] = changes_received(smtp_script, grace)
    assert products(received, "+") == {"GoTo Webinar", "Central"}
    assert products(received, "-") == set()  # rescue and meeting came and went
    assert received.message["Message-ID"].startswith(f"<change.{last.pk}.{grace.pk}.")
    first, second, third = told(grace)
    assert [first.told_by_id, second.told_by_id, third.told_by_id] == [third.pk, third.pk, None]
    for one in (first, second):
        assert (one.state, one.sent_at, one.message_id, one.to_address, one.last_words, one.subject) == (
            third.state, third.sent_at, third.message_id, third.to_address, third.last_words, third.subject
        )  # fmt: skip
    assert third.state == State.SENT
    assert len(changes_received(smtp_script, ada)) == 1


def test_those_that_the_batch_has_no_room_for_are_told_too(smtp_script: ScriptedServer, admin: User) -> None:
    grace = make_user()
    for codes in (["rescue"], ["rescue", "central"], ["central"]):
        change(admin, [grace], *codes)

    while actions.deliver_due(now=NOW, limit=1):
        pass

    [received] = changes_received(smtp_script, grace)
    assert products(received, "+") == {"Central"}
    assert {one.state for one in told(grace)} == {State.SENT}


def test_what_is_told_already_is_not_told_again(smtp_script: ScriptedServer, admin: User) -> None:
    grace = make_user()
    change(admin, [grace], "rescue")
    deliver()
    change(admin, [grace], "rescue", "central")
    deliver()

    first, second = changes_received(smtp_script, grace)
    assert (products(first, "+"), products(second, "+")) == ({"Rescue"}, {"Central"})
    assert [one.told_by for one in told(grace)] == [None, None]


def test_they_fail_together_and_are_retried_together(smtp_script: ScriptedServer, admin: User) -> None:
    grace = make_user()
    change(admin, [grace], "rescue")
    change(admin, [grace], "rescue", "central")
    smtp_script.rules[grace.email] = "550 5.7.1 Not from you"
    deliver()
    assert [(one.state, one.last_code) for one in told(grace)] == [(State.FAILED, 550)] * 2
    smtp_script.rules.clear()

    assert actions.retry(actor=admin, ids=[told(grace)[0].pk], now=NOW) == 1
    assert [one.state for one in told(grace)] == [State.QUEUED] * 2
    deliver()

    [received] = changes_received(smtp_script, grace)
    assert products(received, "+") == {"Rescue", "Central"}
    assert [one.state for one in told(grace)] == [State.SENT] * 2


def test_while_they_wait_a_newer_change_joins_them(smtp_script: ScriptedServer, admin: User) -> None:
    grace = make_user()
    change(admin, [grace], "rescue")
    change(admin, [grace], "rescue", "central")
    smtp_script.rules[grace.email] = "450 4.2.1 Busy"
    deliver()
    assert [one.state for one in told(grace)] == [State.DEFERRED] * 2
    smtp_script.rules.clear()
    newest = change(admin, [grace], "central")

    deliver()

    [received] = changes_received(smtp_script, grace)
    assert products(received, "+") == {"Central"}
    first, second, third = told(grace)
    assert (third.about, first.told_by_id, second.told_by_id) == (newest.pk, third.pk, third.pk)
    assert {one.state for one in told(grace)} == {State.SENT}


def test_nothing_joins_what_may_have_gone_out(smtp_script: ScriptedServer, admin: User) -> None:
    grace = make_user()
    change(admin, [grace], "rescue")
    change(admin, [grace], "rescue", "central")
    smtp_script.rules[grace.email] = "DROP AFTER DATA"
    deliver()
    smtp_script.rules.clear()
    change(admin, [grace], "central")

    deliver()
    deliver(now=NOW + LATER)

    first, newest, second = changes_received(smtp_script, grace)
    assert first.message["Message-ID"] == second.message["Message-ID"] != newest.message["Message-ID"]
    assert (products(second, "+"), products(second, "-")) == ({"Central"}, set())
    assert (products(newest, "+"), products(newest, "-")) == (set(), {"Rescue"})
    assert [one.possible_duplicate for one in told(grace)] == [True, True, False]
    assert {one.state for one in told(grace)} == {State.SENT}


def test_what_was_taken_back_before_it_was_sent_is_not_told(smtp_script: ScriptedServer, admin: User) -> None:
    grace, ada = make_user(), give(make_user(), "rescue")
    undo(admin, change(admin, [grace], "rescue"))
    undo(admin, change(admin, [ada]))

    deliver()

    assert smtp_script.messages == []
    for user in (grace, ada):
        [one] = told(user)
        assert (one.state, one.last_words) == (
            State.NEEDLESS, "Nothing is left to tell: what it was to tell was taken back before it was sent."
        )  # fmt: skip
    assert actions.retry_all(actor=admin, found=Notification.objects.all(), now=NOW) == 0


def test_those_that_were_taken_back_together_share_that(smtp_script: ScriptedServer, admin: User) -> None:
    grace = make_user()
    change(admin, [grace], "rescue")
    change(admin, [grace])

    deliver()

    assert smtp_script.messages == []
    first, second = told(grace)
    assert (first.state, first.told_by, second.state) == (State.NEEDLESS, second, State.NEEDLESS)


def test_it_tells_what_is_still_so_and_what_is_held_now(smtp_script: ScriptedServer, admin: User) -> None:
    grace = give(make_user(), "webinar", "training")
    change(admin, [grace], "rescue", "central")
    change(admin, [grace], "rescue", "training", "resolve", notify=False)

    deliver()

    [received] = changes_received(smtp_script, grace)
    assert products(received, "+") == {"Rescue"}  # and no word of Central, which is gone again
    assert products(received, "-") == {"GoTo Webinar"}
    assert products(received, "*") == {"Rescue", "GoTo Training", "GoTo Resolve"}  # the last one without a word that it is new


def test_who_was_left_without_products_since_learns_that(smtp_script: ScriptedServer, admin: User) -> None:
    grace = give(make_user(), "rescue")
    change(admin, [grace], "central")
    change(admin, [grace], notify=False)

    deliver()

    [received] = changes_received(smtp_script, grace)
    assert received.message["Subject"] == "Your product access at Aldermoor is suspended"
    assert products(received, "+") == set()


def test_what_may_have_gone_out_tells_again_what_is_held_now(smtp_script: ScriptedServer, admin: User) -> None:
    grace = give(make_user(), "rescue")
    change(admin, [grace], "rescue", "central")
    change(admin, [grace], "central", notify=False)
    smtp_script.rules[grace.email] = "DROP ONCE AFTER DATA"

    deliver()
    deliver(now=NOW + LATER)

    first, second = changes_received(smtp_script, grace)
    assert products(first, "*") == {"Central"}
    assert first.text == second.text


def test_what_may_have_gone_out_tells_the_same_though_it_was_taken_back_since(smtp_script: ScriptedServer, admin: User) -> None:
    grace = make_user()
    made = change(admin, [grace], "rescue")
    smtp_script.rules[grace.email] = "DROP AFTER DATA"
    deliver()
    smtp_script.rules.clear()
    undo(admin, made)

    deliver(now=NOW + LATER)

    first, second = changes_received(smtp_script, grace)
    assert first.text == second.text
    assert told(grace)[0].state == State.SENT
