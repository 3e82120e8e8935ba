"""Addresses that failed for good: after two hard failures nobody writes to one any more, until an admin releases it."""

import re
from collections.abc import Callable, Collection
from datetime import datetime
from hashlib import sha256

from django.db import connection
from django.utils.encoding import punycode

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
    """Return the address as suppressions know it: in small letters, its domain as mail servers are told it."""
    address = address.strip().lower()
    return address if address.isascii() else _with_domain(address, punycode)


def known(addresses: Collection[str]) -> dict[str, Suppression]:
    """Return what is known of those of these addresses that failed before, by normalised address."""
    # As one text, for psycopg writes an array of hundreds of them ten times as slowly; no address has a space in it.
    asked = " ".join({normalised(address) for address in addresses})
    failed = "SELECT * FROM notifications_suppression WHERE address = ANY(string_to_array(%s, ' '))"
    found = Suppression.objects.raw(failed, [asked])
    return {suppression.address: suppression for suppression in found}


def note_failure(address: str, *, reason: str, source: str, now: datetime, for_good: bool = False, told_of: str = "") -> None:
    """Remember a hard failure of an address; the second one suppresses it, or the first one `for_good`.

    Of an address that no user has nothing is kept: of who was erased, or of whom other software writes to. `told_of` is the email
    that failed, where nothing but this count remembers that: told of again it is the same failure.
    """
    address = normalised(address)
    emails = [address, _with_domain(address, lambda domain: domain.encode().decode("idna"))]  # as users may have it
    enough = 1 if for_good else ENOUGH
    with connection.cursor() as cursor:
        cursor.execute(
            _NOTE,
            {
                "address": address,
                "emails": emails,
                "reason": reason,
                "source": source,
                "now": now,
                "enough": enough,
                "told_of": told_of and sha256(told_of.encode(errors="replace")).hexdigest(),  # it may name somebody
            },
        )


def forgive(addresses: Collection[str]) -> None:
    """Forget an earlier refusal of addresses that the mail server took an email for now; those that are suppressed stay so.

    Not what came back: a server that relays takes every email, so that tells nothing of the mailbox.
    """
    refused = Suppression.objects.filter(source=Suppression.Source.REFUSED, since=None)
    refused.filter(address__in={normalised(address) for address in addresses}).delete()


def forget(addresses: Collection[str]) -> None:
    """Forget these addresses, for good once no user has them: whoever notes a failure of one holds its user's row until then."""
    Suppression.objects.filter(address__in={normalised(address) for address in addresses}).delete()


def forbids(suppression: Suppression, notification: Owed) -> bool:
    """Return whether this email may not go to this address.

    Who asks for a new password is written to all the same: they wait for it now, and it is one email.
    """
    return suppression.since is not None and notification.kind != ACCOUNT


def words_for(suppression: Suppression) -> str:
    """Return why nobody writes to this address."""
    assert suppression.since
    return f"Not tried: the address is suppressed since {suppression.since:%Y-%m-%d}. {suppression.reason}"


def _with_domain(address: str, written: Callable[[str], str]) -> str:
    """Return the address with its domain written in another way; as it is where that cannot be."""
    local, at, domain = address.rpartition("@")
    try:
        return f"{local}{at}{written(domain)}"
    except UnicodeError:
        return address


_NOTE = """
INSERT INTO notifications_suppression AS s (address, failures, reason, source, failed_at, since, told_of)
SELECT %(address)s, 1, %(reason)s, %(source)s, %(now)s, CASE WHEN %(enough)s <= 1 THEN %(now)s::timestamptz END, %(told_of)s
FROM users_user WHERE email = ANY(%(emails)s) LIMIT 1 FOR KEY SHARE
ON CONFLICT (address) DO UPDATE SET
    failures = s.failures + 1, reason = EXCLUDED.reason, source = EXCLUDED.source, failed_at = EXCLUDED.failed_at,
    since = coalesce(s.since, CASE WHEN s.failures + 1 >= %(enough)s THEN EXCLUDED.failed_at END), told_of = EXCLUDED.told_of
WHERE EXCLUDED.told_of = '' OR EXCLUDED.told_of <> s.told_of
"""
