"""Erasing a person: nothing tells any more who they were, what happened to them stays known, and all of it still verifies."""

import re
import unicodedata

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.test import Client
from django.utils.translation import override

from notifications.models import MailIdentity, Notification, SinkMessage, Suppression, Wording
from products import actions, checkpoints
from products.erasure import ErasedAlready, erase_user, named_elsewhere
from products.models import AccessChange, BulkChange, Mode
from products.naming import names_of
from products.sealing import seal
from products.selection import Selection
from products.verification import verify
from tests.factories import NOW, change, give, held_by, ids, make_group, make_user, make_users, run
from users import actions as users
from users.actions import NotAllowed
from users.models import Action, AdminAction, Role, User
from users.queries import UserFilter
from users.record import record

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada():
    return make_user("Ada Admin", role=Role.SUPER_ADMIN)


@pytest.fixture
def zoe(ada):
    """Return a user of whom much is written in many places."""
    zoe = users.add_user(actor=ada, email="zoe.angstrom@tests.example", first_name="Zoë", last_name="Ångström", now=NOW)
    users.put_in_groups(actor=ada, user=zoe, groups=[make_group("Sales")])
    change(ada, [zoe], "meeting", reason="Zoë Ångström joins; asked by angstrom")
    everyone = Selection(everyone=True, filter=UserFilter(search="ångström"))
    change(ada, [], "rescue", mode=Mode.ADD, selection=everyone, reason="All of them")
    actions.select_everyone(owner=ada, wanted=UserFilter(search="Zoe Angstrom"), now=NOW)
    Notification.objects.filter(user=zoe).update(
        to_address=zoe.email, subject="Hello Zoë Ångström", last_words=f"550 <{zoe.email}> unknown"
    )
    Suppression.objects.create(address=zoe.email, reason=f"no {zoe.email}", source="REFUSED", failed_at=NOW)
    SinkMessage.objects.create(sender="a@b.example", recipients=[zoe.email], raw=b"To: zoe.angstrom@tests.example")
    return zoe


def everything() -> str:
    """Return all rows of all tables, as text."""
    with connection.cursor() as cursor:
        told = []
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT coalesce(string_agg(t::text, chr(10)), '') FROM \"{table}\" t")
            told.append(f"{table}: {cursor.fetchone()[0]}")
        return "\n".join(told)


def test_nothing_tells_any_more_who_they_were(ada, zoe):
    assert len(re.findall("(?i)angstrom|ångström", everything())) > 12
    erase_user(actor=ada, user=zoe, now=NOW)

    assert re.findall(r"(?i)[^\n]{0,60}(?:angstrom|ångström|zoe|zoë)[^\n]{0,20}", everything()) == []
    zoe = User.objects.get(pk=zoe.pk)
    assert (zoe.name, zoe.is_active, zoe.has_usable_password()) == (f"Erased user #{zoe.pk}", False, False)


def test_what_was_written_with_letters_and_accents_apart_names_them_too(ada, zoe):
    BulkChange.objects.update(reason=unicodedata.normalize("NFD", "Zoë Ångström joins"))
    erase_user(actor=ada, user=zoe, now=NOW)

    assert {*BulkChange.objects.values_list("reason", flat=True)} == {"[erased] joins"}


def test_what_happened_to_them_stays_known_and_what_they_held_is_taken(ada, zoe):
    erase_user(actor=ada, user=zoe, now=NOW)

    rows = AccessChange.objects.filter(user=zoe).order_by("id")
    assert [(row.before, row.after) for row in rows] == [
        ([], ids("meeting")),
        (ids("meeting"), ids("meeting", "rescue")),
        (ids("meeting", "rescue"), []),
    ]
    assert rows.last().actor == ada
    assert AdminAction.objects.get(action=Action.USER_ERASED).subject_id == zoe.pk
    one, two = BulkChange.objects.order_by("id")
    assert one.reason == "[erased] joins; asked by [erased]"
    assert UserFilter.from_query(two.selection["filter"]).search == "[erased]"


