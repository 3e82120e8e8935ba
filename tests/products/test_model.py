"""Random lives of an organisation agree with a model of the rules small enough to read (S1, B1, B5, B7, B9, B10, E1, E2, H1)."""

import re
import socket
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from email import message_from_bytes
from email.policy import default
from random import Random
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from notifications.actions import deliver_due
from notifications.models import Notification, State
from products import actions, previews
from products.models import TICKED_MODES, BulkChange, Mode, Product
from products.selection import Selection
from tests.examples import tried
from tests.factories import NOW, give, limit, make_group, make_user, not_reached, run, undo
from tests.products.conftest import Poison, breaches
from users.models import Role, User, UserGroup
from users.queries import Status, UserFilter, with_status

PRODUCTS = ["meeting", "webinar", "rescue", "central"]
WELCOMES = {"meeting", "webinar"}
PEOPLE = [  # name, group (Benelux is inside of Sales), role, language, days since last seen, products held before the console
    ("Ada Lovelace", "Sales", Role.MEMBER, "en", 1, {"rescue"}),
    ("Zoë Ångström", "Benelux", Role.MEMBER, "fr", 40, {"meeting", "central"}),
    ("Grace Hopper", "Benelux", Role.MANAGER, "de", None, {"rescue"}),
    ("Alan Turing", None, Role.SUPPORT, "en", 2, set()),
    ("José Núñez", "Sales", Role.MEMBER, "es", None, {"webinar", "rescue"}),
    ("Zola Marsh", None, Role.MEMBER, "fr", 29, set()),
]


@dataclass
class Person:
    """What the rules say of one user."""

    name: str
    email: str
    group: str | None
    role: str
    language: str
    days: int | None
    held: frozenset[str] = frozenset()
    ever: frozenset[str] = frozenset()
    told: Counter[tuple[str, Any]] = field(default_factory=Counter)

    @property
    def status(self) -> str:
        if not self.held:
            return Status.SUSPENDED
        if self.days is None:
            return Status.INVITED
        return Status.INACTIVE if self.days > 30 else Status.ACTIVE

    def matches(self, wanted: dict[str, Any]) -> bool:
        search = wanted.get("search", "")  # of fewer than three letters: where a word begins
        return (
            re.search(search if len(search) >= 3 else f"(?<![0-9a-z]){search}", f"{plain(self.name)}\n{self.email}") is not None
            and wanted.get("role", self.role) == self.role
            and wanted.get("language", self.language) == self.language
            and wanted.get("status", self.status) == self.status
            and wanted.get("group", self.group) in (self.group, "Sales" if self.group == "Benelux" else self.group)
            and (wanted["product"] in self.held if wanted.get("product") else True)
        )


def plain(text: str) -> str:
    return text.lower().translate(str.maketrans("ëåöéúñ", "eaoeun"))


def after(held: frozenset[str], mode: str, ticked: frozenset[str]) -> frozenset[str]:
    return {Mode.REPLACE: ticked, Mode.ADD: held | ticked, Mode.REMOVE: held - ticked}[Mode(mode)]


FILTERS = [
    *[("search", text) for text in ("a", "zo", "ngs", "da lo", "un", "q")],
    *[("role", role) for role in (Role.MEMBER, Role.MANAGER)],
    *[("language", language) for language in ("en", "fr")],
    *[("status", status) for status in Status.values],
    *[("group", group) for group in ("Sales", "Benelux")],
    *[("product", code) for code in PRODUCTS],
]
PAIRS = [
    {"group": "Sales", "status": Status.ACTIVE},
    {"search": "zo", "language": "fr"},
    {"role": Role.MEMBER, "product": "rescue"},
]
SEATS = [{}, {}, {"rescue": 0}, {"rescue": 1}, {"webinar": 3}, {"rescue": 2, "webinar": 1}]  # free ones, of limited products


def drawn(chance: Random) -> dict[str, Any]:
    """Return something that an admin may do; drawn evenly, for hypothesis would do the simplest again and again."""
    everyone, people = chance.random() < 0.5, range(len(PEOPLE))
    return {
        "undoes": chance.choice([None, None, 0, 1, 2]),  # so many changes ago; None: it is a change of its own
        "everyone": everyone,
        "filter": chance.choice([{}, {}, *PAIRS, dict([chance.choice(FILTERS)])]),
        "people": set(chance.sample(people, chance.choice([0, 0, 1]) if everyone else chance.choice([0, 1, 3, 4, 5]))),
        "mode": chance.choice(TICKED_MODES),
        "ticked": frozenset(code for code in PRODUCTS if chance.random() < 0.5),
        "notify": chance.random() < 0.5,
        "free": chance.choice(SEATS),
        "until_full": chance.random() < 0.5,
        "at_once": chance.choice([0, 0, 1000]),
        "course": chance.choice(["straight", "paused", "cancelled"]),
        "poison": chance.choice([None, None, *people]),  # the one whom the database refuses to change
        "retry": chance.random() < 0.5,
    }


