"""The Celery app: a doorbell, never the truth.

What is to be done stands in PostgreSQL rows; a message only wakes a worker to look at them, and the periodic sweeps ring again.
So publishing may fail, and must never make a page fail or wait.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

from celery import Celery, signals
from celery.app.amqp import AMQP
from celery.contrib.django.task import DjangoTask
from celery.platforms import SecurityWarning
from celery.states import SUCCESS
from celery.worker import state
from django.db import connections
from kombu.connection import Connection
from kombu.exceptions import KombuError
from kombu.exceptions import OperationalError as BrokerError

from admin_console import supervisor

logger = logging.getLogger(__name__)

# It is about pickled messages from strangers; ours are JSON.
warnings.filterwarnings("ignore", category=SecurityWarning)

# How long a page waits for a broker that hangs, and how long it then does not ask again.
PATIENCE = 0.2
PAUSE = 5.0


class Publisher:
    """Sends messages over connections of its own, one per thread, with little patience; after a failure it pauses."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._own = threading.local()
        self._paused_until = 0.0

    @property
    def paused(self) -> bool:
        """Tell whether the broker failed a moment ago."""
        return time.monotonic() < self._paused_until

    def pause(self) -> None:
        """Do not try again for a moment."""
        self._paused_until = time.monotonic() + PAUSE
        self.close()

    def resume(self) -> None:
        """Try again at once."""
        self._paused_until = 0.0
        self.close()

    def close(self) -> None:
        """Forget this thread's connection."""
        if producer := getattr(self._own, "producer", None):
            del self._own.producer
            # It may be broken in any way, which is why it is thrown away.
            with contextlib.suppress(Exception):
                producer.connection.collect()

    def producer(self) -> Any:
        """Return this thread's producer."""
        if not hasattr(self._own, "producer"):
            bounds = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE, "max_retries": 0}
            connection = self._app.connection_for_write(transport_options=bounds)
            self._own.producer = self._app.amqp.Producer(connection, auto_declare=False)
        return self._own.producer


class ConsoleTask(DjangoTask):
    """A task whose publishing takes half a second at worst and never raises for a broker that is down or hangs."""

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Publish a message; return None when the broker cannot take it."""
        if self.app.conf.task_always_eager:
            return super().apply_async(args, kwargs, **options)
        if publisher.paused:
            return None
        options["producer"] = publisher.producer()
        try:
            return super().apply_async(args, kwargs, **options)
        except (BrokerError, KombuError, OSError) as error:
            publisher.pause()
            logger.warning("broker unavailable, %s waits for the next sweep: %s", self.name, error)
            return None


class PatientConnection(Connection):
    """A worker's connection that looks for a lost broker at least every five seconds (kombu's own pause grows to thirty)."""

    def _ensure_connection(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["interval_max"] = min(kwargs.get("interval_max", 5), 5)
        return super()._ensure_connection(*args, **kwargs)


class ConsoleAMQP(AMQP):
    Connection = PatientConnection


class ConsoleCelery(Celery):
    amqp_cls = "admin_console.celery:ConsoleAMQP"
    task_cls = ConsoleTask


os.environ.setdefault("DJANGO_SETTINGS_MODULE", "admin_console.settings")
app = ConsoleCelery("admin_console")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
publisher = Publisher(app)

# Celery would end a process's database session before and after each task: the next one would pay for a new process of
# PostgreSQL, which has to learn all of our tables again.
app.conf.CELERY_DB_REUSE_MAX = sys.maxsize


@signals.task_postrun.connect
def keep_session(*, task: Any, state: str, **_: Any) -> None:
    """Keep the database session for the next task, as a web server does. A failed task's ends: who knows what it left locked."""
    for session in [] if task.request.is_eager else connections.all(initialized_only=True):
        if state == SUCCESS:
            session.close_if_unusable_or_obsolete()
        else:
            session.close()


class Ticker:
    """Rings for the periodic tasks of the settings. A process of its own (celery beat) for this would cost 100 MB."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        app.autodiscover_tasks(force=True)

    def ring(self, now: float) -> None:
        """Publish what is due at the moment `now`, by time.monotonic(); call it a few times a second."""
        for name, entry in app.conf.beat_schedule.items():
            if now >= self._due.get(name, 0) and app.tasks[entry["task"]].apply_async(**entry["options"]) is not None:
                self._due[name] = now + entry["schedule"]


@signals.setup_logging.connect
def keep_logging(**_: Any) -> None:
    """Keep Django's logging: a receiver of this signal stops Celery from setting up its own."""


class Ears:
    """Ends a worker that hears nothing although messages wait, so that whoever started it starts another.

    A worker whose broker ends between a task and its acknowledgement may forget the connection and never look for it again.
    """

    LOOK_EVERY = 1.5  # seconds
    IDLE_LOOKS = 4  # so many in a row in which something waited and nothing was received or worked on
    LOOKS = 50  # or only received: longer than any task may take

    def __init__(self) -> None:
        self.received = 0
        self._known = 0
        self._deaf = 0

    def listen(self) -> None:
        """Look now and then, for ever."""
        while True:
            time.sleep(self.LOOK_EVERY)
            with contextlib.suppress(Exception):  # The broker is away: then nobody hears anything.
                if self._is_deaf(self._something_waits()):
                    logger.error("messages wait and the worker hears nothing: it ends")
                    os.kill(os.getpid(), signal.SIGKILL)

    def _is_deaf(self, something_waits: bool) -> bool:
        heard, self._known = self.received != self._known, self.received
        self._deaf = 0 if heard or not something_waits else self._deaf + 1
        idle = not (state.reserved_requests or state.active_requests)
        return self._deaf >= (self.IDLE_LOOKS if idle else self.LOOKS)

    def _something_waits(self) -> bool:
        bounds = {"socket_timeout": 1, "socket_connect_timeout": 1, "max_retries": 0}
        with app.connection_for_read(transport_options=bounds) as connection:
            return bool(connection.default_channel.client.llen(app.conf.task_default_queue))


ears = Ears()


@signals.task_received.connect
def hear(**_: Any) -> None:
    """Note that the worker hears."""
    ears.received += 1


@signals.worker_ready.connect
def listen(**_: Any) -> None:
    """Watch over a worker's hearing from its start on."""
    threading.Thread(target=ears.listen, daemon=True).start()


@signals.worker_ready.connect
def outlive_nobody(**_: Any) -> None:
    """End soon after the launcher that started this worker, whatever hangs: told to stop, Celery first waits for its tasks."""
    if "CONSOLE_READY_FILE" in os.environ:
        threading.Thread(target=end_with, args=[os.getppid()], daemon=True).start()


def end_with(parent: int, *, patience: float = supervisor.PATIENCE) -> None:
    """Kill our session so many seconds after the process that started it ended; until then we may end in good order."""
    while os.getppid() == parent:
        time.sleep(1)
    time.sleep(patience)
    os.killpg(os.getpgrp(), signal.SIGKILL)


@signals.worker_ready.connect
def say_ready(**_: Any) -> None:
    """Tell whoever started this process that it is ready."""
    if path := os.environ.get("CONSOLE_READY_FILE"):
        Path(path).touch()
