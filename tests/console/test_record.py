"""Everything that admins do is recorded: every verb, every page that takes a POST, every export, every look at the evidence."""

import ast
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.urls import URLPattern, get_resolver, reverse

from notifications import actions as notifications
from notifications.models import Notification
from products import actions, seats
from products.models import Mode
from products.selection import Selection
from tests.factories import NOW, ids, make_group, make_user, make_users, product, run
from users import actions as users
from users.models import Action, AdminAction, Role
from users.queries import UserFilter

ROOT = Path(__file__).resolve().parents[2]
ROOMS = [path for app in ("users", "notifications", "products") for path in (ROOT / app).glob("*.py")]

# What a verb with an `actor` does that is no deed of theirs, and why.
READS = {
    "require": "asks only",
    "send_test": "sends an email to the admin who asks for it, and to nobody else",
    "check_intent": "asks only",
    "lock_invitable": "asks only, and lets nobody else invite meanwhile",
    "apply_batch": "is part of a change that was recorded when it was asked for; the history tells what it did",
    "skip_out_of_reach": "is part of a batch",
    "acting": "names the actor to the database",
    "record_already_held": "is written to the history with its source, and is part of an import",
    "changeable_by": "asks only",
    "out_of_reach": "asks only",
}
# Pages that take a POST and record nothing, and why.
SILENT = {
    "preview_changes": "shows what would happen",
    "tick_users": "chooses users: the change made of them is recorded",
    "select_all_users": "chooses users",
    "clear_selection": "chooses users",
    "look_of_users": "is how the list looks in one browser",
    "manage_products": "shows a dialog",
    "preview_email": "shows what would be sent",
    "email_events": "is posted to by the mail provider, not by an admin",
    "me": "one's own language and time zone",
    "choose_language": "one's own language",
    "shortcuts": "whether this browser has shortcuts",
}


def functions() -> Iterator[tuple[Path, ast.FunctionDef]]:
    for path in ROOMS:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                yield path, node


def called(node: ast.AST, kind: type[ast.Name] | type[ast.Attribute]) -> set[str]:
    """Return what is called, or handed on, inside of a function: plain names, or names of other modules' and objects'."""
    return {each.id if isinstance(each, ast.Name) else each.attr for each in ast.walk(node) if isinstance(each, kind)}  # type: ignore[attr-defined]


def recording() -> set[tuple[str, str]]:
    """Return the functions (module, name) that record something, by themselves or by what they call."""
    bodies = {(str(path), node.name): node for path, node in functions() if path.name != "record.py"}
    plain = {key: called(node, ast.Name) for key, node in bodies.items()}
    others = {key: called(node, ast.Attribute) for key, node in bodies.items()}
    known = {("", "record"), ("", "put_on_record")}
    while more := {
        (path, function)
        for path, function in bodies.keys() - known
        if any((path, name) in known if (path, name) in bodies else is_known(name, known) for name in plain[path, function])
        or any(is_known(name, known, but=path) for name in others[path, function])
    }:
        known |= more
    return known


def is_known(name: str, known: set[tuple[str, str]], but: str = "-") -> bool:
    return any(name == other and path != but for path, other in known)


def test_every_verb_of_an_actor_is_recorded():
    known = recording()
    verbs = [
        (str(path), node.name)
        for path, node in functions()
        if path.stem in ("actions", "seats", "imports", "customising", "invitations", "people", "suppression", "erasure")
        and not node.name.startswith("_")
        and "actor" in {arg.arg for arg in (*node.args.args, *node.args.kwonlyargs)}
    ]

    assert len(verbs) > 12
    assert not [verb for verb in known if verb[1] in SILENT]
    assert [verb for verb in verbs if verb not in known and verb[1] not in READS] == []


def views() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield every page of the console's own: the name of its URL, and the function behind the decorators."""
    for pattern in get_resolver().url_patterns:
        if isinstance(pattern, URLPattern) and pattern.name:
            view = pattern.callback
            while hasattr(view, "__wrapped__"):
                view = view.__wrapped__
            if view.__module__.startswith("admin_console"):
                module = ast.parse((ROOT / Path(*view.__module__.split(".")).with_suffix(".py")).read_text())
                yield pattern.name, next(n for n in module.body if isinstance(n, ast.FunctionDef) and n.name == view.__name__)


