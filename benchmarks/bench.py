"""What every part of the bench works with: how many users, and copies of the organisation to change."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg

from benchmarks.servers import clone
from benchmarks.web import web_server
from tests.database import Database, use
from tests.processes import Broker, Worker

TEMPLATE = "organisation"


@dataclass(frozen=True)
class Bench:
    """One run: `repeat` times each, on copies of an organisation of `users`; `stack` ends what lasts as long as the run.

    A quick run, which is about the bench itself and not about its figures, does with one copy, one worker and one web server.
    """

    home: Path
    superuser: str
    broker: Broker
    users: int
    repeat: int
    stack: ExitStack

    @property
    def some(self) -> int:
        """How many users are "10,000 of them": fewer when there are not ten times as many."""
        return min(10_000, self.users // 10)

    @property
    def quick(self) -> bool:
        """Whether the figures are of no interest."""
        return self.users < 10_000

    @contextmanager
    def fresh(self) -> Iterator[Database]:
        """Yield a copy of the organisation as it was at first, on which Django and processes started meanwhile work."""
        with nullcontext(self._only_copy) if self.quick else self._copy() as database:
            yield database

    @contextmanager
    def worker(self) -> Iterator[Worker]:
        """Yield a Celery worker as `make run` starts it, on the copy in use; nothing waits in its queue."""
        self.broker.empty()
        with nullcontext(self._only_worker) if self.quick else Worker(self.home, concurrency=2) as worker:
            yield worker

    @contextmanager
    def web_server(self) -> Iterator[int]:
        """Yield the port of a web server as `make run` starts it, on the copy in use."""
        with nullcontext(self._only_web_server) if self.quick else web_server(self.home) as port:
            yield port

    @contextmanager
    def _copy(self) -> Iterator[Database]:
        with clone(self.superuser, TEMPLATE, "bench") as database, use(database), patch.dict(os.environ, database.environment):
            yield database

    @cached_property
    def _only_copy(self) -> Database:
        return self.stack.enter_context(self._copy())

    @cached_property
    def _only_worker(self) -> Worker:
        return self.stack.enter_context(Worker(self.home, concurrency=2))

    @cached_property
    def _only_web_server(self) -> int:
        return self.stack.enter_context(web_server(self.home))

    def tell(self, line: str) -> None:
        """Say how far it is."""
        print(f"  {line}", flush=True)


def timed(work: Callable[[], Any]) -> float:
    """Return how many seconds `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def settle(database: Database, *tables: str) -> None:
    """Do what autovacuum and the checkpointer would have done by now, so that the next measurement does not pay for the last."""
    with psycopg.connect(database.superuser, autocommit=True) as server:
        server.execute(f"VACUUM (ANALYZE) {', '.join(tables)}")
        server.execute("CHECKPOINT")
