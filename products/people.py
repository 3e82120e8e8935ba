"""Adding a person: the user, the products to begin with, and the invitation, all or nothing."""

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from notifications.people import invite
from products.actions import request_bulk_change
from products.models import Mode
from products.selection import Selection
from users.actions import InvalidUser, add_user, let_manage
from users.models import Role, User, UserGroup


@transaction.atomic
def add_person(
    *, actor: User, products: Iterable[int], invited: bool, now: datetime, manages: Iterable[UserGroup] = (), **who: Any
) -> User:
    """Add a user (`who` is what `users.actions.add_user` takes) who holds these products, owe the invitation, and return them.

    A Manager manages these groups. Raises what `add_user`, `let_manage` and `request_bulk_change` raise, and InvalidUser for a
    Member who is invited to nothing.
    """
    products = list(products)
    user = add_user(actor=actor, now=now, **who)  # what is wrong with the email comes first, as in the form
    if invited and not products and user.role == Role.MEMBER:
        raise InvalidUser(
            "invited", _("A Member without products cannot sign in: choose some products, or send no invitation yet.")
        )
    if user.role == Role.MANAGER:
        let_manage(actor=actor, user=user, groups=manages)
    if invited:
        invite(actor=actor, user=user, now=now)
    if products:
        asked = Selection.of([user.pk])
        request_bulk_change(
            actor=actor, selection=asked, products=products, mode=Mode.ADD, notify=False, key=uuid.uuid4(), reason="", now=now
        )
    return user
