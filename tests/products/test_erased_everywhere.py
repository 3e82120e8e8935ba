"""Who is erased is named in no column of any table any more, however that was written: each column there is is looked into."""

import inspect
import json
import re
from binascii import a2b_qp
from hashlib import sha256
from importlib import import_module
from typing import Any

import pytest
from allauth.account.models import EmailAddress, EmailConfirmation
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.db import ProgrammingError, connection, transaction
from django.test import Client

from notifications import customising
from notifications.actions import queue_message
from notifications.emails import KINDS
from notifications.models import (
    Claim,
    ClaimedEmails,
    MailIdentity,
    MailServer,
    Notification,
    ReplyTo,
    SinkMessage,
    Suppression,
    Wording,
)
from products import actions, checkpoints, evidence
from products.erasure import erase_user
from products.evidence import HistoryFilter
from products.models import BulkChange, BulkChangeBatch, BulkChangeSkip, Mode
from products.sealing import seal
from products.selection import Selection
from products.verification import verify
from tests.factories import NOW, change, give, make_user
from users import actions as users
from users.models import Action, AdminAction, Role, User
from users.queries import UserFilter
from users.record import record

pytestmark = pytest.mark.django_db

# In a name whatever has to be written otherwise in a URL, in JSON, in HTML, in an email or in a regular expression.
FIRST, LAST, EMAIL = 'Zoë "Zo"', "O'Ångström Jr.", "zoe+o.angstrom@tests.example"
NAME = f"{FIRST} {LAST}"
TELLING = re.compile(r"(?i)zo[eë]|angstr|ångstr|%c3%85ngstr|=c3=85ngstr|\\u00c5ngstr")
EMAIL_BY_HER = "Subject: Your access\r\nReply-To: =?utf-8?q?Zo=C3=AB_=C3=85ngstr=C3=B6m?= <{0}>\r\n\r\nAsk {0}=\r\n.\r\n"


# Where the fixture `zoe` names her; and which columns never name anybody: codes, digests, and what organisations, products and
# user groups are called.
NAMING = {
    "account_emailaddress.email",
    "django_admin_log.change_message", "django_admin_log.object_repr",
    "django_session.session_data",
    "notifications_claimedemails.letters",
    "notifications_mailidentity.reply_address", "notifications_mailidentity.sender_address",
    "notifications_mailidentity.sender_name",
    "notifications_mailserver.last_words",
    "notifications_notification.last_words", "notifications_notification.message", "notifications_notification.subject",
    "notifications_notification.to_address",
    "notifications_sinkmessage.raw", "notifications_sinkmessage.recipients", "notifications_sinkmessage.sender",
    "notifications_suppression.address", "notifications_suppression.reason",
    "notifications_wording.html", "notifications_wording.subject", "notifications_wording.text",
    "products_bulkchange.reason", "products_bulkchange.selection", "products_bulkchange.state_reason",
    "products_bulkchangebatch.error", "products_bulkchangeskip.detail",
    "products_evidencepack.wanted",
    "products_selectiondraft.filter",
    "users_adminaction.words",
    "users_user.email", "users_user.first_name", "users_user.last_name", "users_user.name_key", "users_user.search_key",
}  # fmt: skip
NAMELESS = {
    "account_emailconfirmation.key",
    "admin_console_throttle.cache_key", "admin_console_throttle.value",
    "auth_group.name", "auth_permission.codename", "auth_permission.name",
    "django_admin_log.object_id", "django_content_type.app_label", "django_content_type.model",
    "django_migrations.app", "django_migrations.name", "django_session.session_key",
    "notifications_mailidentity.accent", "notifications_mailidentity.logo", "notifications_mailidentity.organisation",
    "notifications_mailidentity.reply_to",
    "notifications_notification.kind", "notifications_notification.language", "notifications_notification.message_id",
    "notifications_notification.state",
    "notifications_suppression.source", "notifications_suppression.told_of",
    "notifications_wording.kind", "notifications_wording.language", "notifications_wording.variant",
    "products_accesschange.db_role", "products_accesschange.source",
    "products_bulkchange.fingerprint", "products_bulkchange.mode", "products_bulkchange.source", "products_bulkchange.state",
    "products_bulkchange.state_cause",
    "products_bulkchangebatch.state", "products_bulkchangeskip.reason",
    "products_checkpoint.key", "products_checkpoint.payload", "products_checkpoint.signature",
    "products_evidencepack.files", "products_evidencepack.state",
    "products_historyblock.chain", "products_historyblock.digest", "products_historyblock.leaves",
    "products_historyblock.previous", "products_historysummary.sources",
    "products_product.code", "products_product.name", "products_sealingmark.chain",
    "users_adminaction.action", "users_adminaction.after", "users_adminaction.before", "users_adminaction.db_role",
    "users_adminaction.salt", "users_adminaction.words_digest",
    "users_user.language", "users_user.password", "users_user.role", "users_user.time_zone", "users_usergroup.name",
}  # fmt: skip


