"""Who may see what: every view says it with one of `requires`, `signed_in` and `public`; and who may sign in at all."""

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from ipaddress import ip_address
from typing import Any, cast
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.auth_backends import AuthenticationBackend
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.core.internal import ratelimit
from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render, resolve_url
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.timezone import now
from django.utils.translation import gettext_lazy as _
from django_htmx.http import HttpResponseClientRedirect
from django_htmx.middleware import HtmxDetails

from admin_console.signing_in import came_from
from notifications.people import owe_password_link
from notifications.tasks import ring
from products.models import ProductAccess
from users.models import Action, Capability, Role, User
from users.queries import can
from users.record import record

RESET_LIFETIME = timedelta(seconds=settings.PASSWORD_RESET_TIMEOUT)


class Request(HttpRequest):
    """A request as views get it that only signed-in users reach. For type checking only: nothing makes one."""

    user: User
    htmx: HtmxDetails


type View = Callable[..., HttpResponseBase]


def public(view: View) -> View:
    """Return the view, open to everyone."""
    return _guarded(view, "public", lambda request: None)


def signed_in(view: View) -> View:
    """Return the view, open to those who signed in, whatever their role."""
    return _guarded(view, "signed in", _sign_in_first)


def requires(capability: Capability) -> Callable[[View], View]:
    """Return a decorator: the view is open to users whose role has the capability.

    Who is signed out is sent to sign in and comes back afterwards; who lacks the capability gets a 403.
    """

    def guard(request: HttpRequest) -> HttpResponse | None:
        if (answer := _sign_in_first(request)) is not None:
            return answer
        if not can(request.user, capability):
            raise PermissionDenied(_("Your role does not include this: %s.") % capability.label)
        return None

    return lambda view: _guarded(view, capability.value, guard)


def may_sign_in(user: User) -> bool:
    """Return whether the user may sign in: not when deactivated, nor as a Member without any product (Suspended)."""
    if not user.is_active or user.role != Role.MEMBER:
        return user.is_active
    try:
        return not user.product_access.suspended
    except ProductAccess.DoesNotExist:
        return False


class SignInBackend(AuthenticationBackend):
    """Knows the user of a session: at each request, so who may no longer sign in is signed out at the next one."""

    def user_can_authenticate(self, user: Any) -> bool:
        return may_sign_in(user)

    def get_user(self, user_id: Any) -> User | None:
        user = User.objects.select_related("product_access").filter(pk=user_id).first()
        return user if user and self.user_can_authenticate(user) else None


