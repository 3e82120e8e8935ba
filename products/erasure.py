"""Erasing a person on request: what tells who they are is overwritten wherever it is kept. What happened to their id stays known.

The entitlement history names users by their id only, and the sealed record of admins keeps a salted hash of what named them: so
both still verify.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote, quote_plus

from allauth.account.models import EmailAddress
from django.db import connection, transaction
from django.db.models import Q
from django.utils.translation import gettext as _

from notifications.models import OPEN, Notification, SinkMessage, State, Suppression
from products import evidence, history
from products.models import ProductAccess, SelectionDraft, Source
from products.running import retrying
from users.actions import keeping_a_super_admin, require
from users.models import ERASED_AT, Action, AdminAction, Capability, GroupMembership, LastSeen, Role, User
from users.record import record

ERASED = "[erased]"  # stands where their name or address stood
LEAST = 3  # letters of a name that is looked for by itself


class ErasedAlready(Exception):
    """There is nothing left to erase of this user."""

    def __str__(self) -> str:
        return _("This user was erased already.")


def erase_user(*, actor: User, user: User, now: datetime) -> None:
    """Overwrite the personal data of a user everywhere, take what they hold, and let nobody give them anything any more.

    In one transaction, with its record. Raises NotAllowed, LastSuperAdmin or ErasedAlready.
    """
    require(actor, Capability.ERASE_USERS)
    retrying(lambda: _erase(actor, user.pk, now))


@transaction.atomic
def _erase(actor: User, user_id: int, now: datetime) -> None:
    user = User.objects.select_for_update(no_key=True).get(pk=user_id)
    if user.is_erased:
        raise ErasedAlready
    names = _names(user)
    with history.acting(actor_id=actor.pk, source=Source.CONSOLE):
        ProductAccess.objects.filter(user=user).update(products=[], erased=True)
    _forget_emails(user)
    record(Action.USER_ERASED, actor=actor, subject=user.pk, after={"words": _words_about(user, names)})  # which erases them
    _forget_changes(names)
    SelectionDraft.objects.filter(owner=user).delete()
    evidence.withdraw_all(now=now)  # asked for again, they do not name them
    _forget_person(user)


def _names(user: User) -> list[str]:
    """Return by what the user is called, the longest first: their address, their names together, in both orders, and the last."""
    first, last = user.first_name, user.last_name
    called = {
        user.email,
        f"{first} {last}".strip(),
        f"{last} {first}".strip(),
        f"{last}, {first}" if first and last else "",
        last,
    }
    with connection.cursor() as cursor:
        cursor.execute("SELECT users_fold(name) FROM unnest(%s::text[]) AS name", [list(called)])
        called |= {row[0] for row in cursor.fetchall()}
    return sorted((name for name in called if len(name) >= LEAST), key=len, reverse=True)


def _pattern(names: Iterable[str]) -> str:
    r"""Return a regular expression of PostgreSQL's that finds whole names. (\m and \M are where a word begins and ends.)"""
    return rf"\m({'|'.join(re.sub(r'([^\w\s])', r'\\\1', name) for name in names)})\M"


def _forget_emails(user: User) -> None:
    """Overwrite what the outbox knows of them; what was not sent yet never is."""
    owed = Notification.objects.filter(user=user)
    owed.filter(state__in=OPEN).update(state=State.FAILED)
    owed.update(to_address="", subject="", message=None, message_id="", last_words=_("The user was erased."))
    Suppression.objects.filter(address=user.email).delete()
    SinkMessage.objects.filter(Q(recipients__contains=[user.email])).delete()


def _words_about(user: User, names: Sequence[str]) -> list[int]:
    """Return the admin actions whose words are to go: what was done to this user, where they signed in, wherever they are named.

    Their names are only in words: what an action was done to, and how, is told by numbers.
    """
    written = [variant for name in names for variant in (quote(name), quote_plus(name))]
    named = Q(words__iregex=_pattern(dict.fromkeys([*names, *written])))
    own = Q(actor=user, action__startswith="user.sign") | Q(subject_id=user.pk, action__startswith="user.")
    return list(AdminAction.objects.filter(words__isnull=False).filter(own | named).order_by("id").values_list("id", flat=True))


def _forget_changes(names: Sequence[str]) -> None:
    """Overwrite their names in the reasons of changes and in the searches that chose users; the drafts of others forget theirs.

    What was asked for is known by a plain digest, from which a name could be guessed: it becomes a random one.
    """
    facts: dict[str, Any] = {"names": _pattern(names), "erased": ERASED}
    with connection.cursor() as cursor:
        cursor.execute(CHANGES, facts)
        cursor.execute(DRAFTS, facts)


CHANGES = """
UPDATE products_bulkchange SET
    reason = regexp_replace(reason, %(names)s, %(erased)s, 'gi'),
    state_reason = regexp_replace(state_reason, %(names)s, %(erased)s, 'gi'),
    selection = CASE WHEN selection #>> '{filter,search}' ~* %(names)s
        THEN jsonb_set(selection, '{filter,search}', jsonb_build_array(%(erased)s::text)) ELSE selection END,
    fingerprint = encode(sha256(uuid_send(gen_random_uuid())), 'hex')
WHERE reason ~* %(names)s OR state_reason ~* %(names)s OR selection #>> '{filter,search}' ~* %(names)s
"""
DRAFTS = "UPDATE products_selectiondraft SET everyone = false, filter = '{}', ids = '{}' WHERE filter ->> 'search' ~* %(names)s"


def _forget_person(user: User) -> None:
    GroupMembership.objects.filter(user=user).delete()
    user.managed_groups.clear()
    LastSeen.objects.filter(user=user).delete()
    EmailAddress.objects.filter(user=user).delete()
    user.email, user.first_name, user.last_name = f"{user.pk}{ERASED_AT}", "", ""
    user.language, user.time_zone, user.role, user.is_active = "", "", Role.MEMBER, False
    user.set_unusable_password()
    with keeping_a_super_admin():
        user.save()