@pytest.fixture
def ada() -> User:
    return make_user("Ada Admin", role=Role.SUPER_ADMIN, email="ada@tests.example")


@pytest.fixture
def zoe(ada: User, settings: Any, tmp_path: Any) -> User:
    """Return an admin whose name and address are wherever anything can be written."""
    settings.EVIDENCE_FOLDER = tmp_path
    zoe = users.add_user(actor=ada, email=EMAIL, first_name=FIRST, last_name=LAST, role=Role.SUPER_ADMIN, now=NOW)
    give(zoe, "meeting")
    name_her_in_changes(ada, zoe)
    name_her_in_emails(ada, zoe)
    name_her_where_she_signs_in(zoe)
    for words in ({"person": NAME}, {"q": "o'ångström jr."}, {"by": EMAIL}):
        evidence.request_pack(actor=ada, wanted=HistoryFilter(**words), now=NOW)
    record(
        Action.EVIDENCE_VIEWED,
        actor=ada,
        after={"page": "/admin/"},
        words={"query": "q=Zo%C3%AB+%22Zo%22+O%27%C3%85ngstr%C3%B6m+Jr."},
    )
    record(Action.EVIDENCE_VIEWED, actor=ada, after={"page": "/admin/"}, words={"query": "q=zoe%2Bo.angstrom%40tests.example"})
    kind = ContentType.objects.get_for_model(User)
    LogEntry.objects.create(
        user=ada, content_type=kind, object_id=str(zoe.pk), object_repr=NAME, action_flag=2, change_message=EMAIL
    )
    return zoe


def name_her_in_changes(ada: User, zoe: User) -> None:
    made = change(ada, [zoe], "rescue", reason=f"{NAME} joins; asked by {LAST}, {FIRST}, and {EMAIL.upper()}")
    BulkChange.objects.filter(pk=made.pk).update(state_reason=f"{NAME} may no longer set products.")
    BulkChangeBatch.objects.filter(change=made).update(error=f"refused: {EMAIL}")
    BulkChangeSkip.objects.create(change=made, user_id=zoe.pk, reason="FAILED", detail=f"({NAME})")
    for search in (NAME, 'zoe "zo" o\'angstrom jr.', EMAIL):
        everyone = Selection(everyone=True, filter=UserFilter(search=search))
        change(ada, [], "rescue", "central", mode=Mode.ADD, selection=everyone)
    actions.select_everyone(owner=ada, wanted=UserFilter(search=NAME), now=NOW)


