"""What one may set on every page: the language, and whether single keys are shortcuts."""

from django.conf import settings
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods, require_POST

from admin_console import languages
from admin_console.access import Request, page_before, public, signed_in
from admin_console.views.changes import see_other
from users.actions import prefer

A_YEAR = 365 * 24 * 60 * 60
SHORTCUTS = "shortcuts"  # the cookie, which console.js reads at each key


@require_POST
@public
def choose_language(request: HttpRequest) -> HttpResponse:
    """Speak the language chosen from here on, in this browser and to this user, and go back to the page that asked."""
    language = request.POST.get("language", "")
    if language not in languages.offered():
        raise BadRequest(f"no language {language!r}")
    if request.user.is_authenticated:
        prefer(user=request.user, language=language, time_zone=request.user.time_zone)
    response = see_other(page_before(request))
    keep(response, settings.LANGUAGE_COOKIE_NAME, language, httponly=True)
    return response


@require_http_methods(["GET", "POST"])
@signed_in
def shortcuts(request: Request) -> HttpResponse:
    """Show the keyboard shortcuts, as a page or in a dialog; switch them on or off in this browser."""
    if request.method == "POST":
        response = HttpResponse(status=204) if request.htmx else see_other("shortcuts")
        keep(response, SHORTCUTS, "on" if "on" in request.POST else "off")
        return response
    context = {"are_on": request.COOKIES.get(SHORTCUTS) != "off"}
    return render(request, "shortcuts.html" + ("#dialog" if request.htmx else ""), context)


def keep(response: HttpResponse, name: str, value: str, *, httponly: bool = False) -> None:
    """Remember a choice in this browser, for a year."""
    response.set_cookie(name, value, max_age=A_YEAR, secure=settings.PRODUCTION, httponly=httponly, samesite="Lax")
