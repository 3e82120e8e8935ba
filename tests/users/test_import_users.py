"""manage.py import_users: bring your own people, all or nothing, once or twice."""

import random
import string
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from notifications.models import Notification
from products.models import AccessChange, BulkChange, Product, ProductAccess, Source
from tests.database import Database, waits_for_lock
from tests.factories import NOW, give, held_by, make_group, make_user
from tests.processes import wait_until
from users.actions import delete_group
from users.imports import PeopleImport
from users.models import Action, AdminAction, GroupMembership, Role, User, UserGroup
from users.sheets import Sheet


def everything() -> list[list[tuple[Any, ...]]]:
    """Return all that an import can change."""
    return [
        list(model.objects.order_by("pk").values_list())
        for model in (User, UserGroup, GroupMembership, ProductAccess, AccessChange, BulkChange, Notification)
    ]


FULL = (
    "E-Mail; First Name; last name ;Language;time zone;Groups;Role;Products",
    "ADA@tests.example;Ada;Lovelace;Français;europe/paris;Sales / Benelux;;GoTo Meeting",
    'kurt@tests.example;Kurt;Gödel;de;Europe/Vienna;"Sales / benelux; Marketing";manager;"webinar; RESCUE; rescue"',
    "emmy@tests.example;Emmy;Noether;;;;Super admin;",
)


def test_people_are_added_with_all_that_their_line_says(people: Any) -> None:
    said, complained, code = people(*FULL)

    assert (complained, code) == ("", 0)
    assert "3 added, 0 changed, 0 unchanged, 0 refused" in said
    ada, kurt, emmy = (User.objects.get(first_name=name) for name in ("Ada", "Kurt", "Emmy"))
    assert (ada.email, ada.name, ada.language, ada.time_zone) == ("ada@tests.example", "Ada Lovelace", "fr", "Europe/Paris")
    assert (ada.role, kurt.role, emmy.role) == (Role.MEMBER, Role.MANAGER, Role.SUPER_ADMIN)
    assert {group.name for group in kurt.groups.all()} == {"Benelux", "Marketing"}
    assert UserGroup.objects.get(name="Benelux").parent == UserGroup.objects.get(name="Sales")
    assert (held_by(ada), held_by(kurt), held_by(emmy)) == ({"meeting"}, {"webinar", "rescue"}, set())
    assert not ada.has_usable_password()
    assert ada.is_active


def test_the_same_file_twice_changes_nothing(people: Any) -> None:
    people(*FULL)
    before = everything()

    said, complained, code = people(*FULL, notify=True)

    assert (complained, code) == ("", 0)
    assert "0 added, 0 changed, 3 unchanged, 0 refused" in said
    assert "product access: 0 users change" in said
    assert everything() == before


def test_a_dry_run_says_the_same_and_changes_nothing(people: Any) -> None:
    before = everything()
    would, _complained, code = people(*FULL, dry_run=True)
    assert (everything(), code) == (before, 0)

    does, _complained, _code = people(*FULL)
    assert would.splitlines()[1:] == does.splitlines()[1:]
    assert "onboarding emails for GoTo Meeting: 1" in would
    assert "new groups: Marketing, Sales, Benelux" in would


def test_only_given_columns_change(people: Any) -> None:
    sales = make_group("Sales")
    ada = make_user(
        "Ada Byron", email="ada@tests.example", role=Role.ADMIN, language="fr", time_zone="Europe/Paris", groups=[sales]
    )
    give(ada, "rescue")

    said, _complained, _code = people("email,last name", "Ada@Tests.example,Lovelace")

    ada.refresh_from_db()
    assert "0 added, 1 changed, 0 unchanged" in said
    assert "product access" not in said
    assert (ada.name, ada.role, ada.language, ada.time_zone) == ("Ada Lovelace", Role.ADMIN, "fr", "Europe/Paris")
    assert list(ada.groups.all()) == [sales]
    assert held_by(ada) == {"rescue"}


def test_an_empty_cell_clears_but_keeps_the_role(people: Any) -> None:
    ada = give(make_user("Ada", email="ada@tests.example", role=Role.ADMIN, language="fr", groups=[make_group()]), "rescue")

    said, _complained, _code = people("email,first name,language,groups,role,products", "ada@tests.example,,,,,")

    ada.refresh_from_db()
    assert "1 users change, 1 become Suspended" in said
    assert (ada.first_name, ada.language, ada.role, ada.groups.count(), held_by(ada)) == ("", "", Role.ADMIN, 0, set())


