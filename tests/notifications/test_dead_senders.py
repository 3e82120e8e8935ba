"""What a sender leaves when it dies or loses its lease or its database goes on, and what may have been sent twice says so."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection

from notifications import actions, emails, outbox, queries
from notifications.models import Claim, Notification, State
from tests.database import Database
from tests.factories import make_user, make_users
from tests.mail import ScriptedServer
from tests.notifications.test_delivery import LATER, NOW, deliver, fate, owe, states


class TestLosing:
    def test_a_sender_that_lost_its_lease_sends_no_more(self, committed_db: Database, smtp_script: ScriptedServer) -> None:
        users = make_users(3)
        owe(*users)
        sent = smtp_script.messages

        class Stolen(list[Any]):
            def append(self, received: Any) -> None:
                super().append(received)
                Claim.objects.update(ends_at=NOW - LATER)
                Notification.objects.filter(state=State.CLAIMED).update(not_before=NOW - LATER)
                outbox.take_over()
                connection.close()

        smtp_script.messages = sent = Stolen()
        actions.deliver_due(now=NOW)

        assert len(sent) == 1
        assert states(users) == [State.QUEUED] * 3
        assert [fate(user).possible_duplicate for user in users] == [True, False, False]

    def test_a_database_that_goes_away_forgets_no_fate(self, committed_db: Database, smtp_script: ScriptedServer) -> None:
        users = make_users(3)
        owe(*users)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            (sender,) = cursor.fetchone()

        class Cut(list[Any]):
            def append(self, received: Any) -> None:
                super().append(received)
                with psycopg.connect(committed_db.superuser, autocommit=True) as server:
                    server.execute("SELECT pg_terminate_backend(%s)", [sender])

        smtp_script.messages = Cut()
        with pytest.raises(OperationalError):
            actions.deliver_due(now=NOW)
        assert states(users) == [State.SENT, State.QUEUED, State.QUEUED]

        deliver()
        assert [len(smtp_script.to(user.email)) for user in users] == [1, 1, 1]


type Claiming = Callable[[int], outbox.Batch]


@pytest.fixture
def claiming(db: None) -> Iterator[Claiming]:
    """Return what a sender at a place claims; it does no more until the test is over."""
    with ExitStack() as senders:
        yield lambda place: senders.enter_context(outbox.claimed(place, 10, NOW))


@pytest.mark.django_db
class TestTakingOver:
    def test_what_a_dead_sender_had_goes_on_at_once(self, smtp_script: ScriptedServer, claiming: Claiming) -> None:
        """Its place is free, so nobody waits for its lease to end."""
        users = make_users(5)
        owe(*users)
        batch = claiming(0)
        letters = emails.build(batch.notifications, now=NOW)
        batch.prepare({number: letter for number, letter in letters.items() if isinstance(letter, emails.Letter)})
        batch.intend(batch.notifications[0])
        batch.intend(batch.notifications[2])
        assert set(states(users)) == {State.CLAIMED}
        assert queries.is_due(NOW)

        outbox.take_over()

        assert states(users) == [State.SENT, State.SENT, State.QUEUED, State.QUEUED, State.QUEUED]
        assert [fate(user).possible_duplicate for user in users] == [False, False, True, False, False]
        assert [fate(user).attempts for user in users] == [1, 1, 1, 0, 0]
        assert fate(users[0]).message_id
        assert fate(users[0]).to_address == users[0].email

    def test_what_was_being_sent_twice_ends_unknown(self, smtp_script: ScriptedServer, claiming: Claiming) -> None:
        grace = make_user()
        owe(grace)
        for _death in range(2):
            batch = claiming(0)
            batch.prepare({})
            batch.intend(batch.notifications[0])
            outbox.take_over()

        assert fate(grace).state == State.UNKNOWN

    def test_the_text_of_a_password_email_is_kept_while_it_is_tried_again_and_no_longer(self, claiming: Claiming) -> None:
        grace = make_user()
        actions.queue_message(user=grace, subject="Reset", text="https://console.example/secret", html="", now=NOW)
        kept = []
        for _death in range(2):
            batch = claiming(0)
            batch.prepare({})
            batch.intend(batch.notifications[0])
            outbox.take_over()
            kept.append((fate(grace).state, fate(grace).message is not None))

        assert kept == [(State.QUEUED, True), (State.UNKNOWN, False)]

    def test_a_sender_that_dies_while_it_composes_has_tried(self, smtp_script: ScriptedServer, claiming: Claiming) -> None:
        grace = make_user()
        owe(grace)
        for _death in range(actions.MOST_ATTEMPTS + 1):
            claiming(0)
            outbox.take_over()

        deliver()

        assert (fate(grace).state, len(smtp_script.messages)) == (State.EXPIRED, 0)

    def test_what_another_sender_has_by_now_is_left_alone(self, smtp_script: ScriptedServer, claiming: Claiming) -> None:
        grace, ada = make_user(), make_user()
        owe(grace, ada)
        first = claiming(0)
        first.prepare({})
        first.decide(first.notifications[0], outbox.Fate(State.DEFERRED, 450, "later"))
        first.intend(first.notifications[1])
        second = claiming(1)
        assert [n.user_id for n in second.notifications] == [grace.pk]

        first.settle()

        assert fate(grace).state == State.CLAIMED
        assert (fate(ada).state, fate(ada).possible_duplicate) == (State.QUEUED, True)
