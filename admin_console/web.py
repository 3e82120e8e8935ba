"""The web server: `python -m admin_console.web`."""

from django.conf import settings
from granian.constants import Interfaces
from granian.log import LogLevels
from granian.server import Server

# Loaded before the server's processes are forked: they share its memory, and a killed one is back at once.
import admin_console.wsgi  # noqa: F401

WORKERS, THREADS = 2, 4


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    Server(
        "admin_console.wsgi:application",
        address=settings.WEB_HOST,
        port=settings.WEB_PORT,
        interface=Interfaces.WSGI,
        workers=WORKERS,
        blocking_threads=THREADS,
        websockets=False,
        respawn_failed_workers=True,
        respawn_interval=0.2,
        workers_kill_timeout=5,
        log_level=LogLevels.warning,
        # Its lines go where ours go.
        log_dictconfig={"handlers": {}, "formatters": {}, "loggers": {"_granian": {"handlers": [], "propagate": True}}},
    ).serve()


if __name__ == "__main__":
    main()