class SignInAdapter(DefaultAccountAdapter):
    """How allauth signs people in here: nobody signs up, and who may not sign in is told why (after the right password only)."""

    error_messages = DefaultAccountAdapter.error_messages | {
        "account_inactive": _("Your account is switched off. Please ask an administrator of your organisation."),
        "account_suspended": _("You have no products at the moment, so you cannot sign in. Please ask your administrator."),
        "email_password_mismatch": _("The email address or the password is not right."),
        "too_many_login_attempts": _("There were too many attempts to sign in. Please try again in a few minutes."),
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def authenticate(self, request: HttpRequest, **credentials: Any) -> User | None:
        user = cast(User | None, super().authenticate(request, **credentials))
        if user and not may_sign_in(user):
            raise self.validation_error("account_suspended" if user.is_active else "account_inactive")
        return user

    def pre_login(self, request: HttpRequest, user: Any, **how: Any) -> HttpResponse | None:
        if not may_sign_in(user):
            raise PermissionDenied(self.error_messages["account_suspended" if user.is_active else "account_inactive"])
        return None

    def get_client_ip(self, request: HttpRequest) -> str:
        """Return where a request comes from: an IPv4 address as such, though a socket for both kinds writes it as an IPv6 one."""
        address = ip_address(super().get_client_ip(request))
        return str(getattr(address, "ipv4_mapped", None) or address)  # else all of IPv4 would count as one network

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:
        # Strict for one account from one place only, an IPv4 address or an IPv6 network: else anybody could keep anybody out.
        # Of nothing else that a request says: allauth's own key begins with the Host, whose port and capitals are the sender's.
        return _unguessable(f"{ratelimit.get_ip(request)} {str(credentials.get('email', '')).lower()}")

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        """Refuse too many attempts: from one place, on one account from one place, and on one account from anywhere."""
        super().pre_authenticate(request, **credentials)
        account = str(credentials.get("email", "")).lower()
        if not ratelimit.consume(request, app="allauth.account", action="login_failed_anywhere", key=_unguessable(account)):
            raise self.validation_error("too_many_login_attempts")

    def set_password(self, user: Any, password: str) -> None:
        """Set a new password, and record it; attempts on the account count no more, so who reads its mailbox always gets in.

        Nothing else of the user is written, who may be another since they were read: with another email or password, or
        switched off (as whoever was erased is), the link is over, as it is for who opens it now.
        """
        read = User.objects.filter(pk=user.pk, email=user.email, password=user.password, is_active=True)
        user.set_password(password)
        with transaction.atomic():
            if not read.update(password=user.password):
                over = render(self.request, "account/password_reset_from_key.html", {"token_fail": True}, status=410)
                raise ImmediateHttpResponse(over)
            record(Action.USER_PASSWORD_SET, actor=user, subject=user.pk, words=came_from(self.request))
        self._delete_login_attempts_cached_email(self.request, email=user.email)
        ratelimit.clear(self.request, app="allauth.account", action="login_failed_anywhere", key=_unguessable(user.email))

    def send_password_reset_mail(self, user: Any, email: str, context: dict[str, Any]) -> None:
        """Owe the email like every other one, so it outlives a mail server that is down. In the user's language."""
        at = now()
        with transaction.atomic():
            record(Action.USER_PASSWORD_ASKED, actor=None, subject=user.pk)
            owe_password_link(user=user, address=context["password_reset_url"], until=at + RESET_LIFETIME, now=at)
        ring()

    def get_reset_password_from_key_url(self, key: str) -> str:
        """Return the link in that email. It begins with CONSOLE_URL, for a request's Host is its sender's to choose."""
        return settings.CONSOLE_URL + str(urlsplit(super().get_reset_password_from_key_url(key)).path)

    def add_message(self, *args: Any, **kwargs: Any) -> None:
        """Say nothing: that one signed in or out shows."""


def _unguessable(account: str) -> str:
    """Return a name for an account from which nobody finds the account by trying: attempts are counted under it."""
    return salted_hmac("admin_console.attempts", account, algorithm="sha256").hexdigest()


def _guarded(view: View, access: str, guard: Callable[[HttpRequest], HttpResponse | None]) -> View:
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        answer = guard(request)
        if answer is not None:
            return answer
        with timezone.override(_zone(request.user)):
            return view(request, *args, **kwargs)

    guarded.access = access  # type: ignore[attr-defined]  # what tests/console/test_access.py looks for
    return guarded


def _zone(user: Any) -> ZoneInfo | None:
    """Return the time zone in which the user reads times, None for the console's own."""
    try:
        return ZoneInfo(user.time_zone) if getattr(user, "time_zone", "") else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _sign_in_first(request: HttpRequest) -> HttpResponse | None:
    """Return the way to the sign-in page and back for who is signed out, else None."""
    if request.user.is_authenticated:
        return None
    htmx = getattr(request, "htmx", None)
    if htmx:
        return HttpResponseClientRedirect(redirect_to_login(_page_shown(htmx)).url)
    return redirect_to_login(request.get_full_path() if request.method in ("GET", "HEAD") else page_before(request))


def _page_shown(htmx: HtmxDetails) -> str:
    """Return the page of ours that sent the request."""
    try:
        return htmx.current_url_abs_path or resolve_url("home")
    except ValueError:  # the browser's address is none
        return resolve_url("home")


def page_before(request: HttpRequest) -> str:
    """Return the page of ours that a form was posted from: an address that takes POST only is none to come back to."""
    try:
        before = urlsplit(request.headers.get("Referer", ""))
    except ValueError:
        return resolve_url("home")
    page = before._replace(scheme="", netloc="").geturl()
    is_ours = before.netloc == request.get_host() and url_has_allowed_host_and_scheme(page, allowed_hosts=None)
    return page if is_ours else resolve_url("home")