def everything(node: ast.AST) -> set[str]:
    return called(node, ast.Name) | called(node, ast.Attribute)


def takes_post(node: ast.FunctionDef) -> bool:
    return not {ast.unparse(decorator) for decorator in node.decorator_list} & {"require_GET", "require_safe"}


def test_every_page_that_takes_a_post_records_what_it_does():
    known = {name for _path, name in recording()}
    for path in (ROOT / "admin_console" / "views").glob("*.py"):  # what a page hands its work to, in whichever module
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and everything(node) & known:
                known.add(node.name)
    posts = {name: node for name, node in views() if takes_post(node)}

    assert len(posts) > 12
    assert {name for name, node in posts.items() if not everything(node) & known} - SILENT.keys() == set()


def test_every_export_is_recorded():
    exports = {name: node for name, node in views() if "export" in name}

    assert len(exports) > 2
    assert [name for name, node in exports.items() if "record" not in everything(node)] == []


def test_no_action_is_in_the_registry_for_nothing():
    used = {
        each.attr
        for app in ("users", "notifications", "products", "admin_console")
        for path in (ROOT / app).rglob("*.py")
        for each in ast.walk(ast.parse(path.read_text()))
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id == "Action"
    }

    assert {action.name for action in Action} - used == set()


# What is recorded


@pytest.fixture
def ada(db):
    return make_user("Ada Admin", role=Role.SUPER_ADMIN)


def told(action: Action) -> AdminAction:
    """Return the only record of an action."""
    return AdminAction.objects.get(action=action)


def test_a_user_added_is_recorded_with_the_personal_data_among_the_words(ada):
    sales = make_group("Sales")
    grace = users.add_user(actor=ada, email="Grace@Tests.example", first_name="Grace", groups=[sales], now=NOW)

    row = told(Action.USER_ADDED)
    assert (row.actor, row.subject_id, row.before) == (ada, grace.pk, None)
    assert row.after == {"role": "MEMBER", "language": "", "time_zone": "", "groups": [sales.pk]}
    assert row.words == {"email": "grace@tests.example", "first_name": "Grace", "last_name": ""}


def test_role_and_groups_are_recorded_with_before_and_after(ada):
    grace, sales, support = make_user(), make_group("Sales"), make_group("Support")
    users.change_role(actor=ada, user=grace, role=Role.MANAGER)
    users.put_in_groups(actor=ada, user=grace, groups=[sales])
    users.let_manage(actor=ada, user=grace, groups=[support])
    users.move_group(actor=ada, group=support, parent=sales)
    made = users.add_group(actor=ada, name="Export", parent=sales)

    found = {row.action: (row.subject_id, row.before, row.after) for row in AdminAction.objects.all()}
    assert found == {
        Action.USER_ROLE_CHANGED: (grace.pk, {"role": "MEMBER"}, {"role": "MANAGER"}),
        Action.USER_GROUPS_CHANGED: (grace.pk, {"groups": []}, {"groups": [sales.pk]}),
        Action.USER_MANAGED_GROUPS_CHANGED: (grace.pk, {"groups": []}, {"groups": [support.pk]}),
        Action.GROUP_MOVED: (support.pk, {"parent": None}, {"parent": sales.pk}),
        Action.GROUP_ADDED: (made.pk, None, {"name": "Export", "parent": sales.pk}),
    }


def test_seats_are_recorded_with_before_and_after(ada):
    meeting = product("meeting")
    seats.set_seats(actor=ada, product_id=meeting.pk, seats=5)
    seats.set_seats(actor=ada, product_id=meeting.pk, seats=7)

    rows = AdminAction.objects.filter(action=Action.PRODUCT_SEATS_CHANGED).order_by("id")
    assert [(row.before, row.after) for row in rows] == [({"seats": None}, {"seats": 5}), ({"seats": 5}, {"seats": 7})]


