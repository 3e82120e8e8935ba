"""Random lives of an organisation agree with a model of the rules small enough to read (S1, B1, B5, E1, E2, H1)."""

import re
import socket
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from email import message_from_bytes
from email.policy import default
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notifications.actions import deliver_due
from products import actions, previews
from products.models import AccessChange, Mode, Product, ProductAccess
from products.selection import Selection
from tests.factories import NOW, make_group, make_user
from users.models import Role, User
from users.queries import Status, UserFilter, with_status

pytestmark = pytest.mark.django_db

PRODUCTS = ["meeting", "webinar", "rescue", "central"]
WELCOMES = {"meeting", "webinar"}
PEOPLE = [  # name, group (Benelux is inside of Sales), role, language, days since last seen
    ("Ada Lovelace", "Sales", Role.MEMBER, "en", 1),
    ("Zoë Ångström", "Benelux", Role.MEMBER, "fr", 40),
    ("Grace Hopper", "Benelux", Role.MANAGER, "de", None),
    ("Alan Turing", None, Role.SUPPORT, "en", 2),
    ("José Núñez", "Sales", Role.MEMBER, "es", None),
    ("Zola Marsh", None, Role.MEMBER, "fr", 29),
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
        return (
            wanted.get("search", "") in f"{plain(self.name)}\n{self.email}"
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


filters = st.fixed_dictionaries(
    {},
    optional={
        "search": st.sampled_from(["a", "zo", "ngs", "da lo", "un", "q"]),
        "role": st.sampled_from([Role.MEMBER, Role.MANAGER]),
        "language": st.sampled_from(["en", "fr"]),
        "status": st.sampled_from(Status.values),
        "group": st.sampled_from(["Sales", "Benelux"]),
        "product": st.sampled_from(PRODUCTS),
    },
)
people = st.frozensets(st.integers(0, len(PEOPLE) - 1), max_size=4)
acts = st.fixed_dictionaries(
    {
        "everyone": st.booleans(),
        "filter": filters,
        "people": people,  # ticked, or unticked when everyone
        "mode": st.sampled_from(Mode.values),
        "ticked": st.frozensets(st.sampled_from(PRODUCTS)),
        "notify": st.booleans(),
        "at_once": st.sampled_from([0, 1000]),
    }
)


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
            named = re.fullmatch(r"<(\w+)\.(\d+)\.\d+@.*>", message["Message-ID"])
            assert named, message["Message-ID"]
            found[message["To"], named[1].upper(), int(named[2])] += 1
        received.clear()
        return found

    yield emptied
    server.stop()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(life=st.lists(acts, min_size=1, max_size=6))
def test_every_life_agrees_with_the_model(life, inbox, settings):
    with transaction.atomic():
        live(life, inbox, settings)
        transaction.set_rollback(True)


def live(life: list[dict[str, Any]], inbox: Callable[[], Counter[tuple[str, str, int]]], settings: Any) -> None:
    groups = {"Sales": make_group("Sales")}
    groups["Benelux"] = make_group("Benelux", inside=groups["Sales"])
    admin = make_user(role=Role.SUPER_ADMIN, language="nl")
    model: dict[int, Person] = {}
    for name, group, role, language, days in PEOPLE:
        seen = None if days is None else timedelta(days=days)
        user = make_user(name, groups=[groups[group]] if group else [], role=role, language=language, seen=seen)
        model[user.pk] = Person(name, user.email, group, role, language, days)
    numbers = list(model)
    code_of = dict(Product.objects.values_list("id", "code"))
    id_of = {code: number for number, code in code_of.items()}

    for act in life:
        settings.BULK_AT_ONCE, settings.BULK_BATCH_SIZE = act["at_once"], 1000 if act["at_once"] else 2
        picked = {numbers[place] for place in act["people"]}
        if act["everyone"]:
            # The admin, who is not in the model, is kept out by name.
            chosen = {number for number, person in model.items() if person.matches(act["filter"])} - picked
            selection = Selection(everyone=True, filter=written(act["filter"], groups, id_of), ids=(admin.pk, *picked))
        else:
            chosen, selection = picked, Selection.of(picked)
        asked = {"actor": admin, "mode": act["mode"], "notify": act["notify"], "now": NOW}
        products = [id_of[code] for code in act["ticked"]]
        foreseen = previews.preview(selection, wanted=products, preserved=(), **asked)
        assert foreseen.selected == selection.users(admin, now=NOW).count() == len(chosen)
        if not chosen:
            with pytest.raises(actions.NobodySelected):
                actions.request_bulk_change(selection=selection, products=products, key=uuid.uuid4(), reason="", **asked)
            continue
        made = actions.request_bulk_change(
            selection=selection, products=products, key=uuid.uuid4(), reason="", expected=foreseen.selected, **asked
        )
        while not made.is_over:
            actions.advance_bulk_change(change_id=made.pk, now=NOW)
            made.refresh_from_db()

        changed = 0
        welcomed: Counter[str] = Counter()
        for number in chosen:
            person = model[number]
            wanted = after(person.held, act["mode"], act["ticked"])
            if wanted == person.held:
                continue
            changed += 1
            if act["notify"]:
                person.told["CHANGE", made.pk] += 1
            for code in (wanted - person.ever) & WELCOMES:
                person.told["ONBOARDING", id_of[code]] += 1
                welcomed[code] += 1
            person.held, person.ever = wanted, person.ever | wanted
        assert (made.targets, made.changed, made.unchanged) == (len(chosen), changed, len(chosen) - changed)
        assert (foreseen.changed, foreseen.change_emails) == (changed, changed if act["notify"] else 0)
        assert {code_of[number]: count for number, count in foreseen.onboarding_emails.items()} == welcomed

    while deliver_due(now=NOW):
        pass
    received = inbox()
    for reader in with_status(User.objects.filter(id__in=numbers), now=NOW).select_related("product_access"):
        person = model[reader.pk]
        replayed = list(AccessChange.objects.filter(user=reader).order_by("id").values_list("before", "after"))
        assert {code_of[number] for number in reader.product_access.products} == person.held
        assert {code_of[number] for number in reader.product_access.ever} == person.ever
        assert reader.status == person.status  # type: ignore[attr-defined]  # of with_status
        assert [before for before, _after in replayed] == [[], *[after for _before, after in replayed[:-1]]][: len(replayed)]
        assert (replayed[-1][1] if replayed else []) == reader.product_access.products
        assert {(kind, about): times for (to, kind, about), times in received.items() if to == reader.email} == person.told
    assert sum(received.values()) == sum(sum(person.told.values()) for person in model.values())
    held_now = Counter(code for products in ProductAccess.objects.values_list("products", flat=True) for code in products)
    with connection.cursor() as cursor:
        cursor.execute("SELECT product_id, used FROM products_seat WHERE used > 0")
        assert dict(cursor.fetchall()) == held_now


def written(wanted: dict[str, Any], groups: dict[str, Any], id_of: dict[str, int]) -> UserFilter:
    """Return a filter of the model as the console's own."""
    query = {key: [value] for key, value in wanted.items() if key in ("search", "role", "language", "status")}
    if "group" in wanted:
        query["group"] = [str(groups[wanted["group"]].pk)]
    if "product" in wanted:
        query["product"] = [str(id_of[wanted["product"]])]
    return UserFilter.from_query(query)
