"""The built-in mail sink: while no EMAIL_HOST is given it is the mail server, and the page Test inbox shows what it receives."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from admin_console.celery import say_ready
from notifications import sink


class Command(BaseCommand):
    help = "Run an SMTP server that stores every message for the Test inbox and delivers none."

    def add_arguments(self, parser: ArgumentParser) -> None:
        host, port = settings.MAIL_SINK_ADDRESS
        parser.add_argument("--host", default=host)
        parser.add_argument("--port", type=int, default=port, help="0: any free one")

    def handle(self, *args: Any, host: str, port: int, **options: Any) -> None:
        def ready(port: int) -> None:
            self.stdout.write(f"listening on {host}:{port}")
            self.stdout.flush()
            say_ready()

        sink.serve(host, port, ready)
