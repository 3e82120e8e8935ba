"""What happens around every request: the language it is answered in, and what is owed to those who signed in."""

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta

from django.contrib.auth import SESSION_KEY
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.middleware.gzip import GZipMiddleware
from django.utils import translation
from django.utils.cache import add_never_cache_headers, patch_vary_headers
from django.utils.timezone import now

from admin_console import languages
from users import actions
from users.models import User

SEEN_AT = "seen_at"
SEEN_EVERY = timedelta(hours=1)


class LanguageMiddleware:
    """Answer in the reader's language, as long as the answer goes on; only languages whose catalogue is whole are spoken."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse | StreamingHttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
        language = languages.of(request)
        with translation.override(language):
            response = self.get_response(request)
        if isinstance(response, StreamingHttpResponse) and not isinstance(response, FileResponse):  # a file speaks for itself
            response.streaming_content = _spoken(language, response.streaming_content)  # type: ignore[arg-type]  # never asynchronous
        response.headers.setdefault("Content-Language", language)
        patch_vary_headers(response, ["Accept-Language", "Cookie"])
        return response


def _spoken(language: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
    with translation.override(language):
        yield from pieces


class CompressMiddleware(GZipMiddleware):
    """Send pages compressed: a list is a tenth of its size then. Not what is streamed, whose first bytes are waited for."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        return response if response.streaming else super().process_response(request, response)


class SignedInMiddleware:
    """Keep answers to signed-in users out of every cache, note who was seen, and end the session of who may no longer sign in."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if not request.session.accessed:
            return response
        if request.user.is_authenticated:
            add_never_cache_headers(response)
            _note_seen(request, request.user)
        elif SESSION_KEY in request.session:
            request.session.flush()  # deactivated, or a Member who was suspended meanwhile
        return response


def _note_seen(request: HttpRequest, user: User) -> None:
    """Write the user's last-seen time, at most hourly: the session remembers when it was last written."""
    seen_at, at = request.session.get(SEEN_AT, 0), now()
    if at.timestamp() - seen_at >= SEEN_EVERY.total_seconds():
        actions.seen(user=user, now=at)
        request.session[SEEN_AT] = int(at.timestamp())
