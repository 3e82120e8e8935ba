"""What all senders know of the mail server together: whether it is away, and how many emails a minute it may be given.

Three things limit the rate: EMAIL_RATE, the server itself once it asked to slow down, and how quickly it takes them.
"""

import random
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction

from notifications.models import MailServer

FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=5), timedelta(seconds=60)
# Emails saved up while nobody sent, as minutes of the rate: twice the time after which the sweep looks again.
SAVED_UP = 1 / 6
SLOWEST = 6.0  # emails per minute, however often the server asks
# After it asked to slow down the rate is halved; it grows by this share of the earlier one per minute.
GROWTH = 0.1
ONE_WAVE = timedelta(seconds=10)  # within which a server that asks several times asks once
PRESUMED = 6_000.0  # emails per minute of a server that was given none yet


def is_paused(now: datetime) -> bool:
    """Return whether nobody is to try the mail server now, because it was not available a moment ago.

    A pause that ends later than any could is of a clock that was set back since: nobody waits until it is that late again.
    """
    return MailServer.objects.filter(next_try_at__gt=now, next_try_at__lte=now + 2 * LONGEST_PAUSE).exists()


def pause(words: str, now: datetime) -> timedelta:
    """Remember that the mail server is not available; return how long everybody waits, longer each time."""
    with transaction.atomic():
        server = _locked()
        wait: timedelta = min(FIRST_PAUSE * 2 ** min(server.failures, 10), LONGEST_PAUSE) * random.uniform(0.8, 1.2)  # noqa: S311
        server.down_since = server.down_since or now
        server.failures, server.next_try_at, server.last_words = server.failures + 1, now + wait, words
        server.save(update_fields=["down_since", "failures", "next_try_at", "last_words"])
    return wait


def resume() -> None:
    """Remember that the mail server works."""
    MailServer.objects.filter(down_since__isnull=False).update(down_since=None, failures=0, next_try_at=None)


def rate(server: MailServer, now: datetime) -> float | None:
    """Return how many emails may go per minute at `now`; None: as many as it takes."""
    limits = [float(settings.EMAIL_RATE)] if settings.EMAIL_RATE else []
    if is_slowed(server, now):
        limits.append(_regained(server, now))
    return min(limits, default=None)


def is_slowed(server: MailServer, now: datetime) -> bool:
    """Return whether the server asked to slow down, and the rate has not grown back since."""
    return server.slowed_at is not None and _regained(server, now) < (server.slowed_from or 0)


def expected_rate(server: MailServer, now: datetime) -> float:
    """Return how many emails per minute to expect, at what limits there are and the speed that a sender had lately."""
    limit, speed = rate(server, now), server.speed or PRESUMED
    return speed if limit is None else min(limit, speed)


def takes_in(seconds: float, now: datetime) -> int:
    """Return how many emails of one sender the server takes in so many seconds at best: twice as many as lately."""
    server = MailServer.objects.filter(id=1).first() or MailServer()
    return int(2 * expected_rate(server, now) * seconds / 60)


def take(wanted: int, now: datetime) -> int:
    """Return how many emails may go now, at most as many as wanted; they are taken from what all senders share."""
    server = MailServer.objects.filter(id=1).first() or MailServer()
    if rate(server, now) is None:
        return wanted
    with transaction.atomic():
        server = _locked()
        allowance = _allowance(server, now)
        taken = min(wanted, int(allowance))
        _save_allowance(server, allowance - taken, now)
    return taken


def give_back(untried: int, now: datetime) -> None:
    """Return to what all senders share what was taken and not used."""
    server = MailServer.objects.filter(id=1).first()
    if untried and server and rate(server, now) is not None:
        with transaction.atomic():
            server = _locked()
            _save_allowance(server, _allowance(server, now) + untried, now)


def slow_down(now: datetime, speed: float | None = None) -> None:
    """Halve the rate, because the server asked for it; `speed` is what it was given per minute, where nothing limited it."""
    with transaction.atomic():
        server = _locked()
        if server.slowed_at and now - server.slowed_at < ONE_WAVE:
            return
        before = rate(server, now) or speed or server.speed or PRESUMED
        if not is_slowed(server, now):
            server.slowed_from = before
        server.slowed_at, server.slowed_to = now, max(before / 2, SLOWEST)
        server.allowance, server.allowance_at = min(server.allowance, server.slowed_to * SAVED_UP), now
        server.save(update_fields=["slowed_at", "slowed_from", "slowed_to", "allowance", "allowance_at"])


def note_speed(sent: int, seconds: float) -> None:
    """Remember how quickly the server took so many emails of one sender, for forecasts."""
    server, _new = MailServer.objects.get_or_create(id=1)
    speed = sent * 60 / max(seconds, 0.001)
    # Written when it tells something new only: this row is everybody's.
    if server.speed is None or not 0.8 < speed / server.speed < 1.25:
        smoothed = speed if server.speed is None else (server.speed + speed) / 2
        MailServer.objects.filter(id=1).update(speed=smoothed)


def _locked() -> MailServer:
    MailServer.objects.bulk_create([MailServer(id=1)], ignore_conflicts=True)
    return MailServer.objects.select_for_update().get(id=1)


def _regained(server: MailServer, now: datetime) -> float:
    minutes = max((now - (server.slowed_at or now)).total_seconds(), 0) / 60
    return (server.slowed_to or 0) + (server.slowed_from or 0) * GROWTH * minutes


def _allowance(server: MailServer, now: datetime) -> float:
    per_minute = rate(server, now)
    assert per_minute is not None
    most = max(per_minute * SAVED_UP, 1)
    if server.allowance_at is None:
        return most
    minutes = max((now - server.allowance_at).total_seconds(), 0) / 60
    return min(server.allowance + per_minute * minutes, most)


def _save_allowance(server: MailServer, allowance: float, now: datetime) -> None:
    server.allowance, server.allowance_at = allowance, now
    server.save(update_fields=["allowance", "allowance_at"])