# What is refused


BAD = [
    ("email,role", "nobody,", "email", "not an email"),
    ("email,role", ",Member", "email", "needed"),
    ("email,last name", "1@erased.invalid,Back", "email", "“1@erased.invalid” is not an email"),
    ("email", "a" * 250 + "@x.example", "email", "too long"),
    ("email,role", "a@x.example,Emperor", "role", "“Emperor” is not a role"),
    ("email,language", "a@x.example,Klingon", "language", "not one of the languages"),
    ("email,time zone", "a@x.example,Mars/Olympus", "time zone", "not a time zone"),
    ("email,products", "a@x.example,GoTo Mars; rescue; GoTo Pluto", "products", "goto mars, goto pluto"),
    ("email,first name", "a@x.example," + "x" * 65, "first name", "64"),
    ("email,last name", "a@x.example,Zo\x00ë", "last name", "NUL"),
    ("email,last name", "a@x.example,Zo\u200bë", "last name", "invisible"),
    ("email,last name", "a@x.example,é\udce9", "last name", "cannot be decoded"),
    ("email,last name", "a@x.example,b,c", "the line", "3 columns, the header has 2"),
    ("email,last name", 'a@x.example,"b"c', "the line", "cannot be read"),
    ("email,groups", "a@x.example,Sales / / Benelux", "groups", "1 to 120"),
    ("email,groups", "a@x.example,Sales / sales", "groups", "inside itself"),
    ("email,groups", "a@x.example,Elsewhere / Old", "groups", "“Old” is inside “Older”, not inside “Elsewhere”"),
    ("email,groups", "a@x.example,Old / Older", "groups", "“Older” is at the top, not inside “Old”"),
]


@pytest.mark.parametrize(("header", "line", "field", "reason"), BAD, ids=[reason for *_line, reason in BAD])
def test_a_bad_line_stops_everything_and_is_reported(people: Any, header: str, line: str, field: str, reason: str) -> None:
    make_group("Old", inside=make_group("Older"))
    before = everything()
    good = "good@tests.example" + "," * header.count(",")

    said, complained, code = people(header, good, line, encoding="utf-8")

    assert code == 1
    assert complained.startswith(f"line 3: {field}: ")
    assert reason in complained
    assert "1 added, 0 changed, 0 unchanged, 1 refused" in said
    assert everything() == before


def letters(number: int, which: int = 0) -> str:
    return "".join(random.Random(which).choices(string.ascii_letters, k=number))


def test_it_speaks_one_language_whatever_the_organisations(people: Any, settings: Any) -> None:
    settings.LANGUAGE_CODE = "fr"
    _said, complained, _code = people("email", "nobody")
    assert complained == "line 2: email: “nobody” is not an email.\n"


def test_a_cell_is_refused_however_long_it_is(people: Any) -> None:
    _said, complained, code = people("email,products", f"a@x.example,{letters(10_000)}")
    assert (code, complained.startswith("line 2: products: There is no product “")) == (1, True)


def test_somebody_is_put_in_groups_however_many_they_are(people: Any) -> None:
    names = [letters(100, which) for which in range(60)]
    assert people("email,groups", f"a@x.example,{';'.join(names)}")[1:] == ("", 0)
    assert {group.name for group in User.objects.get(email="a@x.example").groups.all()} == set(names)


def test_every_bad_field_of_every_bad_line_is_reported(people: Any) -> None:
    _said, complained, code = people("email,role,language,products", "nobody,Emperor,xx,rescue", "a@x.example,,,nothing")
    assert code == 1
    assert [line.split(":")[:2] for line in complained.splitlines()] == [
        ["line 2", " email"],
        ["line 2", " role"],
        ["line 2", " language"],
        ["line 3", " products"],
    ]


def test_an_email_that_is_there_twice_is_refused_the_second_time(people: Any) -> None:
    _said, complained, _code = people("email", "a@x.example", "b@x.example", "A@X.example")
    assert complained == "line 4: email: This email is already on line 2.\n"


