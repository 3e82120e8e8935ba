"""Reads what mail systems report of emails that came back: the mail server hands each such report to this command."""

import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from mailbox import Maildir
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from notifications import bounces
from notifications.actions import take_back


class Command(BaseCommand):
    help = "Read delivery reports (RFC 3464): one message from the standard input, or what is new in a Maildir."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--maildir", metavar="FOLDER", help="read every new message of this Maildir, and mark it as read")

    def handle(self, *args: Any, maildir: str | None, **options: Any) -> None:
        try:
            returned = list(_all_returned(maildir)) if maildir else [_returned(sys.stdin.buffer.read())]
        except bounces.StillBeingSent as error:
            raise CommandError(str(error), returncode=os.EX_TEMPFAIL) from error  # The mail server hands it over again.
        self.stdout.write(f"{len(returned)} messages read, {sum(returned)} emails came back")


def _returned(report: bytes) -> int:
    """Return how many emails came back by a report. Raises bounces.StillBeingSent."""
    found = bounces.read(report)
    return sum(take_back(message_id=b.message_id, address=b.address, words=b.words, now=timezone.now()) for b in found)


def _all_returned(folder: str) -> Iterator[int]:
    """Yield how many emails came back by each message of a Maildir that nobody has read. What comes too soon stays unread."""
    box = Maildir(folder, create=False)
    for key in list(box.keys()):
        message = box.get_message(key)
        if message.get_subdir() == "new":
            try:
                returned = _returned(box.get_bytes(key))
            except bounces.StillBeingSent:
                continue
            message.set_subdir("cur")
            message.add_flag("S")
            box[key] = message
            yield returned
