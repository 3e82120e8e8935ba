"""Erasing a person on request: what tells who they are is overwritten wherever it is kept. What happened to their id stays known.

The entitlement history names users by their id only, and the sealed record of admins keeps a salted hash of what named them: so
both still verify. tests/products/test_erased_everywhere.py looks into every column of every table.
"""

from binascii import a2b_qp
from datetime import datetime
from email.header import decode_header, make_header
from typing import Any

from allauth.account.models import EmailAddress
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.db.models import Q
from django.utils.translation import gettext as _

from notifications import suppression
from notifications.models import OPEN, SinkMessage, State
from products import evidence, history
from products.models import ProductAccess, SelectionDraft, Source
from products.naming import Names, Naming, named, names_of, overwritten
from products.running import retrying
from users.actions import keeping_a_super_admin, require
from users.models import ERASED_AT, Action, Capability, GroupMembership, LastSeen, Role, User
from users.record import record

# Where people write what they like, and where servers and the database are quoted.
FREE_TEXT = {
    "products_bulkchangebatch": ("error",),
    "products_bulkchangeskip": ("detail",),
    "notifications_mailserver": ("last_words",),
    "django_admin_log": ("object_repr", "change_message"),
}


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
    names = names_of(user)
    with history.acting(actor_id=actor.pk, source=Source.CONSOLE):
        ProductAccess.objects.filter(user=user).update(products=[], erased=True)
    fully, called, about = _looked_for(user, names)
    _forget_emails(user, names.fully, fully, called)
    _forget_changes(fully, called, about)
    _forget_sessions(user, fully)
    SelectionDraft.objects.filter(owner=user).delete()
    evidence.withdraw_all(now=now)  # asked for again, they do not name them
    versions = {"wordings": _found(WORDINGS_NAMING, fully), "identities": _found(IDENTITIES_NAMING, fully)}
    words = sorted({*_found(WORDS_ABOUT, called, **about), *_found(WORDS_NAMING, fully)})
    # The record erases the words that it names, and lets these versions be overwritten: nothing else may.
    record(Action.USER_ERASED, actor=actor, subject=user.pk, after={"words": words, **versions})
    _run(fully, WORDINGS, IDENTITIES, **versions)
    _forget_person(user)
    # Not before: who notes a failure holds the user's row, and would wait for that of the address while we wait for theirs.
    _run(fully, REASONS)
    suppression.forget(names.fully)


def named_elsewhere(user: User, names: Names) -> int:
    """Return how many records that are not about the user name them all the same, and lose that once they are erased."""
    fully, called, about = _looked_for(user, names)
    return (
        len({*_found(WORDS_NAMING, fully)} - {*_found(WORDS_ABOUT, called, **about)})
        + len({*_found(CHANGES_NAMING, fully)} - {*about["changes"]})
        + len(_found(WORDINGS_NAMING, fully))
        + len(_found(IDENTITIES_NAMING, fully))
    )


def _looked_for(user: User, names: Names) -> tuple[Naming, Naming, dict[str, Any]]:
    """Return what names the user anywhere, what does so in what is about them, and which facts tell what that is."""
    fully, called = Naming(names.fully), Naming(names.fully + names.last)
    return fully, called, {"user": user.pk, "changes": _found(CHANGES_ABOUT, called, user=user.pk)}


def _run(called: Naming, *statements: str, **facts: Any) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement, {**called.facts, **facts})


def _found(statement: str, called: Naming, **facts: Any) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(statement, {**called.facts, **facts})
        return [row[0] for row in cursor.fetchall()]


def _forget_emails(user: User, names: list[str], fully: Naming, called: Naming) -> None:
    """Overwrite what the outbox knows of them, and where it names them to others; what was not sent yet never is."""
    facts = {"user": user.pk, "why": "The user was erased.", "failed": State.FAILED, "open": list(OPEN)}
    _run(called, CLAIMS, THEIR_EMAILS, EMAILS_BY_THEM, WELCOMES_BY_THEM, **facts)
    _run(fully, OTHER_EMAILS, **facts)
    naming = [message.pk for message in SinkMessage.objects.iterator(500) if fully.is_in(_readable(bytes(message.raw)))]
    SinkMessage.objects.filter(Q(recipients__overlap=names) | Q(pk__in=naming)).delete()