@pytest.fixture
def inbox(settings) -> Iterator[Callable[[], Counter[tuple[str, str, int]]]]:
    """Give a way to empty the inbox of a real SMTP server: how often (address, kind, about) came since the last time."""
    received: list[bytes] = []

    class Keep:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            received.append(envelope.content)
            return "250 kept"

    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    server = Controller(Keep(), hostname="127.0.0.1", port=port)
    server.start()
    smtp = {"BACKEND": "django.core.mail.backends.smtp.EmailBackend", "OPTIONS": {"host": "127.0.0.1", "port": port}}
    settings.MAILERS = {"default": smtp}

    def emptied() -> Counter[tuple[str, str, int]]:
        found: Counter[tuple[str, str, int]] = Counter()
        for raw in received:
            message = message_from_bytes(raw, policy=default)
            named = re.fullmatch(r"<(\w+)\.(\d+)\.\d+\.\w+@.*>", message["Message-ID"])
            assert named, message["Message-ID"]
            found[message["To"], named[1].upper(), int(named[2])] += 1
        received.clear()
        return found

    yield emptied
    server.stop()


@dataclass
class Organisation:
    """People who are there from the start, and what the rules say of them."""

    admin: User
    users: list[User]
    groups: dict[str, UserGroup]
    model: dict[int, Person] = field(default_factory=dict)
    done: list[tuple[BulkChange, dict[int, tuple[frozenset[str], frozenset[str]]]]] = field(default_factory=list)
    code_of: dict[int, str] = field(default_factory=lambda: dict(Product.objects.values_list("id", "code")))

    def born_again(self) -> "Organisation":
        """Return it as it was before anything happened."""
        model = {
            user.pk: Person(name, user.email, group, role, language, days, frozenset(held), frozenset(held))
            for user, (name, group, role, language, days, held) in zip(self.users, PEOPLE, strict=True)
        }
        return replace(self, model=model, done=[])

    @property
    def id_of(self) -> dict[str, int]:
        return {code: number for number, code in self.code_of.items()}


@dataclass
class Plan:
    """What the rules say that an act does: what these users shall hold, and why those are left alone."""

    goals: dict[int, frozenset[str]]
    skipped: dict[int, str]
    short: dict[int, tuple[int, int]]  # seats needed and free, of products that lack some


@pytest.fixture
def organisation(poison) -> Organisation:
    groups = {"Sales": make_group("Sales")}
    groups["Benelux"] = make_group("Benelux", inside=groups["Sales"])
    users = [
        make_user(
            name,
            groups=[groups[group]] if group else [],
            role=role,
            language=language,
            seen=None if days is None else timedelta(days=days),
        )
        for name, group, role, language, days, _held in PEOPLE
    ]
    for user, (*_facts, held) in zip(users, PEOPLE, strict=True):
        give(user, *held)
    return Organisation(make_user(role=Role.SUPER_ADMIN, language="nl"), users, groups)


@tried(12)
@given(seed=st.integers(0, 2**32 - 1), acts=st.integers(4, 6))
def test_every_life_agrees_with_the_model(seed, acts, organisation, poison, inbox, settings):
    chance = Random(seed)
    with transaction.atomic():
        there = organisation.born_again()
        for act in [drawn(chance) for _ in range(acts)]:
            settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE = act["at_once"], 1000 if act["at_once"] else 2
            live(act, there, poison)
        assert_agree(there, inbox)
        transaction.set_rollback(True)


def live(act: dict[str, Any], there: Organisation, poison: Poison) -> None:
    """Do one act, see that its numbers are what the rules say, and let the rules work on the model."""
    held_now = Counter(code for person in there.model.values() for code in person.held)
    for code, free in act["free"].items():
        limit(code, held_now[code] + free)
    if act["poison"] is not None:
        poison(there.users[act["poison"]])
    if act["undoes"] is not None and there.done:
        request, plan = undoing(act, there)
    else:
        request, plan = changing(act, there)

    if not plan.goals and not plan.skipped:
        with pytest.raises(actions.NobodySelected):
            request()
    elif plan.short:
        with pytest.raises(actions.SeatsShort) as refused:
            request()
        assert {need.product_id: (need.needed, need.free) for need in refused.value.needs} == plan.short
    else:
        follow(act, there, request(), plan, poison)
    poison.heal()
    for code in act["free"]:
        limit(code, None)


