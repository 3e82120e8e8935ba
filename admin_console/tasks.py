"""Housekeeping of the console itself."""

from importlib import import_module
from typing import Any

from celery import shared_task
from django.conf import settings


@shared_task
def forget_sessions(**_: Any) -> None:
    """Delete the sessions that have expired: nobody else does, and each names the user who was signed in."""
    import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()