# A sender notes with its claim what it sends to whom. It takes that before its emails, and so do we.
CLAIMS = """
UPDATE notifications_claimedemails SET letters = letters - theirs
FROM (SELECT array_agg(id::text) AS theirs FROM notifications_notification WHERE user_id = %(user)s) emails
WHERE jsonb_exists_any(letters, theirs)
"""
THEIR_EMAILS = """
UPDATE notifications_notification SET state = CASE WHEN state = ANY(%(open)s) THEN %(failed)s ELSE state END,
    to_address = '', subject = '', message = NULL, message_id = '', last_words = %(why)s
WHERE user_id = %(user)s
"""
# Emails may say who acted, in their subject too. Those that were told together share one, whoever made the other changes.
EMAILS_BY_THEM = f"""
WITH theirs AS MATERIALIZED (
    SELECT user_id, coalesce(told_by_id, id) AS leader FROM notifications_notification
    WHERE kind = 'CHANGE' AND about IN (SELECT id FROM products_bulkchange WHERE actor_id = %(user)s) AND {named("subject")}
)
UPDATE notifications_notification n SET subject = {overwritten("subject")} FROM theirs
WHERE n.kind = 'CHANGE' AND n.user_id = theirs.user_id AND theirs.leader IN (n.id, n.told_by_id)
"""
WELCOMES_BY_THEM = f"""
UPDATE notifications_notification n SET subject = {overwritten("subject")}
FROM products_accesschange h, unnest(h.first) product
WHERE h.change_id IN (SELECT id FROM products_bulkchange WHERE actor_id = %(user)s)
    AND n.kind = 'ONBOARDING' AND n.user_id = h.user_id AND n.about = product AND {named("subject")}
"""
# Of all but those that are owed by the million: some name others than their reader, as a test does whom it is about.
OTHER_EMAILS = f"""
WITH naming AS MATERIALIZED (
    SELECT id, {named("message::text")} AS inside FROM notifications_notification
    WHERE kind NOT IN ('CHANGE', 'ONBOARDING') AND ({named("subject")} OR {named("message::text")})
)
UPDATE notifications_notification n SET subject = {overwritten("subject")},
    state = CASE WHEN inside AND state = ANY(%(open)s) THEN %(failed)s ELSE state END,
    last_words = CASE WHEN inside THEN %(why)s ELSE last_words END, message = CASE WHEN inside THEN NULL ELSE message END
FROM naming WHERE naming.id = n.id
"""


def _readable(raw: bytes) -> str:
    """Return an email as text, near enough to be searched: our own are quoted-printable."""
    head, _empty, body = raw.partition(b"\r\n\r\n")
    try:
        headers = str(make_header(decode_header(head.decode(errors="replace"))))
    except (LookupError, ValueError):  # of a mail server's own making
        headers = head.decode(errors="replace")
    return f"{headers}\n{a2b_qp(body).decode(errors='replace')}"


def _forget_changes(fully: Naming, called: Naming, about: dict[str, Any]) -> None:
    """Overwrite their names in the reasons of changes and in the searches that chose users; the drafts of others forget theirs.

    What was asked for is known by a plain digest, from which a name could be guessed: it becomes a random one.
    """
    _run(fully, CHANGES)
    _run(called, f"{CHANGES} AND id = ANY(%(changes)s)", SEARCHES, DRAFTS, **about)
    for table, columns in FREE_TEXT.items():
        news = ", ".join(f"{column} = {overwritten(column)}" for column in columns)
        _run(fully, f"UPDATE {table} SET {news} WHERE {' OR '.join(map(named, columns))}")


