"""Emails of a bulk change through a worker of two processes, with their fates recorded, against Django's send_messages."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from email import message_from_bytes, policy
from unittest.mock import patch

from django.conf import settings
from django.core.mail import EmailMultiAlternatives, mailers
from django.db.models import Count
from django.test.utils import override_settings
from django.utils import timezone

from benchmarks.bench import Bench, settle, timed
from benchmarks.changing import admin, ids_of
from benchmarks.everyone import WITH_EMAILS
from benchmarks.mail_sinks import discarding_sink
from benchmarks.report import Figure, at_least
from notifications import emails, tasks
from notifications.actions import SENDERS
from notifications.models import OPEN, Notification, State
from products.actions import Step, advance_bulk_change, request_bulk_change
from products.models import Mode
from products.selection import Selection
from tests.mail import Sink
from tests.processes import Worker, wait_until
from users.models import User

TABLES = ("notifications_notification", "notifications_claim", "users_user", "products_accesschange")


def measure(bench: Bench) -> Iterator[Figure]:
    """Yield the emails per second into a server that throws them away, beside Django's, and into our own sink."""
    many, few, plain = (300, 100, 20) if bench.quick else (100_000, 10_000, 2_000)
    with bench.fresh() as database, ExitStack() as stack:
        port, name = stack.enter_context(discarding_sink(bench.home, own=bench.quick))
        _owe(min(many, bench.users), skipping=0)
        settle(database, *TABLES)
        ours, fates = _through_the_worker(bench, port)
        bench.tell(f"{ours:,.0f} emails/s into {name}")
        theirs = _by_django(port, _contents(plain))
        bench.tell(f"{theirs:,.0f} emails/s by Django")
        details = {"ours": ours, "theirs": theirs, "fates": fates, "server": name}
        yield Figure(
            work=f"Emails per second into {name}, fates recorded", ours=f"{ours:,.0f}", **at_least(ours, 3_000), details=details
        )
        yield Figure(
            work="The same, against Django's send_messages on one connection",
            ours=f"{ours:,.0f}", yardstick=f"{theirs:,.0f}", **at_least(ours / theirs, 10, " × faster"), details=details,
        )  # fmt: skip
    with bench.fresh() as database, Sink(bench.home) as sink:
        _owe(min(few, bench.users), skipping=min(many, bench.users // 2))
        settle(database, *TABLES)
        stored, fates = _through_the_worker(bench, sink.port)
        bench.tell(f"{stored:,.0f} emails/s into our own sink")
        yield Figure(
            work="Emails per second into our own sink, stored", ours=f"{stored:,.0f}", **at_least(stored, 700), details=fates
        )


def _owe(users: int, *, skipping: int) -> None:
    """Let a bulk change owe the emails of so many users; nobody sends them yet."""
    chosen = list(User.objects.order_by("id").values_list("id", flat=True)[skipping : skipping + users])
    change = request_bulk_change(
        actor=admin(),
        selection=Selection.of(chosen),
        products=ids_of(*WITH_EMAILS),
        mode=Mode.REPLACE,
        notify=True,
        key=os.urandom(16).hex(),  # type: ignore[arg-type]
        reason="",
        now=timezone.now(),
        confirmed=len(chosen),
    )
    while advance_bulk_change(change_id=change.pk, now=timezone.now()) is Step.MORE:
        pass


def _through_the_worker(bench: Bench, port: int) -> tuple[float, dict[str, int]]:
    """Return how many emails a worker of two processes sends per second, and what became of them."""
    waiting = Notification.objects.filter(state__in=OPEN)
    owed = list(waiting.values_list("id", flat=True))
    # By their index: whoever looks for the last ones among all rows takes the senders' time.
    first = waiting.order_by("lane", "not_before", "id")[:1]
    with patch.dict(os.environ, EMAIL_HOST="127.0.0.1", EMAIL_PORT=str(port)):
        bench.broker.empty()
        with Worker(bench.home, concurrency=2):
            started = time.perf_counter()
            for _sender in range(SENDERS):
                tasks.deliver.delay()
            wait_until(lambda: not list(first.values_list("id")), 1_800, "the end of the emails")
            seconds = time.perf_counter() - started
    found = Notification.objects.filter(id__gte=min(owed), id__lte=max(owed))
    fates = dict(found.values_list("state").annotate(Count("id")).order_by())
    if fates != {State.SENT: len(owed)}:
        raise AssertionError(f"Of {len(owed)} emails became {fates}")
    return len(owed) / seconds, fates


def _contents(number: int) -> Sequence[emails.Letter]:
    """Return letters that were sent: what Django is given to send is as long."""
    sent = list(Notification.objects.filter(state=State.SENT).order_by("id")[:number])
    return [letter for letter in emails.build(sent, now=timezone.now()).values() if isinstance(letter, emails.Letter)]


def _by_django(port: int, letters: Sequence[emails.Letter]) -> float:
    """Return how many messages per second Django sends over one connection, with text and HTML rendered beforehand."""
    parsed = [message_from_bytes(letter.content.replace(b"\r\n..", b"\r\n."), policy=policy.default) for letter in letters]
    texts = [(letter, *(p.get_content() for p in m.iter_parts())) for letter, m in zip(letters, parsed, strict=True)]
    messages = [
        EmailMultiAlternatives(letter.subject, text, settings.DEFAULT_FROM_EMAIL, [letter.to], alternatives=[(html, "text/html")])
        for letter, text, html in texts
    ]
    options = {"host": "127.0.0.1", "port": port}
    mailer = {"BACKEND": "django.core.mail.backends.smtp.EmailBackend", "OPTIONS": options}
    with override_settings(MAILERS={"default": mailer}):
        return len(messages) / timed(lambda: mailers.default.send_messages(messages))
