"""Logs as one JSON object a line: quiet, without secrets and without what tells who a person is (users appear by their id)."""

import logging
import re
import time
import uuid
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog
from django.http import HttpRequest, HttpResponse

SECRET = re.compile(r"password|secret|token|authorization|cookie|csrf|session", re.IGNORECASE)
PERSONAL = frozenset({"email", "first_name", "last_name", "recipient", "recipients", "to_addr"})
ADDRESS = re.compile(r"[^\s@<>()\"'=]+@[^\s@<>()\"',;]+")
LETS_IN = re.compile(r"(/(?:password/reset/key|invitation)/)[^\s/\"'?]+")  # links that let somebody into an account
QUERY = re.compile(r"(/[^\s\"'<>?]*\?)[^\s\"'<>]+")

log = structlog.get_logger(__name__)


def scrub(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take secrets and addresses out of a line, wherever they came from."""
    # Django adds it to what it logs; it prints its address, searched words and all.
    event.pop("request", None)
    for key, value in event.items():
        if SECRET.search(key) or key in PERSONAL:
            event[key] = "…"
        elif isinstance(value, str):
            event[key] = _clean(value)
    return event


def _clean(value: object) -> str:
    return ADDRESS.sub("…@…", QUERY.sub(r"\1…", LETS_IN.sub(r"\1…", str(value))))


def logging_settings(level: str) -> dict[str, Any]:
    """Set structlog up and return what Django's LOGGING should be; the console's own loggers speak from `level`, others warn."""
    logging.captureWarnings(True)  # Python's would be the only lines that are no JSON.
    before: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *before,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    line = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, scrub, structlog.processors.JSONRenderer(default=_clean)]
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "processors": line,
        "foreign_pre_chain": [structlog.stdlib.ExtraAdder(), *before],
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": formatter},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {
            **{name: {"level": level} for name in ("admin_console", "users", "notifications", "products")},
            "django": {"handlers": [], "level": "WARNING", "propagate": True},
            # The line of the request says it already.
            "django.request": {"level": "ERROR"},
            "django.security.DisallowedHost": {"level": "CRITICAL"},
        },
    }


class RequestLogMiddleware:
    """Log one line a request: the route and not the address, which may hold a name or a key."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        started = time.perf_counter()
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=uuid.uuid4().hex[:16])
        response = self.get_response(request)
        match = request.resolver_match
        # Static files and the questions of whoever watches the console are many and tell nothing.
        if response.status_code >= 400 or (match and match.url_name not in ("healthz", "readyz")):
            log.info(
                "request",
                method=request.method,
                route=match.route if match else None,
                status=response.status_code,
                ms=round((time.perf_counter() - started) * 1000, 1),
                # Not request.user: that would ask the database when nobody else did.
                user=getattr(getattr(request, "_cached_user", None), "pk", None),
            )
        return response
