"""`manage.py seal_history`: seal what is written, sign it, and show the key by which that can be checked."""

from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from products import checkpoints, sealing


class Command(BaseCommand):
    help = (
        "Seals the entitlement history and the record of admins up to now, and signs a checkpoint. The worker does so by itself."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Seal all that is complete; print what is left and the public key."""
        sealed = 0
        while more := sealing.seal():
            sealed += more
        if made := checkpoints.make(now=timezone.now()):
            checkpoints.publish(made)
        waiting = sum(window.rows for window in sealing.unsealed().values())
        self.stdout.write(f"{sealed:,} rows sealed, {waiting:,} not sealed yet.")
        self.stdout.write(f"Public key: {checkpoints.public_key()}")
