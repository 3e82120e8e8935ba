"""Signing in, out and failing to: recorded with the address from which that came."""

from typing import Any

from allauth.account.adapter import get_adapter
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from users.models import Action, User
from users.record import record


def record_it() -> None:
    """Record from here on whatever Django tells of it."""
    user_logged_in.connect(_signed_in)
    user_logged_out.connect(_signed_out)
    user_login_failed.connect(_failed)


def _signed_in(request: HttpRequest, user: User, **_: Any) -> None:
    record(Action.USER_SIGNED_IN, actor=user, subject=user.pk, words=came_from(request))


def _signed_out(request: HttpRequest, user: User | None, **_: Any) -> None:
    if user is not None:  # else nobody was signed in
        record(Action.USER_SIGNED_OUT, actor=user, subject=user.pk, words=came_from(request))


def _failed(credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    """Record which email was tried; the password is not among what Django tells."""
    email = str(credentials.get("email", "")).strip().lower()[:254]
    user = User.objects.filter(email=email).values_list("id", flat=True).first()
    record(Action.USER_SIGN_IN_FAILED, actor=None, subject=user, words={"email": email, **came_from(request)})


def came_from(request: HttpRequest | None) -> dict[str, str]:
    """Return from which address a request came, if that is known."""
    try:
        return {"from": get_adapter(request).get_client_ip(request)} if request and request.META.get("REMOTE_ADDR") else {}
    except PermissionDenied:
        return {}
