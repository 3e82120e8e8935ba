"""What is owed is sent once, or its fate says why not, whatever the mail server does."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.db import connection, transaction
from django.utils import timezone

from notifications import actions, emails, mail_server, queries
from notifications.emails import UnsendableError
from notifications.models import MailServer, Notification, State
from products.models import ProductAccess
from tests.factories import change, make_user, make_users, product
from tests.mail import ScriptedServer
from users.models import Action, Role, User
from users.record import record

NOW = timezone.now()  # leases and waits go by the database's clock
LATER = timedelta(days=1)

POISON = [
    "no-at-sign",
    "two@at@people.example",
    "line\nbreak@people.example",
    "",
    "@people.example",
    "grace@",
    "a b@people.example",
]
POISON += ["gr😀ce@people.example", "<grace@people.example>", "grace@people..example"]


def owe(*users: User, kind: str = "ONBOARDING", code: str = "meeting") -> int:
    """Owe each user an onboarding email for a product, which they hold."""
    for access in ProductAccess.objects.filter(user__in=users).exclude(products__contains=[product(code).pk]):
        access.products = access.ever = sorted({*access.products, product(code).pk})
        access.save(update_fields=["products", "ever"])
    return actions.queue(
        kind,
        "SELECT unnest(%(users)s::int[]), %(product)s::bigint",
        {"users": [user.pk for user in users], "product": product(code).pk},
    )


def deliver(now: Any = NOW) -> None:
    """Do what the workers do, until nothing is due."""
    while actions.deliver_due(now=now):
        pass


def fate(user: User) -> Notification:
    return Notification.objects.get(user=user)


def states(users: Iterable[User]) -> list[str]:
    found = dict(Notification.objects.values_list("user", "state"))
    return [found[user.pk] for user in users]


@pytest.mark.django_db
class TestOwing:
    def test_what_is_owed_is_owed_once(self) -> None:
        grace, ada = make_user("Grace Hopper"), make_user("Ada Lovelace")

        assert owe(grace) == 1
        assert owe(grace, ada) == 1
        assert Notification.objects.filter(user=grace).count() == 1

    def test_a_million_are_owed_in_one_statement(self, django_assert_num_queries: Any) -> None:
        users = make_users(30)

        with django_assert_num_queries(1):
            actions.queue("CHANGE", "SELECT unnest(%(users)s::int[]), 1::bigint", {"users": [user.pk for user in users]})

    def test_an_unknown_kind_is_refused_loudly(self) -> None:
        with pytest.raises(KeyError, match="BIRTHDAY"):
            owe(make_user(), kind="BIRTHDAY")

    def test_nothing_is_owed_by_a_transaction_that_is_rolled_back(self) -> None:
        grace = make_user("Grace Hopper")
        with transaction.atomic():
            owe(grace)
            transaction.set_rollback(True)

        assert not Notification.objects.exists()


@pytest.mark.django_db
class TestDelivery:
    def test_an_email_is_sent_and_its_fate_recorded(self, smtp_script: ScriptedServer) -> None:
        grace = make_user("Grace Hopper", email="grace@people.example")
        owe(grace)

        deliver()

        [received] = smtp_script.messages
        found = fate(grace)
        assert received.recipients == ["grace@people.example"]
        assert (found.state, found.last_code, found.last_words, found.attempts) == (State.SENT, 250, "accepted", 1)
        assert (found.to_address, found.language, found.subject) == (
            "grace@people.example",
            "en",
            "How to start with GoTo Meeting",
        )
        assert found.sent_at
        assert found.message_id == received.message["Message-ID"]

    def test_one_connection_serves_a_batch(self, smtp_script: ScriptedServer) -> None:
        owe(*make_users(20))

        deliver()

        assert (smtp_script.connections, len(smtp_script.messages)) == (1, 20)

    @pytest.mark.parametrize("takes", [{"pipelining": True}, {"pipelining": False}, {"waits_for_nobody": True}])
    def test_a_refused_address_fails_and_the_others_go_on(self, smtp_script: ScriptedServer, takes: dict[str, bool]) -> None:
        smtp_script.pipelining = takes.get("pipelining", True)
        smtp_script.waits_for_nobody = takes.get("waits_for_nobody", False)
        users = make_users(3)
        smtp_script.rules[users[1].email] = "550 5.1.1 No such user here"
        owe(*users)

        deliver()

        assert states(users) == [State.SENT, State.FAILED, State.SENT]
        assert (fate(users[1]).last_code, fate(users[1]).last_words) == (550, "5.1.1 No such user here")
        assert smtp_script.connections == 1

    @pytest.mark.parametrize(("reply", "state"), [("552 5.3.4 Too big", State.FAILED), ("452 4.3.1 Disk full", State.DEFERRED)])
    def test_a_refused_content_is_that_emails_fate(self, smtp_script: ScriptedServer, reply: str, state: State) -> None:
        users = make_users(3)
        smtp_script.data_reply = reply
        owe(*users)

        deliver()

        assert states(users) == [state] * 3
        assert fate(users[0]).last_words == reply[4:]
        assert not Notification.objects.filter(possible_duplicate=True).exists()

    def test_a_deferred_email_is_tried_again_later_and_later(self, smtp_script: ScriptedServer) -> None:
        grace = make_user()
        smtp_script.rules[grace.email] = "451 4.7.1 Greylisted"
        owe(grace)
        waits = []
        for _attempt in range(4):
            deliver(now=NOW + 30 * LATER)
            with connection.cursor() as cursor:
                cursor.execute("SELECT extract(epoch FROM not_before - statement_timestamp()) FROM notifications_notification")
                waits.append(float(cursor.fetchone()[0]))

        assert (fate(grace).state, fate(grace).last_code, fate(grace).attempts) == (State.DEFERRED, 451, 4)
        assert [round(wait / 60 / 2**n) for n, wait in enumerate(waits)] == [1, 1, 1, 1]

        smtp_script.rules.clear()
        deliver(now=NOW + 30 * LATER)
        assert fate(grace).state == State.SENT

    def test_a_deferred_email_waits_its_time(self, smtp_script: ScriptedServer) -> None:
        grace = make_user()
        smtp_script.rules[grace.email] = "450 busy"
        owe(grace)
        deliver()
        smtp_script.rules.clear()

        deliver()

        assert fate(grace).state == State.DEFERRED

    def test_what_is_deferred_for_ever_expires(self, smtp_script: ScriptedServer) -> None:
        grace = make_user()
        smtp_script.rules[grace.email] = "451 not now"
        owe(grace)
        Notification.objects.update(attempts=actions.MOST_ATTEMPTS - 1)

        deliver()

        assert fate(grace).state == State.EXPIRED

    @pytest.mark.parametrize("trouble", ["HANG", "DROP", "421 too busy", "554 not you"])
    def test_while_the_server_is_away_everything_waits(self, smtp_script: ScriptedServer, trouble: str) -> None:
        users = make_users(3)
        smtp_script.greeting = trouble
        owe(*users)

        deliver()

        assert set(states(users)) == {State.DEFERRED}
        assert fate(users[0]).attempts == 0
        assert fate(users[0]).last_words
        backlog = queries.backlog(NOW + LATER)
        assert (backlog.is_delayed, backlog.delayed_since, backlog.waiting) == (True, NOW, 3)
        assert backlog.last_words == fate(users[0]).last_words

        deliver()
        assert smtp_script.connections == 1  # nobody asks again at once

        smtp_script.greeting = "220 ready"
        deliver(now=NOW + LATER)
        assert set(states(users)) == {State.SENT}
        assert not queries.backlog(NOW + LATER).is_delayed

    def test_nobody_waits_for_a_pause_from_before_the_clock_was_set_back(self, smtp_script: ScriptedServer) -> None:
        grace = make_user()
        owe(grace)
        mail_server.pause("421 too busy", NOW + 2 * LATER)
        assert queries.is_due(NOW + LATER)

        deliver(now=NOW + LATER)

        assert fate(grace).state == State.SENT

    def test_a_refused_connection_makes_everything_wait(self, smtp_script: ScriptedServer) -> None:
        grace = make_user()
        owe(grace)
        smtp_script.close()

        deliver()

        assert fate(grace).state == State.DEFERRED
        assert "refused" in fate(grace).last_words

    def test_a_refused_sender_is_not_the_readers_fault(self, smtp_script: ScriptedServer) -> None:
        grace = make_user()
        smtp_script.mail_reply = "530 5.7.0 Authentication required"
        owe(grace)

        deliver()

        assert (fate(grace).state, fate(grace).last_code) == (State.DEFERRED, 530)

    def test_421_in_the_middle_makes_the_rest_wait(self, smtp_script: ScriptedServer) -> None:
        users = make_users(3)
        smtp_script.rules[users[1].email] = "421 4.7.0 Too many messages, slow down"
        owe(*users)

        deliver()

        assert states(users) == [State.SENT, State.DEFERRED, State.DEFERRED]
        assert fate(users[2]).last_words == "4.7.0 Too many messages, slow down"

    @pytest.mark.parametrize("pipelining", [True, False])
    def test_a_connection_lost_before_the_message_is_no_possible_duplicate(
        self, smtp_script: ScriptedServer, pipelining: bool
    ) -> None:
        smtp_script.pipelining = pipelining
        users = make_users(3)
        smtp_script.rules[users[1].email] = "DROP BEFORE DATA"
        owe(*users)

        deliver()

        assert states(users) == [State.SENT, State.DEFERRED, State.SENT]
        assert not fate(users[1]).possible_duplicate
        assert smtp_script.connections == 2

    @pytest.mark.parametrize("pipelining", [True, False])
    def test_a_connection_lost_after_the_message_sends_it_once_more_flagged(
        self, smtp_script: ScriptedServer, pipelining: bool
    ) -> None:
        smtp_script.pipelining = pipelining
        users = make_users(3)
        smtp_script.rules[users[1].email] = "DROP AFTER DATA"
        owe(*users)

        deliver()
        assert states(users) == [State.SENT, State.DEFERRED, State.SENT]

        smtp_script.rules.clear()
        deliver(now=NOW + LATER)
        first, second = smtp_script.to(users[1].email)
        assert first.message["Message-ID"] == second.message["Message-ID"]
        assert fate(users[1]).state == State.SENT
        assert [fate(user).possible_duplicate for user in users] == [False, True, False]

    def test_a_connection_lost_after_the_message_twice_ends_unknown(self, smtp_script: ScriptedServer) -> None:
        grace = make_user()
        smtp_script.rules[grace.email] = "DROP AFTER DATA"
        owe(grace)

        for _attempt in range(3):
            deliver(now=NOW + LATER)

        assert fate(grace).state == State.UNKNOWN
        assert len(smtp_script.messages) == 2

    def test_an_email_that_always_breaks_the_connection_does_not_stop_the_others(self, smtp_script: ScriptedServer) -> None:
        users = make_users(5)
        for user in users[:2]:
            smtp_script.rules[user.email] = "HANG"
        owe(*users)

        deliver()

        assert states(users) == [State.DEFERRED] * 2 + [State.SENT] * 3

    def test_passwords_go_first_and_changes_last(self, smtp_script: ScriptedServer) -> None:
        admin, grace = make_user(role=Role.ADMIN), make_user("Grace Hopper")
        change(admin, [grace], "meeting")
        actions.queue_message(user=admin, subject="Reset", text="https://console.example/reset/secret", html="", now=NOW)

        deliver()

        kinds = [received.message["Message-ID"].split(".")[0] for received in smtp_script.messages]
        assert kinds == ["<account", "<onboarding", "<change"]

    def test_a_password_message_is_erased_once_it_is_sent(self, smtp_script: ScriptedServer) -> None:
        grace = make_user("Grace Hopper")
        actions.queue_message(
            user=grace, subject="Reset\r\nBcc: all@evil.example", text="the secret", html="<p>the secret</p>", now=NOW
        )

        deliver()

        [received] = smtp_script.messages
        assert (received.text.strip(), received.html.strip()) == ("the secret", "<p>the secret</p>")
        assert received.message["Subject"] == "Reset Bcc: all@evil.example"
        assert "Bcc" not in received.message
        assert (fate(grace).state, fate(grace).message) == (State.SENT, None)

    def test_a_user_who_is_gone_fails_with_words(self, smtp_script: ScriptedServer) -> None:
        grace = make_user()
        actions.queue("ONBOARDING", "SELECT 2000000000, %(product)s::bigint", {"product": product("meeting").pk})
        owe(grace)

        deliver()

        gone = Notification.objects.get(user_id=2_000_000_000)
        assert (gone.state, gone.last_words) == (State.FAILED, "The user no longer exists.")
        assert fate(grace).state == State.SENT

    def test_what_breaks_the_composing_fails_alone_and_says_so_in_a_sentence(
        self, smtp_script: ScriptedServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        grace, ada = make_user("Grace Hopper"), make_user("Ada Lovelace")
        owe(grace, ada)
        monkeypatch.setattr(emails, "message_id_of", lambda n, domain: "<1@a.example>" if n.user_id == ada.pk else 1 / 0)

        deliver()

        assert states([grace, ada]) == [State.FAILED, State.SENT]
        assert fate(grace).last_words == (
            f"It could not be written because of a mistake in the console. Its log says more: notification {fate(grace).pk}."
        )

    def test_what_breaks_the_asking_fails_alone(self, smtp_script: ScriptedServer) -> None:
        admin, users = make_user(role=Role.ADMIN), make_users(5)
        for user in users:
            told: dict[str, Any] = {"role": "ADMIN"} if user != users[3] else {"groups": []}
            act = record(Action.USER_ROLE_CHANGED, actor=admin, subject=user.pk, before=told, after=told)
            actions.queue("ROLE", "SELECT %(user)s::int, %(act)s::bigint", {"user": user.pk, "act": act.pk})

        deliver()

        assert states(users) == [State.SENT] * 3 + [State.FAILED, State.SENT]
        assert "a mistake in the console" in fate(users[3]).last_words

    @pytest.mark.parametrize("address", POISON)
    def test_a_poison_address_fails_alone(self, smtp_script: ScriptedServer, address: str) -> None:
        poison, grace = make_user(email=address or " "), make_user()
        owe(poison, grace)

        deliver()

        assert states([poison, grace]) == [State.FAILED, State.SENT]
        assert "is not an address" in fate(poison).last_words

    @pytest.mark.parametrize(
        "name", ["Eve\r\nBcc: all@evil.example", "<script>alert(1)</script>", "{{7*7}} {% now 'Y' %} [[product]]"]
    )
    def test_a_hostile_name_comes_out_inert(self, smtp_script: ScriptedServer, name: str) -> None:
        admin, eve = make_user(name, role=Role.ADMIN), make_user(name)
        change(admin, [eve], "meeting")

        deliver()

        for received in smtp_script.to(eve.email):
            assert "Bcc" not in received.message
            assert received.message["To"] == eve.email
            assert "<script>" not in received.html
            assert " ".join(name.split()) in " ".join(received.text.split())
        assert [m.recipients for m in smtp_script.messages] == [[eve.email]] * 2

    @pytest.mark.parametrize("address", ["gra\x00ce@people.example", "a" * 300 + "@people.example", "x@" + "ü" * 80 + ".example"])
    def test_an_address_that_the_database_would_not_even_store_is_refused(self, address: str) -> None:
        with pytest.raises(UnsendableError):
            emails.deliverable(address)

    def test_an_international_domain_is_written_in_ascii(self) -> None:
        assert emails.deliverable("grace@bücher.example") == "grace@xn--bcher-kva.example"

    def test_failures_can_be_tried_again(self, smtp_script: ScriptedServer) -> None:
        admin, grace = make_user(role=Role.ADMIN), make_user()
        smtp_script.rules[grace.email] = "550 no"
        owe(grace)
        deliver()
        smtp_script.rules.clear()

        assert actions.retry(actor=admin, ids=[fate(grace).pk], now=NOW) == 1
        deliver()

        assert (fate(grace).state, fate(grace).attempts) == (State.SENT, 1)
        assert actions.retry(actor=admin, ids=[fate(grace).pk], now=NOW) == 0
        with pytest.raises(PermissionDenied):
            actions.retry(actor=make_user(role=Role.SUPPORT), ids=[fate(grace).pk], now=NOW)

    def test_the_fates_of_a_change_and_of_a_user_are_told(self, smtp_script: ScriptedServer) -> None:
        admin, grace, ada = make_user(role=Role.ADMIN), make_user(), make_user()
        smtp_script.rules[ada.email] = "550 no"
        made = change(admin, [grace, ada], "meeting")

        assert queries.fates_of(made.pk) == {State.QUEUED: 2}
        deliver()

        assert queries.fates_of(made.pk) == {State.SENT: 1, State.FAILED: 1}
        assert [letter.kind for letter in queries.letters_of(grace)] in (["CHANGE", "ONBOARDING"], ["ONBOARDING", "CHANGE"])

    @pytest.mark.parametrize("size", [3, 30])
    def test_composing_costs_the_same_for_few_and_many(self, size: int, django_assert_num_queries: Any) -> None:
        admin, users = make_user(role=Role.ADMIN), [make_user(language="fr") for _ in range(size)]
        change(admin, users, "meeting", "rescue")
        owed = list(Notification.objects.all())
        assert len(owed) == 2 * size

        # the users; what is told in one, the history, all products, who acted, who holds what; the products to start with, the
        # history, who gave them, all products, who holds what; the words and whose
        with django_assert_num_queries(13):
            built = emails.build(owed, now=NOW)

        assert all(isinstance(letter, emails.Letter) for letter in built.values())

    def test_more_senders_than_places_leave_at_once(self, smtp_script: ScriptedServer, owner_connection: Any) -> None:
        owe(make_user())
        for place in range(actions.SENDERS):
            owner_connection.execute("SELECT pg_advisory_lock(hashtext('notifications_sender'), %s)", [place])

        assert not actions.deliver_due(now=NOW)
        assert not smtp_script.messages

    def test_what_a_slow_server_leaves_is_given_back_and_comes_next(
        self, smtp_script: ScriptedServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        users = make_users(3)
        owe(*users)
        smtp_script.delay = 0.4
        monkeypatch.setattr(actions, "BUDGET", 0.3)

        assert actions.deliver_due(now=NOW)
        assert states(users) == [State.SENT, State.SENT, State.QUEUED]  # the second one was announced with the first
        assert fate(users[2]).attempts == 0
        assert 0 < (MailServer.objects.get().speed or 0) < 600  # a minute: the next batch is none of thousands

        smtp_script.delay = 0
        deliver()
        assert states(users) == [State.SENT] * 3

    def test_the_sweep_sees_what_is_due(self, smtp_script: ScriptedServer) -> None:
        assert not queries.is_due(NOW + LATER)
        grace = make_user()
        owe(grace)
        assert queries.is_due(NOW + LATER)
        smtp_script.greeting = "DROP"
        deliver(now=NOW + LATER)
        assert not queries.is_due(NOW + LATER)
        assert queries.is_due(NOW + 2 * LATER)
