"""Senders die by kill -9 at random points: each email arrives or is listed, and at most one per kill arrives twice (E4)."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from notifications.models import Claim, Notification, State
from tests.database import Database
from tests.factories import make_users
from tests.faults.house import LONG
from tests.mail import ScriptedServer
from tests.mail import smtp_script as smtp_script
from tests.notifications.test_delivery import owe
from tests.processes import ROOT, environment, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.slow]
EMAILS, KILLS = (60_000, 150) if LONG else (500, 5)
DROPPED = EMAILS // 100  # emails whose connection is lost after their last byte, once
SENDERS = 2
# Makes a sender at each line that it reads, and tells its number. A sender does what the worker's task does, again and again.
NURSERY = """
import os, signal, sys, time, django; django.setup()
from datetime import timedelta
from django.utils import timezone
from notifications import actions
actions.FIRST_WAIT = timedelta(0)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _line in sys.stdin:
    if child := os.fork():
        print(child, flush=True)
        continue
    while True:
        if not actions.deliver_due(now=timezone.now(), limit=100):
            time.sleep(0.02)
"""


class Nursery:
    """Senders on the test's database, each a process of its own that can be killed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.senders = [self._born() for _ in range(SENDERS)]

    def replace(self, place: int) -> None:
        """Kill a sender as kill -9 does, and put another one in its place."""
        self.end(self.senders[place])
        self.senders[place] = self._born()

    def end(self, number: int) -> None:
        """Kill a sender and return when it is gone."""

        def gone() -> bool:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
                return False
            return True

        wait_until(gone, 10, "the end of a sender")

    def _born(self) -> int:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def nursery() -> Iterator[Nursery]:
    """Yield senders at work; they end with the block."""
    command = [sys.executable, "-c", NURSERY]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), cwd=ROOT, text=True
    ) as process:
        made = Nursery(process)
        try:
            yield made
        finally:
            for number in made.senders:
                made.end(number)
            process.kill()


def test_no_email_is_missing_and_every_possible_duplicate_is_listed(
    committed_db: Database, smtp_script: ScriptedServer, chance: random.Random
) -> None:
    users = [user for _part in range(EMAILS // 500) for user in make_users(500)]
    owe(*users)
    dropped = {user.email for user in chance.sample(users, DROPPED)}
    smtp_script.rules = dict.fromkeys(dropped, "DROP ONCE AFTER DATA")
    smtp_script.keeps = 1_000
    smtp_script.delay = 0.0 if LONG else 0.004

    with nursery() as at_work:
        for kill in range(KILLS):
            # Spread over the emails, and at any point of the one being sent.
            reached = EMAILS * (kill + 1) // (KILLS + 2)
            wait_until(lambda reached=reached: len(smtp_script.messages) >= reached, 300, f"email {reached}")  # type: ignore[misc]
            time.sleep(chance.random() / 100)
            at_work.replace(chance.randrange(SENDERS))
        smtp_script.delay = 0
        settled = {State.SENT, State.UNKNOWN}
        wait_until(lambda: not Notification.objects.exclude(state__in=settled).exists(), 300, "the end of the emails")

    arrived = Counter(received.recipients[0] for received in smtp_script.messages)
    twice = {address for address, times in arrived.items() if times > 1}
    copies = {(m.recipients[0], m.message["Message-ID"]) for m in smtp_script.messages if m.recipients[0] in twice}
    listed = set(Notification.objects.filter(possible_duplicate=True).values_list("to_address", flat=True))
    # Whoever was interrupted twice, by kills or a lost connection, is not written to a third time: an admin decides.
    doubtful = set(Notification.objects.filter(state=State.UNKNOWN).values_list("to_address", flat=True))
    assert {user.email for user in users} - set(arrived) <= doubtful <= listed
    assert len(doubtful) <= KILLS
    assert max(arrived.values()) <= 2
    assert len(copies) == len(twice)  # the second copy has the Message-ID of the first
    assert twice <= listed
    assert dropped <= listed
    assert len(listed) <= KILLS + DROPPED
    assert not Claim.objects.exists()
    told = f"{len(listed)} may have arrived twice, {len(twice)} did, {len(doubtful)} were interrupted twice"
    print(f"{EMAILS} emails, {KILLS} kills, {DROPPED} dropped: {told}")