# Those that they made, that changed them, or that left them alone.
CHANGES_ABOUT = """
SELECT id FROM products_bulkchange WHERE actor_id = %(user)s
UNION SELECT change_id FROM products_accesschange WHERE user_id = %(user)s AND change_id IS NOT NULL
UNION SELECT change_id FROM products_bulkchangeskip WHERE user_id = %(user)s
"""
REASONS = f"UPDATE notifications_suppression SET reason = {overwritten('reason')} WHERE {named('reason')}"
SEARCH = "(selection #>> '{filter,search}')"
A_REASON_NAMES = f"({named('reason')} OR {named('state_reason')})"
CHANGES_NAMING = f"SELECT id FROM products_bulkchange WHERE {A_REASON_NAMES} OR {named(SEARCH)}"
CHANGES = f"""
UPDATE products_bulkchange SET reason = {overwritten("reason")}, state_reason = {overwritten("state_reason")},
    fingerprint = encode(sha256(uuid_send(gen_random_uuid())), 'hex')
WHERE {A_REASON_NAMES}
"""
SEARCHES = f"""
UPDATE products_bulkchange SET selection = jsonb_set(selection, '{{filter,search}}', jsonb_build_array(%(erased)s::text)),
    fingerprint = encode(sha256(uuid_send(gen_random_uuid())), 'hex')
WHERE {named(SEARCH)}
"""
DRAFTS = f"""
UPDATE products_selectiondraft SET everyone = false, filter = '{{}}', ids = '{{}}' WHERE {named("(filter ->> 'search')")}
"""


def _forget_sessions(user: User, fully: Naming) -> None:
    """End their sessions, which hold their email, and overwrite their names in what others were told in theirs."""
    for session in Session.objects.iterator():
        kept = session.get_decoded()
        if kept.get(SESSION_KEY) == str(user.pk):
            session.delete()
        elif (left := {key: value if key in SIGNED_IN else _without(fully, value) for key, value in kept.items()}) != kept:
            session.session_data = Session.objects.encode(left)
            session.save(update_fields=["session_data"])


SIGNED_IN = {SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY}  # nobody's words, and any of them changed ends the session


def _without(fully: Naming, kept: Any) -> Any:
    """Return what a session keeps with the names overwritten in its texts: numbers, keys and null are no names."""
    match kept:
        case str():
            return fully.overwrite(kept) if fully.is_in(kept) else kept
        case list():
            return [_without(fully, each) for each in kept]
        case dict():
            return {key: _without(fully, value) for key, value in kept.items()}
    return kept


WORDINGS_NAMING = f"""
SELECT id FROM notifications_wording WHERE {named("subject")} OR {named("html")} OR {named("text")} ORDER BY id
"""
WORDINGS = f"""
UPDATE notifications_wording SET subject = {overwritten("subject")}, html = {overwritten("html")}, text = {overwritten("text")}
WHERE id = ANY(%(wordings)s)
"""
IDENTITIES_NAMING = f"""
SELECT id FROM notifications_mailidentity
WHERE {named("sender_name")} OR {named("sender_address")} OR {named("reply_address")} ORDER BY id
"""
# Where their name was the sender's, or their address that for replies, there is none.
IDENTITIES = f"""
UPDATE notifications_mailidentity SET
    sender_name = CASE WHEN {named("sender_name")} THEN '' ELSE sender_name END,
    sender_address = CASE WHEN {named("sender_address")} THEN '' ELSE sender_address END,
    reply_to = CASE WHEN {named("reply_address")} AND reply_to = 'ADDRESS' THEN 'NOBODY' ELSE reply_to END,
    reply_address = CASE WHEN {named("reply_address")} THEN '' ELSE reply_address END
WHERE id = ANY(%(identities)s)
"""
# Names are only in words: what an action was done to, and how, is told by numbers. What is said of somebody else names them by
# more than a last name, and a search may be for just that. Who signed in and out is most of the record: its words are from which
# address of the network only.
WORDS_NAMING = f"""
SELECT id FROM users_adminaction
WHERE words IS NOT NULL AND action NOT IN ('user.signed_in', 'user.signed_out') AND {named("words::text")}
"""
SAID = "jsonb_path_query_array(words, '$.*')::text"
WORDS_ABOUT = f"""
SELECT id FROM users_adminaction WHERE words IS NOT NULL AND (
    (actor_id = %(user)s AND action LIKE 'user.sign%%') OR (subject_id = %(user)s AND action LIKE 'user.%%')
    OR (action LIKE 'evidence.%%' OR (action LIKE 'change.%%' AND subject_id = ANY(%(changes)s))) AND {named(SAID)}
    OR {named("(words ->> 'search')")}
)
"""


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