def test_a_change_asked_for_is_recorded_with_its_reason_and_steering_with_its_states(ada, settings):
    settings.BULK_AT_ONCE = 0
    make_users(3)
    made = actions.request_bulk_change(
        actor=ada, selection=Selection(everyone=True, filter=UserFilter(search="user")), products=ids("meeting"), mode=Mode.ADD,
        notify=False, key=uuid.uuid4(), reason="They join", now=NOW,
    )  # fmt: skip
    actions.pause_change(actor=ada, change_id=made.pk)
    actions.resume_change(actor=ada, change_id=made.pk)
    actions.cancel_change(actor=ada, change_id=made.pk, now=NOW)
    run(made)

    asked = told(Action.CHANGE_REQUESTED)
    assert (asked.actor, asked.subject_id) == (ada, made.pk)
    assert (asked.after["mode"], asked.after["targets"]) == ("ADD", made.targets)
    assert asked.words == {"reason": "They join", "search": "user"}
    steps = AdminAction.objects.filter(subject_id=made.pk).exclude(pk=asked.pk).order_by("id")
    assert [(row.action, row.before["state"], row.after["state"]) for row in steps] == [
        (Action.CHANGE_PAUSED, "RUNNING", "PAUSED"),
        (Action.CHANGE_RESUMED, "PAUSED", "RUNNING"),
        (Action.CHANGE_CANCELLED, "RUNNING", "CANCELLED"),
    ]


def test_the_same_form_twice_is_recorded_once(ada):
    grace, key = make_user(), uuid.uuid4()
    for _time in range(2):
        actions.request_bulk_change(
            actor=ada, selection=Selection.of([grace.pk]), products=ids("meeting"), mode=Mode.ADD, notify=False, key=key,
            reason="", now=NOW,
        )  # fmt: skip

    assert AdminAction.objects.filter(action=Action.CHANGE_REQUESTED).count() == 1


def test_what_is_refused_is_not_recorded_as_done(ada):
    member = make_user()
    with pytest.raises(users.NotAllowed):
        users.change_role(actor=member, user=ada, role=Role.MEMBER)
    with pytest.raises(users.LastSuperAdmin):
        users.change_role(actor=ada, user=ada, role=Role.MEMBER)

    assert AdminAction.objects.count() == 0


def test_emails_tried_again_are_recorded(ada):
    email = Notification.objects.create(user=make_user(), kind="CHANGE", about=1, lane=2, state="FAILED")
    notifications.retry(actor=ada, ids=[email.pk], now=NOW)

    assert (told(Action.EMAIL_RETRIED).subject_id, told(Action.EMAIL_RETRIED).after) == (email.pk, {"emails": [email.pk]})


def test_signing_in_out_and_failing_to_are_recorded(client, ada):
    ada.set_password("correct horse battery")
    ada.save()
    where = reverse("account_login")
    client.post(where, {"login": ada.email, "password": "wrong horse battery"})
    client.post(where, {"login": "nobody@tests.example", "password": "wrong horse battery"})
    client.post(where, {"login": ada.email, "password": "correct horse battery"})
    client.post(reverse("account_logout"))

    rows = list(AdminAction.objects.order_by("id"))
    assert [(row.action, row.actor, row.subject_id) for row in rows] == [
        (Action.USER_SIGN_IN_FAILED, None, ada.pk),
        (Action.USER_SIGN_IN_FAILED, None, None),
        (Action.USER_SIGNED_IN, ada, ada.pk),
        (Action.USER_SIGNED_OUT, ada, ada.pk),
    ]
    assert rows[1].words == {"email": "nobody@tests.example", "from": "127.0.0.1"}
    assert rows[2].words == rows[3].words == {"from": "127.0.0.1"}  # erasing does not look for names there
    assert "wrong horse" not in str([row.words for row in rows])


def test_looking_at_the_evidence_is_recorded(client, db):
    sue = make_user("Sue Support", role=Role.SUPPORT)
    client.force_login(sue)
    page = reverse("admin:products_accesschange_changelist")
    client.get(page, {"q": "grace"})
    client.post(page)

    row = told(Action.EVIDENCE_VIEWED)
    assert (row.actor, row.after, row.words) == (sue, {"page": page}, {"query": "q=grace"})


def test_an_address_that_somebody_made_up_is_among_the_words(client, db):
    client.force_login(make_user(role=Role.SUPPORT))
    pages = ["/admin/grace.hopper/", "/admin/users/user/grace hopper/change/"]
    for page in pages:
        client.get(page)

    assert [(row.after, row.words) for row in AdminAction.objects.filter(action=Action.EVIDENCE_VIEWED).order_by("id")] == [
        (None, {"page": page}) for page in pages
    ]
