"""Addresses that failed for good: after two hard failures nobody writes to one any more, until an admin releases it."""

import re
from collections.abc import Collection
from datetime import datetime

from django.db import connection

from notifications.emails import ACCOUNT
from notifications.models import Owed, Suppression

ENOUGH = 2  # hard failures

# What a reply or a bounce says of an address by its enhanced code (RFC 3463): 5.1.x, it does not exist; 5.2.x, its mailbox does
# not take mail, unless it is full. All else (our reputation, the content, the route) is not its fault. Many servers give no code.
_CODE = re.compile(r"\b([45])\.(\d{1,3})\.(\d{1,3})\b")


def is_hard(words: str) -> bool:
    """Return whether a final refusal in these words is about the address itself."""
    code = _CODE.search(words)
    return code is None or (code[1] == "5" and (code[2] == "1" or (code[2] == "2" and code[3] != "2")))


def normalised(address: str) -> str:
    """Return the address as suppressions know it."""
    return address.strip().lower()


def known(addresses: Collection[str]) -> dict[str, Suppression]:
    """Return what is known of those of these addresses that failed before, by normalised address."""
    # As one text, for psycopg writes an array of hundreds of them ten times as slowly; no address has a space in it.
    asked = " ".join({normalised(address) for address in addresses})
    failed = "SELECT * FROM notifications_suppression WHERE address = ANY(string_to_array(%s, ' '))"
    found = Suppression.objects.raw(failed, [asked])
    return {suppression.address: suppression for suppression in found}


def note_failure(address: str, *, reason: str, source: str, now: datetime, for_good: bool = False) -> None:
    """Remember a hard failure of an address; the second one suppresses it, or the first one `for_good`."""
    with connection.cursor() as cursor:
        cursor.execute(
            _NOTE,
            {"address": normalised(address), "reason": reason, "source": source, "now": now, "enough": 1 if for_good else ENOUGH},
        )


def forgive(addresses: Collection[str]) -> None:
    """Forget the earlier failure of addresses that took an email now; those that are suppressed stay so."""
    Suppression.objects.filter(address__in={normalised(address) for address in addresses}, since=None).delete()


def forbids(suppression: Suppression, notification: Owed) -> bool:
    """Return whether this email may not go to this address.

    Who asks for a new password is written to all the same: they wait for it now, and it is one email.
    """
    return suppression.since is not None and notification.kind != ACCOUNT


def words_for(suppression: Suppression) -> str:
    """Return why nobody writes to this address."""
    assert suppression.since
    return f"Not tried: the address is suppressed since {suppression.since:%Y-%m-%d}. {suppression.reason}"


_NOTE = """
INSERT INTO notifications_suppression AS s (address, failures, reason, source, failed_at, since)
VALUES (%(address)s, 1, %(reason)s, %(source)s, %(now)s, CASE WHEN %(enough)s <= 1 THEN %(now)s::timestamptz END)
ON CONFLICT (address) DO UPDATE SET
    failures = s.failures + 1, reason = EXCLUDED.reason, source = EXCLUDED.source, failed_at = EXCLUDED.failed_at,
    since = coalesce(s.since, CASE WHEN s.failures + 1 >= %(enough)s THEN EXCLUDED.failed_at END)
"""