def test_the_history_still_verifies(ada, zoe):
    seal()
    erase_user(actor=ada, user=zoe, now=NOW)
    seal()

    finding = verify(keys=[checkpoints.public_key()])
    assert finding.damage == []
    assert finding.erased >= 3


def test_nobody_can_give_them_anything_any_more(ada, zoe, settings):
    settings.BULK_AT_ONCE = 0
    made = change(ada, [zoe, *make_users(2)], "rescue", "central")
    erase_user(actor=ada, user=zoe, now=NOW)
    run(made)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE products_productaccess SET products = '{7}', ever = ever | '{7}' WHERE user_id = %s", [zoe.pk])

    assert held_by(zoe) == set()
    assert (made.changed, made.is_over) == (2, True)
    assert not Notification.objects.filter(user=zoe).exclude(state="FAILED").exists()


def test_others_keep_what_is_written_of_them(ada, zoe):
    grace = give(make_user("Grace Hopper"), "central")
    change(ada, [grace], "meeting", reason="Grace Hopper joins")
    erase_user(actor=ada, user=zoe, now=NOW)

    assert BulkChange.objects.get(reason="Grace Hopper joins")
    assert AdminAction.objects.get(words__reason="Grace Hopper joins")
    assert User.objects.get(pk=grace.pk).name == "Grace Hopper"


@pytest.mark.parametrize("last", ["Null", "True", "Notices", "Access", "Change"])
def test_who_is_called_like_a_word_of_the_machine_is_erased_from_what_others_were_told_and_nothing_else(ada, last):
    """Of a session the texts are people's words: not its keys, nor what stands for nothing, nor by what it is signed in. A last
    name by itself may be a word of any of them."""
    grace, alan = make_user(f"Grace {last}"), Client()
    alan.force_login(make_user("Alan Turing", role=Role.SUPPORT))
    session = alan.session
    session["notices"] = [["success", f"Grace {last} was added.", None, 7, ""], ["success", f"Ask {last}.", None, True, ""]]
    session["access"] = {"change": 1}
    session.save()
    before = dict(session.items())
    erase_user(actor=ada, user=grace, now=NOW)

    told = [["success", "[erased] was added.", None, 7, ""], ["success", f"Ask {last}.", None, True, ""]]
    assert dict(alan.session.items()) == {**before, "notices": told}


def edited(actor, user, **called):
    """Let the user be called this for a moment, and as before again."""
    before = {name: getattr(user, name) for name in ("first_name", "last_name", "email")}
    users.edit_user(actor=actor, user=user, **before | called)
    users.edit_user(actor=actor, user=user, **before)