def changing(act: dict[str, Any], there: Organisation) -> tuple[Callable[[], BulkChange], Plan]:
    """Return how to ask for a change, having looked at its preview, and what it does by the rules."""
    model = there.model
    picked = {there.users[place].pk for place in act["people"]}
    if act["everyone"]:
        # The admin, who is not in the model, is kept out by name.
        chosen = {number for number, person in model.items() if person.matches(act["filter"])} - picked
        wanted = written(act["filter"], there.groups, there.id_of)
        selection = Selection(everyone=True, filter=wanted, ids=(there.admin.pk, *picked))
    else:
        chosen, selection = picked, Selection.of(picked)
    goals = {number: after(model[number].held, act["mode"], act["ticked"]) for number in chosen}
    plan = planned(goals, act["free"], there, until_full=act["until_full"])
    asked = {
        "actor": there.admin,
        "mode": act["mode"],
        "notify": act["notify"],
        "until_full": act["until_full"],
        "now": NOW,
    }
    products = [there.id_of[code] for code in act["ticked"]]
    foreseen = previews.preview(selection, wanted=products, preserved=(), **asked)
    changed = [number for number, goal in plan.goals.items() if goal != model[number].held]
    welcomed = Counter(code for number in changed for code in (plan.goals[number] - model[number].ever) & WELCOMES)
    assert foreseen.selected == selection.users(there.admin, now=NOW).count() == len(chosen)
    assert (foreseen.changed, foreseen.left_out) == (len(changed), len(plan.skipped))
    assert foreseen.change_emails == (len(changed) if act["notify"] else 0)
    assert {there.code_of[number]: count for number, count in foreseen.onboarding_emails.items()} == welcomed

    def request() -> BulkChange:
        key, expected = uuid.uuid4(), foreseen.selected
        return actions.request_bulk_change(selection=selection, products=products, key=key, reason="", expected=expected, **asked)

    return request, plan


def undoing(act: dict[str, Any], there: Organisation) -> tuple[Callable[[], BulkChange], Plan]:
    """Return how to ask for the undo of an earlier change, and what it does by the rules."""
    made, wrote = there.done[-1 - act["undoes"] % len(there.done)]
    since = {number: "CHANGED_SINCE" for number, states in wrote.items() if there.model[number].held not in states}
    goals = {number: before for number, (before, _after) in wrote.items() if number not in since}
    plan = planned(goals, act["free"], there, until_full=False)
    return lambda: undo(there.admin, made, notify=act["notify"]), replace(plan, skipped=since)


def planned(goals: dict[int, frozenset[str]], free: dict[str, int], there: Organisation, *, until_full: bool) -> Plan:
    """Return who gets what they shall hold while there are seats: all or nothing per user, in the order of being added."""
    gains = {number: goals[number] - there.model[number].held for number in sorted(goals)}
    needed = Counter(code for gained in gains.values() for code in gained)
    short = {there.id_of[code]: (needed[code], seats) for code, seats in free.items() if needed[code] > seats}
    left, skipped = dict(free), {}
    for number, gained in gains.items() if until_full else ():
        if all(left.get(code, 1) > 0 for code in gained):
            left.update({code: left[code] - 1 for code in gained if code in left})
        else:
            skipped[number] = "NO_SEAT"
    goals = {number: goal for number, goal in goals.items() if number not in skipped}
    return Plan(goals, skipped, {} if until_full else short)


