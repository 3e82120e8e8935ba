"""Message-IDs of our emails: <kind.about.user.seal@domain>.

Kind, about and user say which email it is; an index finds it by them. They can be guessed, by whoever got another email of the
same change. The seal, a hash with our key, cannot: so only who has seen an email can report that it came back. Pages show the
Message-ID without it.
"""

import re
from functools import cache
from hashlib import blake2b, sha256
from typing import NamedTuple

from django.conf import settings
from django.utils.crypto import constant_time_compare

from notifications.models import Notification, Owed

_WRITTEN = re.compile(r"<?([A-Za-z_]{1,16})\.([0-9]{1,18})\.([0-9]{1,9})(?:\.([0-9a-f]{16}))?@[^@<>\s]+>?")
_SEAL = re.compile(r"\.[0-9a-f]{16}(?=@)")


class Parts(NamedTuple):
    """What a Message-ID says of the email that has it."""

    kind: str
    about: int
    user: int
    seal: str  # empty in those of earlier versions of the console


def parts_of(message_id: str) -> Parts | None:
    """Return what a Message-ID of ours is made of; None when it is none. Whether its seal is right is not looked at."""
    found = _WRITTEN.fullmatch(message_id.strip())
    return Parts(found[1].upper(), int(found[2]), int(found[3]), found[4] or "") if found else None


def message_id_of(notification: Owed, domain: str) -> str:
    """Return the Message-ID of an email: the one that it had at its first try, or else a new one."""
    return notification.message_id or (
        f"<{notification.kind.lower()}.{notification.about}.{notification.user_id}.{_seal(notification.id)}@{domain}>"
    )


def without_seal(message_id: str) -> str:
    """Return a Message-ID as it is shown to people: enough to find the email, and too little to report that it came back."""
    return _SEAL.sub("", message_id)


def has_seal_of(notification: Notification, parts: Parts) -> bool:
    """Return whether these parts have the seal that the email was sent with; never when it was sent without one."""
    sent = parts_of(notification.message_id)
    return sent is not None and sent.seal != "" and constant_time_compare(sent.seal, parts.seal)


def _seal(number: int) -> str:
    return blake2b(b"%d" % number, digest_size=8, key=_key()).hexdigest()


@cache
def _key() -> bytes:
    """Return the key for seals: one for all, where Django's `salted_hmac` would make it again for each."""
    return sha256(b"notifications.message_ids" + settings.SECRET_KEY.encode()).digest()
