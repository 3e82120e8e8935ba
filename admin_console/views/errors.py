"""The pages that say what went wrong: a full page, or for htmx a toast that leaves the page as it was."""

import sys
from typing import Any

from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.translation import gettext as _

from admin_console.access import public

RETRY_AFTER = 5  # seconds


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Answer 400 for a request that the console cannot read."""
    text = _("The console could not read this request. Please go back and try again.")
    if isinstance(exception, TooManyFieldsSent | RequestDataTooBig):
        text = _("That was too much at once. To act on many users, use “Select all” instead of ticking each of them.")
    return failed(request, 400, _("This request cannot be read"), text)


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Answer 403 and say what is missing."""
    text = str(exception or "") or _("Your role does not allow this.")
    return failed(request, 403, _("You may not do this"), text)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Answer 404: unknown, or not within the scope of who asks."""
    return failed(request, 404, _("Not found"), _("There is nothing here, or it is not yours to see."))


def too_many(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Answer 429: signing in and asking for a new password are throttled."""
    return failed(request, 429, _("Too many attempts"), _("Please wait a few minutes and try again."))


@public
def form_expired(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer 403 when the form's CSRF token is missing or old."""
    text = _("This form is too old or was opened before you signed in. Reload the page and try again; nothing was changed.")
    return failed(request, 403, _("This form has expired"), text)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer 500, or 503 when the cause is a database that does not answer, has no room left or takes too long."""
    error = sys.exc_info()[1]
    if isinstance(error, OperationalError | InterfaceError):
        match getattr(error.__cause__, "sqlstate", None):
            case "53100":  # disk_full
                text = _("The database has no room left on its disk. Nothing was half done: please tell your operator.")
            case "57014" | "55P03":  # query_canceled, lock_not_available
                text = _("The database took too long, perhaps for a large change. Nothing was half done: please try again.")
            case _:
                text = _("The database does not answer at the moment. Nothing was half done: please try again in a few seconds.")
        response = failed(request, 503, _("The console is not available"), text)
        response["Retry-After"] = str(RETRY_AFTER)
        return response
    text = _("Something went wrong on our side and has been logged. Please try again; if it happens again, tell your operator.")
    return failed(request, 500, _("That did not work"), text)


def failed(request: HttpRequest, status: int, title: str, text: str) -> HttpResponse:
    """Return the error page, or for htmx a toast with the same sentence that leaves the page as it was."""
    htmx = bool(getattr(request, "htmx", False))
    context: dict[str, Any] = {"status": status, "title": title, "text": text, "theme": request.COOKIES.get("theme", "")}
    template = "errors/error.html" + ("#toast" if htmx else "")
    # Rendered without the request: neither the session nor the database, which may be what failed, is asked.
    response = HttpResponse(render_to_string(template, context), status=status)
    response["Cache-Control"] = "no-store"
    if htmx:
        response["HX-Retarget"] = "#toasts"
        response["HX-Reswap"] = "beforeend"
    return response
