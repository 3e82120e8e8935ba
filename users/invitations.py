"""Inviting a user: a signed link to choose their first password with, which works once and for some days."""

import logging
from datetime import UTC, datetime, timedelta

from django.core.signing import BadSignature, Signer
from django.db import transaction
from django.utils.crypto import constant_time_compare, salted_hmac
from django.utils.translation import gettext as _

from users.actions import NotAllowed, require
from users.models import Action, AdminAction, Capability, User
from users.record import record

LIFETIME = timedelta(days=7)
_SIGNER = Signer(salt="users.invitations")

logger = logging.getLogger(__name__)


class InvitationOver(Exception):
    """The link is not ours, or too old, or its password was chosen already."""


@transaction.atomic
def invite(*, actor: User, user: User) -> AdminAction:
    """Record that the actor invites the user, once more if need be; the record's id is what the email is about.

    Raises what `lock_invitable` raises.
    """
    lock_invitable(actor=actor, user=user)
    logger.info("user_invited", extra={"user": user.pk, "actor": actor.pk})
    return record(Action.USER_INVITED, actor=actor, subject=user.pk)


def lock_invitable(*, actor: User, user: User) -> None:
    """Let nobody else invite the user before the current transaction ends.

    Raises NotAllowed when the actor may not, or when there is nothing to invite the user to: they chose a password already.
    """
    require(actor, Capability.MANAGE_USERS)
    user = User.objects.select_for_update(no_key=True).get(pk=user.pk)
    if user.has_usable_password():
        raise NotAllowed(_("%(name)s has a password already.") % {"name": user.name})
    if not user.is_active:
        raise NotAllowed(_("%(name)s may not sign in.") % {"name": user.name})


def invitations_of(user: User) -> list[AdminAction]:
    """Return every invitation of the user, newest first."""
    return list(AdminAction.objects.filter(action=Action.USER_INVITED, subject_id=user.pk).order_by("-id"))


def token_of(user: User, *, invited_at: datetime) -> str:
    """Return what the link of an invitation carries: signed, and no longer right once the user has another password."""
    return _SIGNER.sign(f"{user.pk}.{int((invited_at + LIFETIME).timestamp())}.{_mark(user)}")


def invited_by(token: str, *, now: datetime) -> User:
    """Return whom the link invites. Raises InvitationOver."""
    try:
        number, until, mark = _SIGNER.unsign(token).split(".")
    except (BadSignature, ValueError) as error:
        raise InvitationOver from error
    user = User.objects.select_related("product_access").filter(pk=int(number), is_active=True).first()
    if user is None or now > datetime.fromtimestamp(int(until), UTC) or not constant_time_compare(mark, _mark(user)):
        raise InvitationOver
    return user


@transaction.atomic
def accept(*, token: str, password: str, now: datetime) -> User:
    """Let this be the password of whom the link invites, and return them. Raises InvitationOver."""
    invited = invited_by(token, now=now)
    user = User.objects.select_for_update(no_key=True).get(pk=invited.pk)
    if not constant_time_compare(_mark(user), _mark(invited)):  # chosen meanwhile
        raise InvitationOver
    user.set_password(password)
    user.save(update_fields=["password"])
    record(Action.USER_PASSWORD_SET, actor=user, subject=user.pk)
    return user


def _mark(user: User) -> str:
    """Return what changes with the user's password and address."""
    return salted_hmac("users.invitations", f"{user.pk} {user.email} {user.password}", algorithm="sha256").hexdigest()[:32]
