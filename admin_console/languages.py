"""The languages that the console speaks, and in which of them a request is answered."""

import gettext
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.signals import user_logged_in
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils.translation import gettext_lazy
from django.utils.translation.trans_real import parse_accept_lang_header

from users.actions import InvalidUser, prefer
from users.models import User

UNTRANSLATED = "X-Untranslated"  # the header of a catalogue that says how many of its messages wait (catalogues.py writes it)

# Messages of Django's, whose Italian and Portuguese write them with a capital, as neither language does: ours count.
MONTHS = (
    gettext_lazy("January"),
    gettext_lazy("February"),
    gettext_lazy("March"),
    gettext_lazy("April"),
    gettext_lazy("May"),
    gettext_lazy("June"),
    gettext_lazy("July"),
    gettext_lazy("August"),
    gettext_lazy("September"),
    gettext_lazy("October"),
    gettext_lazy("November"),
    gettext_lazy("December"),
)


@cache
def offered() -> dict[str, str]:
    """Return the languages that one may choose: those whose catalogue is whole. By code, each by its own name."""
    return {code: name for code, name in settings.LANGUAGES if code == "en" or _is_whole(code)}


def _is_whole(code: str) -> bool:
    for folder in settings.LOCALE_PATHS:
        path = Path(folder) / code / "LC_MESSAGES" / "django.mo"
        if path.exists():
            with path.open("rb") as file:
                return gettext.GNUTranslations(file).info().get(UNTRANSLATED.lower()) == "0"
    return False


def of(request: HttpRequest) -> str:
    """Return the language to answer in: the reader's own, else the one chosen in this browser or that it asks for."""
    return _own(request) or of_browser(request) or (settings.LANGUAGE_CODE if settings.LANGUAGE_CODE in offered() else "en")


def of_browser(request: HttpRequest) -> str:
    """Return the language that was chosen in this browser, else the first that it asks for and the console has, else none."""
    asked = [code.partition("-")[0] for code, _weight in parse_accept_lang_header(request.headers.get("Accept-Language", ""))]
    wanted = [request.COOKIES.get(settings.LANGUAGE_COOKIE_NAME, ""), *asked]
    return next((code for code in wanted if code in offered()), "")


def _own(request: HttpRequest) -> str:
    # Who has no session is not looked for: the health pages ask no database.
    code = request.user.language if SESSION_KEY in request.session and request.user.is_authenticated else ""
    return code if code in offered() else ""


@receiver(user_logged_in)
def settle(request: HttpRequest, user: User, **_: Any) -> None:
    """Let the browser's language and time zone be those of a user who signs in and has none yet."""
    language = user.language or of_browser(request)
    time_zone = user.time_zone or request.POST.get("time_zone", "")
    if (language, time_zone) == (user.language, user.time_zone):
        return
    try:
        prefer(user=user, language=language, time_zone=time_zone)
    except InvalidUser:  # a zone that only this browser knows
        prefer(user=user, language=language, time_zone=user.time_zone)
    user.refresh_from_db(fields=["language", "time_zone"])
