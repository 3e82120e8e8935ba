"""What is done to people and told to them by email: they are invited, or given another role or email."""

from collections.abc import Iterable
from datetime import datetime

from django.db import transaction
from django.utils import translation

from notifications.actions import queue, queue_message
from notifications.addresses import NEW_EMAIL, OLD_EMAIL
from notifications.emails import ACCOUNT, KINDS, LinkFacts, compose, language_of
from notifications.models import INVITATION, Notification, State
from notifications.wordings import identity
from users import actions, invitations
from users.models import AdminAction, User, UserGroup

ROLE = "ROLE"  # about an AdminAction


@transaction.atomic
def invite(*, actor: User, user: User, now: datetime) -> bool:
    """Owe the user an email with a link to choose a password, a new one each time; return whether it is a new one.

    One that waits is the one that goes, as long as its link works. Raises users.actions.NotAllowed.
    """
    invitations.lock_invitable(actor=actor, user=user)  # Of several clicks one comes first.
    # No constraint says so: one that is tried again may wait beside one that was owed meanwhile, or its link has ended.
    waiting = Notification.objects.filter(user=user, kind=INVITATION, state__in=(State.QUEUED, State.DEFERRED))
    if waiting.filter(owed_at__gt=now - invitations.LIFETIME).exists():
        return False
    _owe(INVITATION, invitations.invite(actor=actor, user=user))
    return True


@transaction.atomic
def change_role(*, actor: User, user: User, role: str, manages: Iterable[UserGroup] = (), notify: bool, now: datetime) -> bool:
    """Give the user this role, and a Manager these groups to manage; return whether that was otherwise before.

    They are told of another role, unless `notify` is off. Raises what `users.actions.change_role` and `let_manage` raise.
    """
    changed = actions.change_role(actor=actor, user=user, role=role)
    manages_others = actions.let_manage(actor=actor, user=user, groups=manages)
    if changed is not None and notify:
        _owe(ROLE, changed)
    return changed is not None or manages_others


@transaction.atomic
def edit(*, actor: User, user: User, first_name: str, last_name: str, email: str) -> str | None:
    """Correct what a user is called and where they are written to; return the email that this gave them, None when they have it.

    Of another email both addresses are told, unless they are suppressed; but for the new one of who gave it to themselves. Raises
    what `users.actions.edit_user` raises.
    """
    edited = actions.edit_user(actor=actor, user=user, first_name=first_name, last_name=last_name, email=email)
    if edited is None or not edited.after or not edited.words or "email" not in edited.after["changed"]:
        return None
    _owe(OLD_EMAIL, edited)
    if actor.pk != user.pk:
        _owe(NEW_EMAIL, edited)
    return str(edited.words["after"]["email"])


def owe_password_link(*, user: User, address: str, until: datetime, now: datetime) -> None:
    """Owe the user an email with this link to choose a new password, in their language."""
    language = language_of(user)
    facts = LinkFacts(address, until, user.time_zone)
    message = compose(KINDS[ACCOUNT], facts, reader=user, language=language, identity=identity())
    with translation.override(language):
        queue_message(user=user, now=now, until=until, **vars(message))


def _owe(kind: str, about: AdminAction) -> None:
    queue(kind, "SELECT %(user)s::int, %(about)s::bigint", {"user": about.subject_id, "about": about.pk})
