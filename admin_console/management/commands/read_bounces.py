"""Reads what mail systems report of emails that came back: the mail server hands each such report to this command."""

import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from mailbox import Maildir
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from notifications import bounces
from notifications.actions import take_back


class Command(BaseCommand):
    help = "Read delivery reports (RFC 3464): one message from the standard input, or what is new in a Maildir."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--maildir", metavar="FOLDER", help="read every new message of this Maildir, and mark it as read")

    def handle(self, *args: Any, maildir: str | None, **options: Any) -> None:
        reports = returned = 0
        for report in _unread(maildir) if maildir else [sys.stdin.buffer.read()]:
            reports += 1
            for found in bounces.read(report):
                returned += take_back(message_id=found.message_id, address=found.address, words=found.words, now=timezone.now())
        self.stdout.write(f"{reports} messages read, {returned} emails came back")


def _unread(folder: str) -> Iterator[bytes]:
    """Yield the messages of a Maildir that nobody has read; each is read once the next one is asked for."""
    box = Maildir(folder, create=False)
    for key in list(box.keys()):
        message = box.get_message(key)
        if message.get_subdir() == "new":
            yield box.get_bytes(key)
            message.set_subdir("cur")
            message.add_flag("S")
            box[key] = message