def name_her_in_emails(ada: User, zoe: User) -> None:
    grace = make_user("Grace Hopper")
    by_her = change(zoe, [grace], "meeting")
    Notification.objects.filter(user=grace, about=by_her.pk).update(subject=f"{NAME} gave you products")
    # Told together, whoever made the change of the one that tells: the subject names who made the last change.
    for older, newer in ((ada, zoe), (zoe, ada)):
        reader = make_user()
        change(older, [reader], "rescue")
        change(newer, [reader], "central")
        first, last = Notification.objects.filter(user=reader, kind="CHANGE").order_by("id")
        Notification.objects.filter(pk=last.pk).update(told_by=first)
        Notification.objects.filter(user=reader).update(subject=f"{NAME} gave you products")
    change(zoe, [make_user("Alan Kay")], "webinar")
    Notification.objects.filter(kind="ONBOARDING", user__last_name="Kay").update(subject=f"{NAME} gave you GoTo Webinar")
    customising.send_test(actor=ada, kind=KINDS["CHANGE"], variant="", language="en", about=zoe, now=NOW)
    number = queue_message(user=ada, subject=f"[Test] {NAME}", text="", html="", now=NOW)
    Notification.objects.filter(pk=number).update(state="SENT", subject=f"[Test] {NAME}", message=None)
    queue_message(user=zoe, subject="Choose", text=f"Hello {NAME}", html=f"<p>{NAME}</p>", now=NOW)
    hers = Notification.objects.filter(user=zoe)
    hers.update(to_address=EMAIL, subject=f"Hello {NAME}", last_words=f"550 <{EMAIL}> unknown")
    letters = {str(each.pk): {"to_address": EMAIL, "subject": NAME} for each in hers}
    claim = Claim.objects.create(place=1, ends_at=NOW)
    ClaimedEmails.objects.create(claim=claim, ids=[each.pk for each in hers], letters=letters)
    Suppression.objects.create(address=EMAIL, reason=f"no {EMAIL}", source="REFUSED", failed_at=NOW)
    Suppression.objects.create(address="o@tests.example", reason=f"ask {EMAIL}", source="REFUSED", failed_at=NOW)
    MailServer.objects.update_or_create(id=1, defaults={"last_words": f"452 <{EMAIL}> later"})
    SinkMessage.objects.create(sender="a@b.example", recipients=[EMAIL], raw=b"To: her")
    SinkMessage.objects.create(sender=EMAIL, recipients=["g@h.example"], raw=EMAIL_BY_HER.format(EMAIL).encode())
    Wording.objects.create(
        kind="CHANGE", language="en", number=1, made_by=ada, made_at=NOW,
        subject=f"From {NAME}", html="<p>Ask Zoë &quot;Zo&quot; O&#x27;Ångström Jr.</p>", text=f"Ask {EMAIL}",
    )  # fmt: skip
    MailIdentity.objects.create(sender_name=NAME, sender_address=EMAIL, reply_to=ReplyTo.ADDRESS, reply_address=EMAIL)


def name_her_where_she_signs_in(zoe: User) -> None:
    address = EmailAddress.objects.create(user=zoe, email=EMAIL, primary=True)
    EmailConfirmation.objects.create(email_address=address, key="k")
    zoe.set_password("correct horse battery staple")
    zoe.save()
    client = Client()
    client.post("/accounts/login/", {"login": EMAIL, "password": "wrong"})
    client.post("/accounts/login/", {"login": EMAIL, "password": "correct horse battery staple"})
    assert EMAIL in json.dumps([session.get_decoded() for session in Session.objects.all()])
    told = Client()
    told.force_login(make_user("Alan Turing", role=Role.SUPER_ADMIN))
    session = told.session
    session["notices"] = [["success", f"{NAME} was added.", None, None, ""]]
    session.save()


