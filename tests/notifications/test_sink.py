"""The console's own mail sink stores what it acknowledged, as it was sent, and nothing else."""

import smtplib
from collections import Counter

import pytest

from notifications.models import State
from tests.factories import make_users
from tests.mail import Sink
from tests.notifications.test_delivery import LATER, NOW, deliver, owe, states


class TestSink:
    def test_the_sink_keeps_what_it_acknowledged_through_a_kill(self, mail_sink: Sink) -> None:
        users = make_users(60)
        owe(*users[:30])
        deliver()
        mail_sink.kill()
        owe(*users[30:])
        deliver()
        assert set(states(users[30:])) == {State.DEFERRED}

        mail_sink.start()
        deliver(now=NOW + 30 * LATER)

        assert Counter(received.recipients[0] for received in mail_sink.received()) == Counter(user.email for user in users)
        assert set(states(users)) == {State.SENT}

    def test_a_message_is_stored_as_it_was_sent(self, mail_sink: Sink) -> None:
        lines = ["Subject: dots", "", "..", ".", "one.", "", ".two", "end."]
        with smtplib.SMTP("127.0.0.1", mail_sink.port, timeout=5) as client:
            client.sendmail("a@console.example", ["Grace@people.example", "ada@people.example"], "\r\n".join(lines))
            client.sendmail("a@console.example", ["ada@people.example"], "")
            assert client.docmd("DATA")[0] == 503
            assert client.docmd("VRFY", "grace")[0] == 502

        first, second = mail_sink.received()
        assert first.recipients == ["grace@people.example", "ada@people.example"]
        assert first.raw == "\r\n".join([*lines, ""]).encode()
        assert second.raw == b"\r\n"

    def test_what_cannot_be_stored_is_not_acknowledged_and_the_next_is(self, mail_sink: Sink) -> None:
        with smtplib.SMTP("127.0.0.1", mail_sink.port, timeout=5) as client:
            with pytest.raises(smtplib.SMTPDataError) as refused:
                client.sendmail("gra\x00ce@console.example", ["ada@people.example"], "Subject: NUL")
            client.sendmail("grace@console.example", ["ada@people.example"], "Subject: none")

        assert refused.value.smtp_code == 451
        assert len(mail_sink.received()) == 1
