"""The record of what admins do, beside the entitlement history: append-only, sealed, with personal data that can be erased."""

from collections.abc import Mapping
from typing import Any

from users.models import Action, AdminAction, User


def record(
    action: Action,
    *,
    actor: User | None,
    subject: int | None = None,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    words: Mapping[str, Any] | None = None,
) -> AdminAction:
    """Record that the actor did this to the subject (the id of a user, group, product …), in the caller's transaction; return it.

    `before` and `after` are what was changed, without personal data: ids, numbers, codes. What names or may name a person
    (an email, a name, a reason, a search text) goes into `words`, which erasing that person overwrites. The time, the database
    role and the salted digest of the words are the database's to add.
    """
    return AdminAction.objects.create(
        action=action,
        actor=actor,
        subject_id=subject,
        before=dict(before) if before is not None else None,
        after=dict(after) if after is not None else None,
        words=dict(words) if words else None,
    )