@pytest.mark.parametrize(
    "called",
    [
        {"last_name": "com"},
        {"first_name": "", "last_name": "com"},
        {"first_name": "Eve", "last_name": "Admin"},
        {"first_name": "Admin", "last_name": "Eve"},
        {"first_name": "", "last_name": "Eve Admin"},
        {"first_name": "", "last_name": "Admin, Eve"},
        {"first_name": "Max", "last_name": "Solo"},
        {"email": "replies@tests.example"},
        {"email": "console@tests.example"},
    ],
)
def test_what_somebody_was_called_for_a_moment_destroys_no_record_of_others(ada, zoe, settings, called):
    """An admin may edit anybody to be called anything, and correct it: a word, their own name, where emails come from."""
    settings.DEFAULT_FROM_EMAIL = "console@tests.example"
    eve = make_user("Eve Admin", email="eve@mallory.com", role=Role.ADMIN)
    User.objects.create(email="solo@mallory.com", last_name="Max Solo")
    MailIdentity.objects.create(reply_to="ADDRESS", reply_address="replies@tests.example", sender_name="Eve Admin")
    change(eve, make_users(2), "meeting", reason="Eve Admin (Admin, Eve), replies@tests.example: as Max Solo of mallory.com asks")
    users.add_user(actor=eve, email="mole@mallory.com", first_name="Eve", last_name="Admin", now=NOW)
    record(Action.EVIDENCE_VIEWED, actor=eve, words={"query": "q=mallory.com+Eve+Admin+console%40tests.example"})
    Notification.objects.filter(kind="CHANGE").update(subject="From Eve Admin of mallory.com, replies@tests.example")
    theirs = AdminAction.objects.filter(actor=eve).exclude(subject_id=zoe.pk)
    before = list(theirs.order_by("id").values()), list(BulkChange.objects.filter(actor=eve).values())
    mail = list(MailIdentity.objects.values())
    edited(eve, zoe, **called)

    assert named_elsewhere(zoe, names_of(zoe)) == 0
    erase_user(actor=ada, user=zoe, now=NOW)

    assert (list(theirs.order_by("id").values()), list(BulkChange.objects.filter(actor=eve).values())) == before
    assert list(MailIdentity.objects.values()) == mail
    assert not AdminAction.objects.filter(action=Action.USER_EDITED, words__isnull=False).exists()


def test_a_last_name_that_is_a_word_of_any_text_stays_where_others_are_spoken_of(ada):
    rose, others = make_user("Rose May"), make_users(2)
    change(ada, others, "meeting", reason="All may")
    change(ada, [rose, *others], "rescue", reason="Asked by May")
    erase_user(actor=ada, user=rose, now=NOW)

    assert list(BulkChange.objects.order_by("id").values_list("reason", flat=True)) == ["All may", "Asked by [erased]"]
    assert [row.words for row in AdminAction.objects.filter(action=Action.CHANGE_REQUESTED).order_by("id")] == [
        {"reason": "All may"},
        None,
    ]


def test_beforehand_it_is_counted_how_many_records_of_others_name_them(ada, zoe):
    assert named_elsewhere(zoe, names_of(zoe)) == 0
    change(ada, make_users(1), "meeting", reason="As Zoë Ångström has it")
    Wording.objects.create(kind="CHANGE", language="en", number=1, subject="Zoe Angstrom", html="<p/>", made_by=ada, made_at=NOW)

    assert named_elsewhere(zoe, names_of(zoe)) == 3  # the change, the record of it, and the email's text
    erase_user(actor=ada, user=zoe, now=NOW)
    assert BulkChange.objects.latest("id").reason == "As [erased] has it"


def test_where_somebody_signed_in_and_out_from_is_not_searched_for_names(ada, zoe):
    """It is a network address only, in more rows than all others together; who failed to sign in typed what they liked."""
    for action in (Action.USER_SIGNED_IN, Action.USER_SIGNED_OUT, Action.USER_SIGN_IN_FAILED):
        record(action, actor=ada, words={"from": "Zoë Ångström"})

    assert named_elsewhere(zoe, names_of(zoe)) == 1


def test_why_an_email_failed_is_kept_in_english_whatever_language_the_admin_reads(ada, zoe):
    with override("it"):
        erase_user(actor=ada, user=zoe, now=NOW)

    assert set(Notification.objects.filter(user=zoe).values_list("last_words", flat=True)) == {"The user was erased."}


def test_only_those_who_may_erase(ada, zoe):
    with pytest.raises(NotAllowed):
        erase_user(actor=make_user(role=Role.ADMIN), user=zoe, now=NOW)
    with pytest.raises(users.LastSuperAdmin), transaction.atomic():
        erase_user(actor=ada, user=ada, now=NOW)
    erase_user(actor=ada, user=zoe, now=NOW)
    with pytest.raises(ErasedAlready):
        erase_user(actor=ada, user=zoe, now=NOW)

    assert AdminAction.objects.filter(action=Action.USER_ERASED).count() == 1


def test_the_migrations_are_complete():
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
