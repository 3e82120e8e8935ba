"""Emails that come back: what a mail system reports later of an email that the mail server had accepted (RFC 3464).

A report is believed when it names the Message-ID of an email that we sent to that address, its seal included: whoever may write
to the mailbox of reports could else suppress any address.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message

from django.db.models import Q

from notifications.message_ids import has_seal_of, parts_of
from notifications.models import Notification, State

CAME_BACK = "It came back."  # begins what is told of an email that did
# Sent, or perhaps sent, and then it may wait for its second copy: that is not needed any more. What waits else was not accepted,
# or came back already and is tried again.
RETURNABLE = Q(state__in=(State.SENT, State.UNKNOWN)) | Q(
    ~Q(last_words__startswith=CAME_BACK), state__in=(State.QUEUED, State.DEFERRED), possible_duplicate=True
)
_STATUS = re.compile(r"\b([245])\.\d{1,3}\.\d{1,3}\b")


@dataclass(frozen=True)
class Bounce:
    """What is reported of one address: that an email to it came back for good."""

    address: str
    message_id: str  # of the email; empty when the report does not say
    words: str


class StillBeingSent(Exception):
    """An email comes back before its sender has settled what became of it: who reports it has to come again."""

    def __str__(self) -> str:
        return "The email that came back is still being sent: report it again in a minute."


def read(report: bytes) -> list[Bounce]:
    """Return what a message reports as failed for good, address by address; nothing when it is no such report."""
    # Not by the newer policy: it reads addresses and ids, and some that anybody may write make it raise.
    parts = list(message_from_bytes(report).walk())
    statuses = [part for part in parts if part.get_content_type() == "message/delivery-status"]
    message_id = _message_id_of_what_came_back(parts)
    return [Bounce(address, message_id, words) for part in statuses for address, words in _failed(part)]


def returned(message_id: str, address: str) -> Notification | None:
    """Return the email with this Message-ID as far as it was sent to this address, also when it came back since, or None.

    Its row is locked: who is erased at this moment is either still to be erased or not found any more. Raises StillBeingSent.
    """
    if (parts := parts_of(message_id)) is None:
        return None
    # Found by who is owed what, then compared: the Message-ID itself has no index.
    owed = Notification.objects.filter(user=parts.user, kind=parts.kind, about=parts.about)
    back_or_claimed = Q(state__in=(State.FAILED, State.CLAIMED))
    letter = owed.filter(RETURNABLE | back_or_claimed, told_by=None).select_for_update().first()
    if letter and letter.state == State.CLAIMED:
        raise StillBeingSent
    if letter is None or not has_seal_of(letter, parts) or letter.to_address.lower() != address.strip().lower():
        return None
    return letter


def _failed(part: Message) -> Iterator[tuple[str, str]]:
    """Yield address and words for each recipient of a delivery status for whom it failed for good."""
    payload = part.get_payload()
    for fields in payload if isinstance(payload, list) else []:
        assert isinstance(fields, Message)
        action, status = str(fields.get("Action", "")).strip().lower(), _STATUS.search(str(fields.get("Status", "")))
        if action != "failed" or (status and status[1] != "5"):
            continue
        # "rfc822; grace@people.example": the address that we wrote to, if it is told, else the one where it ended.
        recipient = str(fields.get("Original-Recipient") or fields.get("Final-Recipient") or "").rpartition(";")[2]
        diagnosis = str(fields.get("Diagnostic-Code", "")).partition(";")[2]
        words = " ".join(f"{status[0] if status else ''} {diagnosis}".replace("\x00", "").split())[:500]
        yield recipient.strip().strip("<>"), words


def _message_id_of_what_came_back(parts: list[Message]) -> str:
    """Return the Message-ID of the email, of which a report holds the headers or all; empty when it holds neither."""
    for part in parts:
        if part.get_content_type() == "text/rfc822-headers":
            headers = part.get_payload(decode=True)
            return str(message_from_bytes(headers)["Message-ID"] or "") if isinstance(headers, bytes) else ""
        if part.get_content_type() == "message/rfc822":
            content = part.get_payload(0)
            return str(content["Message-ID"] or "") if isinstance(content, Message) else ""
    return ""