def test_two_places_for_one_new_group_are_refused(people: Any) -> None:
    _said, complained, _code = people("email,groups", "a@x.example,North / Team", "b@x.example,South / Team", "c@x.example,Team")
    assert complained == "line 3: groups: “Team” is inside “North”, not inside “South”.\n"


def test_paths_in_a_circle_are_refused(people: Any) -> None:
    _said, complained, _code = people("email,groups", "a@x.example,A / B", "b@x.example,B / C", "c@x.example,C / A")
    assert complained == "line 4: groups: “A” would be inside itself.\n"


def test_a_groups_name_alone_finds_it_wherever_it_is(people: Any) -> None:
    team = make_group("Team", inside=make_group("North"))
    people("email,groups", "a@x.example,TEAM")
    assert list(User.objects.get(email="a@x.example").groups.all()) == [team]


def test_skipped_bad_lines_go_to_a_file_that_can_be_mended(people: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    said, complained, code = people(
        "email,first name,role",
        "a@x.example,Ada,",
        "nobody,Böb,Emperor",
        'c@x.example,"C',
        'c",Boss',
        "d@x.example,Dan,",
        skip_bad=bad,
    )

    assert code == 1
    assert "2 added, 0 changed, 0 unchanged, 2 refused" in said
    assert complained.count("line 2") == 0
    assert set(User.objects.values_list("first_name", flat=True)) >= {"Ada", "Dan"}
    assert bad.read_text() == 'email,first name,role\nnobody,Böb,Emperor\nc@x.example,"C\nc",Boss\n'

    mended = bad.read_text().replace("nobody", "bob@x.example").replace("Emperor", "Admin").replace("Boss", "Member")
    assert people(*mended.rstrip().split("\n"))[2] == 0
    assert User.objects.get(email="bob@x.example").role == Role.ADMIN


@pytest.mark.parametrize("name", ["ΑΘΗΝΑΣ", "İstanbul", "STRAẞE"])
def test_a_group_is_the_same_for_python_and_postgresql_whatever_its_letters(people: Any, name: str) -> None:
    people("email;groups", f"ada@tests.example;{name} / Sales")
    people("email;groups", f"bob@tests.example;{name}")
    again, _complained, _code = people("email;groups", f"bob@tests.example;{name}")

    assert UserGroup.objects.get(name="Sales").parent == UserGroup.objects.get(name=name)
    assert [group.name for group in User.objects.get(email="bob@tests.example").groups.all()] == [name]
    assert "0 added, 0 changed, 1 unchanged" in again


def test_what_looks_like_a_group_a_product_or_a_name_is_that_one(people: Any) -> None:
    zurich, _product = make_group("Zürich"), Product.objects.filter(code="rescue").update(name="Häuser")
    said, complained, _code = people(
        "email,first name,last name,groups,products", "a@x.example,Zoe\u0308,می\u200cگل,Zu\u0308rich,Ha\u0308user"
    )

    a = User.objects.get(email="a@x.example")
    assert (complained, "new groups" in said) == ("", False)
    assert (a.first_name, a.last_name, list(a.groups.all()), held_by(a)) == ("Zoë", "می\u200cگل", [zurich], {"rescue"})


def test_groups_of_refused_lines_are_not_made(people: Any, tmp_path: Path) -> None:
    people("email,groups", "a@x.example,Sales", "nobody,Marketing / Web", skip_bad=tmp_path / "bad.csv")
    assert [group.name for group in UserGroup.objects.all()] == ["Sales"]


def test_a_dry_run_writes_no_file(people: Any, tmp_path: Path) -> None:
    people("email", "nobody", skip_bad=tmp_path / "bad.csv", dry_run=True)
    assert not (tmp_path / "bad.csv").exists()


def test_the_refused_lines_do_not_overwrite_their_file(people: Any, tmp_path: Path) -> None:
    with pytest.raises(CommandError):
        people("email", "nobody", skip_bad=tmp_path / "people.csv")


def test_a_file_that_is_not_there_is_one_sentence(boss: User, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No such file"):
        call_command("import_users", str(tmp_path / "none.csv"), skip_checks=True)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("23505", "Nothing was imported, for somebody changed the same users at this moment. Import it again. (no room)"),
        ("40P01", "Nothing was imported, for somebody changed the same users at this moment. Import it again. (no room)"),
        ("53100", "Nothing was imported. The database says: no room"),
        ("57014", "Nothing was imported. The database says: no room"),
        ("", "Perhaps nothing was imported. Import it again: the same file twice changes nothing. (no room)"),
    ],
)
def test_why_the_database_takes_no_import_is_said_as_it_is(
    people: Any, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    def refuse(*_asked: Any, **_at: Any) -> None:
        if not code:
            raise OperationalError("no room")
        with connection.cursor() as cursor:
            cursor.execute(f"DO $$ BEGIN RAISE 'no room' USING ERRCODE = '{code}'; END $$")

    monkeypatch.setattr(PeopleImport, "apply", refuse)
    with pytest.raises(CommandError) as refused:
        people("email", "ada@tests.example")

    assert str(refused.value) == said


# Roles, and in whose name


def test_an_import_grants_no_more_than_its_actor_may(people: Any) -> None:
    make_user(email="admin@tests.example", role=Role.ADMIN)
    make_user(email="ada@tests.example", role=Role.SUPPORT)

    _said, complained, code = people(
        "email,role", "new@x.example,Admin", "ada@tests.example,Member", "b@x.example,Member", actor="Admin@tests.example"
    )

    assert code == 1
    assert [line.partition(": ")[0] for line in complained.splitlines()] == ["line 2", "line 3"]


def test_unchanged_roles_need_no_right_to_change_them(people: Any) -> None:
    make_user(email="admin@tests.example", role=Role.ADMIN)
    make_user(email="ada@tests.example", role=Role.SUPPORT)
    assert people("email,role,last name", "ada@tests.example,Support,Byron", actor="admin@tests.example")[2] == 0


@pytest.mark.parametrize("role", [Role.MEMBER, Role.MANAGER, Role.SUPPORT])
def test_who_may_not_add_users_may_not_import_them(people: Any, role: Role) -> None:
    make_user(email="ada@tests.example", role=role)
    with pytest.raises(CommandError, match="Nothing was imported"):
        people("email", "a@x.example", actor="ada@tests.example")


def test_an_unknown_actor_is_refused(people: Any) -> None:
    with pytest.raises(CommandError, match="no active user"):
        people("email", "a@x.example", actor="nobody@tests.example")


def test_the_last_super_admin_stays_one(people: Any) -> None:
    _said, complained, code = people("email,role", "boss@tests.example,Member")
    assert (complained, code) == ("line 2: role: No Super admin who can sign in would be left.\n", 1)


def test_a_file_may_hand_the_role_over(people: Any) -> None:
    make_user(email="ada@tests.example")
    assert people("email,role", "boss@tests.example,Member", "ada@tests.example,Super admin")[2] == 0
    assert User.objects.get(role=Role.SUPER_ADMIN).email == "ada@tests.example"


def test_a_file_hands_the_role_over_to_nobody_who_never_chose_a_password(people: Any) -> None:
    handed = ("email,role", "boss@tests.example,Member", "ada@tests.example,Super admin")
    complained = "line 2: role: No Super admin who can sign in would be left.\n"
    assert people(*handed)[1:] == (complained, 1)
    assert people("email,role", "ada@tests.example,Super admin")[2] == 0
    assert people(*handed)[1:] == (complained, 1)


def test_who_got_which_role_is_on_record(people: Any, boss: User) -> None:
    ada = make_user(email="ada@tests.example", role=Role.ADMIN)
    make_user(email="alan@tests.example", role=Role.SUPPORT)
    lines = ("ada@tests.example,Support", "alan@tests.example,Support", "emmy@tests.example,Super admin", "kurt@tests.example,")
    people("email,role", *lines)

    emmy = User.objects.get(email="emmy@tests.example")
    told = AdminAction.objects.filter(action=Action.USER_ROLE_CHANGED).order_by("id")
    assert list(told.values_list("actor", "subject_id", "before__role", "after__role")) == [
        (boss.pk, ada.pk, Role.ADMIN, Role.SUPPORT),
        (boss.pk, emmy.pk, None, Role.SUPER_ADMIN),
    ]


def test_with_the_role_of_a_manager_go_the_groups_they_managed(people: Any, boss: User) -> None:
    sales, web = make_group("Sales"), make_group("Web")
    ada, alan = (make_user(email=f"{name}@tests.example", role=Role.MANAGER, manages=[web, sales]) for name in ("ada", "alan"))

    people("email,first name,role", "ada@tests.example,Ada,Member", "alan@tests.example,Alan,")
    people("email,role", "ada@tests.example,Manager")

    assert (set(ada.managed_groups.all()), set(alan.managed_groups.all())) == (set(), {sales, web})
    told = AdminAction.objects.filter(action=Action.USER_MANAGED_GROUPS_CHANGED)
    assert list(told.values_list("actor", "subject_id", "before", "after")) == [
        (boss.pk, ada.pk, {"groups": [sales.pk, web.pk]}, {"groups": []})
    ]


def test_a_role_that_is_checked_is_not_given_by_somebody_else_meanwhile(committed_db: Database, tmp_path: Path) -> None:
    boss, ada = make_user(role=Role.SUPER_ADMIN), make_user(email="ada@tests.example")
    path = tmp_path / "people.csv"
    path.write_text("email,role\nada@tests.example,Manager\n")
    with transaction.atomic(), psycopg.connect(committed_db.console) as other:
        PeopleImport(Sheet.at(path), actor=boss).read()
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("SELECT FROM users_user WHERE id = %s FOR NO KEY UPDATE NOWAIT", [ada.pk])


def test_new_groups_are_on_record(people: Any, boss: User) -> None:
    people("email,groups", "ada@tests.example,Sales / Benelux")

    sales, benelux = (UserGroup.objects.get(name=name) for name in ("Sales", "Benelux"))
    told = AdminAction.objects.filter(action=Action.GROUP_ADDED).order_by("id")
    assert list(told.values_list("actor", "subject_id", "after__name", "after__parent")) == [
        (boss.pk, sales.pk, "Sales", None),
        (boss.pk, benelux.pk, "Benelux", sales.pk),
    ]


def test_who_was_in_which_groups_before_and_is_in_which_now_is_on_record(people: Any, boss: User) -> None:
    sales, web = make_group("Sales"), make_group("Web")
    ada, alan, kurt = (make_user(email=f"{name}@tests.example", groups=[sales]) for name in ("ada", "alan", "kurt"))
    lines = ("ada@tests.example,web; sales", "alan@tests.example,", "kurt@tests.example,SALES", "emmy@tests.example,New")
    people("email,groups", *lines, "hedy@tests.example,")

    emmy, new = User.objects.get(email="emmy@tests.example"), UserGroup.objects.get(name="New")
    told = AdminAction.objects.filter(action=Action.USER_GROUPS_CHANGED).order_by("id")
    assert list(told.values_list("actor", "subject_id", "before", "after")) == [
        (boss.pk, ada.pk, {"groups": [sales.pk]}, {"groups": [sales.pk, web.pk]}),
        (boss.pk, alan.pk, {"groups": [sales.pk]}, {"groups": []}),
        (boss.pk, emmy.pk, None, {"groups": [new.pk]}),
    ]
    assert list(kurt.groups.all()) == [sales]
    imported = AdminAction.objects.get(action=Action.USER_IMPORTED)
    assert imported.after == {"added": 2, "changed": 2, "columns": ["email", "groups"]}
    people("email,groups", *lines)
    assert told.count() == 3


@pytest.mark.parametrize("leaving", [True, False])
def test_a_group_is_deleted_before_or_after_an_import_never_during_it(
    committed_db: Database, superuser_connection: psycopg.Connection, tmp_path: Path, leaving: bool
) -> None:
    """Without an order of locks the two end in a deadlock, or people are silently in no group."""
    boss, old, new = make_user(role=Role.SUPER_ADMIN), make_group("Old"), make_group("New")
    ada = make_user(email="ada@tests.example", groups=[old])
    path = tmp_path / "people.csv"
    path.write_text("email,groups\nada@tests.example,New\n")
    with ThreadPoolExecutor() as threads:
        with transaction.atomic():
            people = PeopleImport(Sheet.at(path), actor=boss)
            people.read()
            deleting = threads.submit(deleted, boss, old if leaving else new)
            wait_until(lambda: deleting.done() or waits_for_lock(superuser_connection), 10)
            people.apply(now=NOW)
            assert not deleting.done()
        deleting.result(20)

    assert {group.name for group in UserGroup.objects.all()} == {"New" if leaving else "Old"}
    assert [group.name for group in ada.groups.all()] == (["New"] if leaving else [])
    gone = AdminAction.objects.get(action=Action.GROUP_DELETED)
    assert gone.before["members"] == (0 if leaving else 1)


def deleted(actor: User, group: UserGroup) -> None:
    try:
        delete_group(actor=actor, group=group)
    finally:
        connection.close()


# Products and emails


def owed() -> list[tuple[str, str]]:
    return sorted(Notification.objects.values_list("user__first_name", "kind"))


def test_products_go_through_bulk_changes_one_for_each_set(people: Any, boss: User) -> None:
    give(make_user("Ada", email="ada@tests.example"), "rescue")
    give(make_user("Emmy", email="emmy@tests.example"), "meeting")
    people(
        "email,first name,products",
        "ada@tests.example,Ada,meeting",
        "emmy@tests.example,Emmy,meeting",
        "kurt@tests.example,Kurt,GoTo Meeting",
        "alan@tests.example,Alan,rescue",
    )

    changes = BulkChange.objects.all()
    assert {(change.source, change.actor, change.targets, change.changed, change.notify, change.state) for change in changes} == {
        (Source.IMPORT, boss, 2, 2, False, BulkChange.State.FINISHED),
        (Source.IMPORT, boss, 1, 1, False, BulkChange.State.FINISHED),
    }
    assert owed() == [("Ada", "ONBOARDING"), ("Kurt", "ONBOARDING")]
    assert set(AccessChange.objects.exclude(change=None).values_list("source", "actor")) == {(Source.IMPORT, boss.pk)}


def test_change_emails_are_owed_when_asked_for(people: Any) -> None:
    said, _complained, _code = people("email,first name,products", "ada@tests.example,Ada,rescue", notify=True)
    assert "change emails: 1" in said
    assert owed() == [("Ada", "CHANGE")]


def test_products_already_held_owe_nobody_an_email(people: Any) -> None:
    lines = ("email,first name,products", "ada@tests.example,Ada,meeting;rescue")
    would, _complained, _code = people(*lines, already_held=True, dry_run=True)
    people(*lines, already_held=True)

    assert "emails: none, the products count as held since before the console" in would
    assert "onboarding" not in would
    assert held_by(User.objects.get(first_name="Ada")) == {"meeting", "rescue"}
    assert owed() == []
    assert not BulkChange.objects.exists()
    assert AccessChange.objects.get().source == Source.HELD_BEFORE


def test_what_was_once_held_owes_no_onboarding_email_again(people: Any) -> None:
    people("email,first name,products", "ada@tests.example,Ada,meeting", already_held=True)
    people("email,first name,products", "ada@tests.example,Ada,")
    people("email,first name,products", "ada@tests.example,Ada,meeting")
    assert owed() == []


def test_a_retired_product_stays_but_is_not_newly_granted(people: Any) -> None:
    give(make_user("Ada", email="ada@tests.example"), "assist")
    Product.objects.filter(code="assist").update(retired_at=NOW)

    _said, complained, _code = people("email,products", "ada@tests.example,assist;rescue", "emmy@tests.example,assist")
    assert complained == "line 3: products: GoToAssist is retired.\n"

    assert people("email,products", "ada@tests.example,assist;rescue")[2] == 0
    assert held_by(User.objects.get(first_name="Ada")) == {"assist", "rescue"}


# Size


def test_an_import_costs_the_same_for_few_and_many(people: Any) -> None:
    def cost(size: int) -> int:
        lines = [f"{size}-{n}@x.example,Zoë {n},Sales / {size},{('rescue', 'meeting;rescue')[n % 2]}" for n in range(size)]
        with CaptureQueriesContext(connection) as queries:
            people("email,first name,groups,products", *lines)
        return len(queries)

    cost(2)  # makes the group Sales
    assert cost(3) == cost(300)


def test_large_sets_are_finished_before_the_command_ends(people: Any, settings: Any) -> None:
    settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE, settings.BULK_CONFIRM_ABOVE = 0, 10, 20
    people("email,products", *(f"u{n}@x.example,rescue" for n in range(35)))
    change = BulkChange.objects.get()
    assert (change.state, change.changed) == (BulkChange.State.FINISHED, 35)
