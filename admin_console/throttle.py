"""The cache in which allauth counts attempts to sign in. In PostgreSQL, all web processes count together and no broker is needed.

Values are JSON. Django's own DatabaseCache keeps pickles: by one of those, whoever may write to its table runs code in the web
server.
"""

import json
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.db import connection

# For how many seconds a lock is kept at most. allauth adds nothing but locks, each for a read and a write of a counter. It says
# ten, but waits for one and then refuses: for so long nobody could sign in after a process died with a lock, or the database.
_LOCKED = 0.8
# Some with each that is written, so the table holds little more than what counts.
_FORGET = """
DELETE FROM admin_console_throttle WHERE cache_key IN (
    SELECT cache_key FROM admin_console_throttle WHERE expires <= statement_timestamp() LIMIT 100 FOR UPDATE SKIP LOCKED)
"""
_SET = """
INSERT INTO admin_console_throttle AS kept (cache_key, value, expires)
VALUES (%s, %s, coalesce(statement_timestamp() + make_interval(secs => %s), 'infinity'))
ON CONFLICT (cache_key) DO UPDATE SET value = excluded.value, expires = excluded.expires
"""
_ADD = f"{_SET} WHERE kept.expires <= statement_timestamp()"


class ThrottleCache(BaseCache):
    """What allauth uses of a cache, in the table `admin_console_throttle`. Nothing goes before its time, however much comes."""

    def __init__(self, _location: str, params: dict[str, Any]) -> None:
        super().__init__(params)

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """Return what is kept under the key; the default when there is nothing, or nothing that can be read."""
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT value FROM admin_console_throttle WHERE cache_key = %s AND expires > statement_timestamp()",
                [self.make_key(key, version)],
            )
            row = cursor.fetchone()
        try:
            return json.loads(row[0]) if row else default
        except ValueError:
            return default

    def set(self, key: Any, value: Any, timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        """Keep a value under the key, for so many seconds."""
        self._keep(_SET, key, value, timeout, version)

    def add(self, key: Any, value: Any, timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Keep a lock under the key unless there is one, for `_LOCKED` seconds at most; return whether there was none."""
        seconds = _LOCKED if timeout is DEFAULT_TIMEOUT or timeout is None else min(timeout, _LOCKED)
        return self._keep(_ADD, key, value, seconds, version)

    def delete(self, key: Any, version: int | None = None) -> bool:
        """Forget what is kept under the key; return whether there was anything."""
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM admin_console_throttle WHERE cache_key = %s", [self.make_key(key, version)])
            return bool(cursor.rowcount)

    def clear(self) -> None:
        """Forget everything."""
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM admin_console_throttle")

    def _keep(self, statement: str, key: Any, value: Any, timeout: Any, version: int | None) -> bool:
        seconds = self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        with connection.cursor() as cursor:
            cursor.execute(_FORGET)
            cursor.execute(statement, [self.make_key(key, version), json.dumps(value), seconds])
            return bool(cursor.rowcount)