def follow(act: dict[str, Any], there: Organisation, made: BulkChange, plan: Plan, poison: Poison) -> None:
    """Run a change to its end on the course that the act takes."""
    if not made.is_over and act["course"] != "straight":
        actions.advance_bulk_change(change_id=made.pk, now=NOW)
        made.refresh_from_db()
    if not made.is_over and act["course"] == "paused":
        actions.pause_change(actor=there.admin, change_id=made.pk)
        assert actions.advance_bulk_change(change_id=made.pk, now=NOW) is actions.Step.OVER
        made.refresh_from_db()
        if not made.is_over:  # it was paused after its last batch
            actions.resume_change(actor=there.admin, change_id=made.pk)
    if not made.is_over and act["course"] == "cancelled":
        made = actions.cancel_change(actor=there.admin, change_id=made.pk, now=NOW)
    run(made)

    missed = set(not_reached(made))
    assert not missed or made.state == BulkChange.State.CANCELLED
    skipped = {number: why for number, why in plan.skipped.items() if number not in missed}
    goals = {number: goal for number, goal in plan.goals.items() if number not in missed}
    changes = {number: goal for number, goal in goals.items() if goal != there.model[number].held}
    victim = there.users[act["poison"]].pk if act["poison"] is not None else None
    if refused := {number: changes.pop(number) for number in list(changes) if number == victim}:
        skipped |= dict.fromkeys(refused, "FAILED")
    wrote = become(there, changes, made)
    assert_told(
        made, changed=len(changes), unchanged=len(goals) - len(changes) - len(refused), skipped=skipped, missed=len(missed)
    )

    if refused and act["retry"] and made.state == BulkChange.State.FAILED:
        poison.heal()
        run(actions.retry_failed(actor=there.admin, change_id=made.pk))
        made.refresh_from_db()
        wrote |= become(there, refused, made)
        del skipped[next(iter(refused))]
        assert_told(made, changed=len(wrote), unchanged=len(goals) - len(wrote), skipped=skipped, missed=0)
    there.done.append((made, wrote))


def become(
    there: Organisation, goals: dict[int, frozenset[str]], made: BulkChange
) -> dict[int, tuple[frozenset[str], frozenset[str]]]:
    """Let users of the model hold what they shall, and be told of it; return what each held before and after."""
    wrote = {}
    for number, goal in goals.items():
        person = there.model[number]
        wrote[number] = (person.held, goal)
        if made.notify:
            person.told["CHANGE", made.pk] += 1
        for code in (goal - person.ever) & WELCOMES:
            person.told["ONBOARDING", there.id_of[code]] += 1
        person.held, person.ever = goal, person.ever | goal
    return wrote


def assert_told(made: BulkChange, *, changed: int, unchanged: int, skipped: dict[int, str], missed: int) -> None:
    assert made.is_over
    assert (made.changed, made.unchanged, made.skipped, made.not_reached) == (changed, unchanged, len(skipped), missed)
    assert dict(made.skips.values_list("user_id", "reason")) == skipped


def was_taken_back(there: Organisation, letter: Notification) -> bool:
    """Return whether nothing of what an email is to tell is still so."""
    held = there.model[letter.user_id].held
    if letter.kind == "ONBOARDING":
        return there.code_of[letter.about] not in held
    told = {letter.about, *Notification.objects.filter(told_by=letter).values_list("about", flat=True)}
    spans = [wrote[letter.user_id] for made, wrote in there.done if made.pk in told and letter.user_id in wrote]
    before, after = spans[0][0], spans[-1][1]
    return not ((after - before) & held or before - after - held)


def assert_agree(there: Organisation, inbox: Callable[[], Counter[tuple[str, str, int]]]) -> None:
    """See that everybody holds and was told what the rules say, and that history, counters and seats tell the same."""
    assert breaches() == []
    while deliver_due(now=NOW):
        pass
    received = inbox()
    for letter in Notification.objects.filter(user__in=there.model, told_by=None).select_related("user"):
        assert (letter.state == State.NEEDLESS) == was_taken_back(there, letter)
        if letter.state == State.NEEDLESS:
            received[letter.user.email, letter.kind, letter.about] += 1
    for told in Notification.objects.exclude(told_by=None).select_related("user", "told_by"):  # by an email that told the whole
        assert told.told_by
        received[told.user.email, told.kind, told.about] += received[told.user.email, told.told_by.kind, told.told_by.about]
    for reader in with_status(User.objects.filter(id__in=there.model), now=NOW).select_related("product_access"):
        person = there.model[reader.pk]
        assert {there.code_of[number] for number in reader.product_access.products} == person.held
        assert {there.code_of[number] for number in reader.product_access.ever} == person.ever
        assert reader.status == person.status  # type: ignore[attr-defined]  # of with_status
        assert {(kind, about): times for (to, kind, about), times in received.items() if to == reader.email} == person.told
    known = {reader.email for reader in there.users} | {there.admin.email}  # who is told of the end of the changes
    assert {to for to, _kind, _about in received} <= known


def written(wanted: dict[str, Any], groups: dict[str, Any], id_of: dict[str, int]) -> UserFilter:
    """Return a filter of the model as the console's own."""
    query = {key: [value] for key, value in wanted.items() if key in ("search", "role", "language", "status")}
    if "group" in wanted:
        query["group"] = [str(groups[wanted["group"]].pk)]
    if "product" in wanted:
        query["product"] = [str(id_of[wanted["product"]])]
    return UserFilter.from_query(query)