def said() -> dict[str, str]:
    """Return what stands in each column that can hold words, as text; emails and sessions also as they are read."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.table_name, c.column_name FROM information_schema.columns c "
            "JOIN information_schema.tables USING (table_schema, table_name) WHERE table_schema = 'public' "
            "AND table_type = 'BASE TABLE' AND table_name !~ '^products_accesschange_' "
            "AND udt_name IN ('text', 'varchar', 'bpchar', 'json', 'jsonb', 'bytea', '_text', '_varchar')"
        )
        found = {}
        for table, column in cursor.fetchall():
            cursor.execute(f'SELECT coalesce(string_agg("{column}"::text, chr(10)), \'\') FROM "{table}"')
            found[f"{table}.{column}"] = cursor.fetchone()[0]
    emails = (a2b_qp(bytes(raw)).decode() for raw in SinkMessage.objects.values_list("raw", flat=True))
    found["notifications_sinkmessage.raw"] += "\n".join(emails)
    sessions = (json.dumps(session.get_decoded(), ensure_ascii=False) for session in Session.objects.all())
    found["django_session.session_data"] += "\n".join(sessions)
    return found


def test_nothing_in_any_column_of_any_table_tells_who_they_were(ada: User, zoe: User) -> None:
    naming = {column for column, text in said().items() if TELLING.search(text)}
    assert naming == NAMING
    seal()

    erase_user(actor=ada, user=zoe, now=NOW)

    assert {column: text for column, text in said().items() if TELLING.search(text)} == {}
    seal()
    assert verify(keys=[checkpoints.public_key()]).damage == []


def test_nothing_tells_either_what_they_were_called_before_that_was_corrected(ada: User, zoe: User) -> None:
    """But for an earlier last name by itself, where somebody searched for just that: it may be a word of any text."""
    MailIdentity.objects.create()  # emails come from another address by now
    users.edit_user(actor=ada, user=zoe, first_name="Xanthe", last_name="Quill", email="quill@tests.example")
    change(ada, [zoe], "central", reason="Xanthe Quill asks, quill@tests.example")
    User.objects.filter(pk=zoe.pk).update(last_name="Vexley", email="vexley@tests.example")  # as an import may
    assert EMAIL in said()["notifications_suppression.address"]
    Client().post("/accounts/login/", {"login": EMAIL, "password": "wrong"})  # of nobody any more

    erase_user(actor=ada, user=zoe, now=NOW)

    telling = re.compile(rf"{TELLING.pattern}|quill|vexley")
    left = {column: text for column, text in said().items() if telling.search(text)}
    assert left.keys() == {"users_adminaction.words"}
    (line,) = [line for line in left["users_adminaction.words"].split("\n") if telling.search(line)]
    assert json.loads(line)["q"] == "o'ångström jr."


def test_who_has_the_address_of_somebody_erased_by_now_keeps_it(ada: User) -> None:
    zoe = make_user("Zoe Quill", email="desk@tests.example")
    users.edit_user(actor=ada, user=zoe, first_name="Zoe", last_name="Quill", email="quill@tests.example")
    users.add_user(actor=ada, email="desk@tests.example", now=NOW)
    Suppression.objects.create(address="desk@tests.example", reason="full", source="REFUSED", failed_at=NOW)

    erase_user(actor=ada, user=zoe, now=NOW)

    assert Suppression.objects.get().address == "desk@tests.example"
    assert AdminAction.objects.get(action=Action.USER_ADDED).words["email"] == "desk@tests.example"


@pytest.mark.parametrize(
    "write",
    [
        "UPDATE notifications_wording SET text = 'forged' WHERE number = 2",  # not named
        "UPDATE notifications_wording SET made_by_id = 1 WHERE number = 1",  # named, but not a word
        "DELETE FROM notifications_wording WHERE number = 1",
    ],
)
def test_of_what_admins_wrote_an_erasure_overwrites_the_words_that_it_names_and_nothing_else(ada: User, write: str) -> None:
    first, _second = (
        Wording.objects.create(
            kind="CHANGE", language="en", number=number, subject="Hello", html="<p/>", made_by=ada, made_at=NOW
        )
        for number in (1, 2)
    )
    record(Action.USER_ERASED, actor=ada, subject=1, after={"words": [], "wordings": [first.pk], "identities": []})

    with pytest.raises(ProgrammingError, match="is refused"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(write)
    Wording.objects.filter(number=1).update(subject="Hello [erased]")
    assert Wording.objects.get(number=1).subject == "Hello [erased]"


def test_of_every_column_it_is_known_whether_it_may_name_a_person() -> None:
    """A new one is put among those that an erasure is tried with, or among those that never name anybody."""
    assert said().keys() == NAMING | NAMELESS


def test_a_message_to_a_worker_carries_numbers_only() -> None:
    for app in ("notifications", "products"):
        tasks = vars(import_module(f"{app}.tasks")).values()
        told = [inspect.signature(task.run) for task in tasks if hasattr(task, "run")]
        assert told
        for signature in told:
            assert {each.annotation for each in signature.parameters.values() if each.name != "_"} <= {int}


def test_what_counts_attempts_to_sign_in_cannot_be_guessed_from_an_address(client: Client) -> None:
    client.post("/accounts/login/", {"login": EMAIL, "password": "wrong"})

    with connection.cursor() as cursor:
        cursor.execute("SELECT string_agg(cache_key, ' ') FROM admin_console_throttle")
        (keys,) = cursor.fetchone()
    assert "login_failed_anywhere" in keys
    for guess in (EMAIL, f"testserver:{EMAIL}:127.0.0.1"):
        assert sha256(guess.encode()).hexdigest() not in keys
