"""No more emails a minute than EMAIL_RATE and the mail server allow, by all senders together; and how long they take is told."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from notifications import actions, mail_server, queries
from notifications.models import MailServer, Notification, State
from tests.factories import make_users
from tests.mail import ScriptedServer
from tests.notifications.test_delivery import owe

NOW = timezone.now()
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
pytestmark = pytest.mark.django_db


def rate(now: Any) -> float | None:
    return mail_server.rate(MailServer.objects.first() or MailServer(), now)


def sent() -> int:
    return Notification.objects.filter(state=State.SENT).count()


def send_until(now: Any, *, since: Any = NOW, every: timedelta = 5 * SECOND) -> int:
    """Do what the sweep does from `since` to `now`, and return how many emails are sent by then."""
    while since <= now:
        while actions.deliver_due(now=since):
            pass
        since += every
    return sent()


class TestRate:
    def test_no_more_go_than_the_organisation_allows(self, smtp_script: ScriptedServer, settings: Any) -> None:
        settings.EMAIL_RATE = 60
        owe(*make_users(90))

        assert send_until(NOW) == 10  # what is saved up while nobody sends
        assert send_until(NOW + 30 * SECOND, since=NOW) == 40
        assert send_until(NOW + MINUTE, since=NOW + 30 * SECOND) == 70

    def test_one_a_minute_is_one_a_minute(self, smtp_script: ScriptedServer, settings: Any) -> None:
        settings.EMAIL_RATE = 1
        owe(*make_users(3))

        assert send_until(NOW + 59 * SECOND) == 1
        assert send_until(NOW + 60 * SECOND, since=NOW + 60 * SECOND) == 2

    def test_what_is_not_used_is_given_back(self, smtp_script: ScriptedServer, settings: Any) -> None:
        settings.EMAIL_RATE = 60
        owe(*make_users(1))

        send_until(NOW)

        assert MailServer.objects.get().allowance == 9

    def test_without_a_limit_nothing_is_counted(self, smtp_script: ScriptedServer) -> None:
        owe(*make_users(30))

        assert send_until(NOW) == 30
        assert not MailServer.objects.exclude(allowance_at=None).exists()


class TestSlowingDown:
    @pytest.mark.parametrize("reply", ["450 4.7.1 Slow down", "451 4.3.2 Busy", "454 4.7.0 Throttled", "421 4.7.0 Too many"])
    def test_a_server_that_asks_for_it_is_given_half_and_then_more_again(
        self, smtp_script: ScriptedServer, settings: Any, reply: str
    ) -> None:
        settings.EMAIL_RATE = 600
        [user] = make_users(1)
        smtp_script.rules[user.email] = reply
        owe(user)

        actions.deliver_due(now=NOW)

        assert rate(NOW) == 300
        assert rate(NOW + MINUTE) == 360
        assert rate(NOW + 6 * MINUTE) == 600

    def test_it_may_ask_again_but_a_wave_of_replies_asks_once(self, db: None) -> None:
        mail_server.slow_down(NOW, speed=1_000)
        mail_server.slow_down(NOW + SECOND)
        assert rate(NOW + SECOND) == pytest.approx(500, abs=2)

        for wave in range(1, 30):
            mail_server.slow_down(NOW + wave * 15 * SECOND)
        assert mail_server.SLOWEST <= (rate(NOW + 30 * 15 * SECOND) or 0) < 150

    def test_one_full_mailbox_among_many_slows_nobody(self, smtp_script: ScriptedServer) -> None:
        users = make_users(30)
        smtp_script.rules[users[7].email] = "450 4.2.2 Mailbox busy"
        owe(*users)

        assert send_until(NOW) == 29
        assert rate(NOW) is None

    def test_a_server_that_puts_off_one_after_the_other_is_given_no_more_of_the_batch(self, smtp_script: ScriptedServer) -> None:
        users = make_users(30)
        smtp_script.rules |= {user.email: "451 4.7.1 Come later" for user in users}
        owe(*users)

        assert not actions.deliver_due(now=NOW)

        assert Notification.objects.filter(state=State.DEFERRED).count() == actions.FEW
        assert Notification.objects.filter(state=State.QUEUED, attempts=0).count() == 30 - actions.FEW


class TestBatches:
    def test_no_more_is_composed_than_a_slow_server_may_take(self, smtp_script: ScriptedServer) -> None:
        MailServer.objects.create(speed=600)  # a minute
        owe(*make_users(70))

        assert actions.deliver_due(now=NOW)
        assert len(smtp_script.messages) == 2 * 10 * actions.BUDGET
        assert not actions.deliver_due(now=NOW)
        assert len(smtp_script.messages) == 70


class TestForecast:
    def test_the_time_is_that_of_what_waits_and_of_the_new_ones(self, settings: Any) -> None:
        settings.EMAIL_RATE = 60
        owe(*make_users(30))

        assert queries.forecast(90, now=NOW).takes == 2 * MINUTE
        assert queries.forecast(0, now=NOW).takes == MINUTE / 2

    def test_without_a_limit_it_goes_by_how_quick_the_server_was_lately(self, smtp_script: ScriptedServer) -> None:
        MailServer.objects.create(speed=120)

        assert queries.forecast(240, now=NOW).takes == 2 * MINUTE

    def test_the_speed_of_a_sender_is_remembered(self, smtp_script: ScriptedServer) -> None:
        owe(*make_users(60))

        send_until(NOW)

        assert (MailServer.objects.get().speed or 0) > 60
