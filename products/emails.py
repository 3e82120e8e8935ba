"""What the emails about products tell: a change of someone's products, how to start with one, and what comes with an account."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache

from django.conf import settings
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import get_language, gettext
from django.utils.translation import gettext_lazy as _

from notifications import emails
from notifications.emails import ACTOR, Actor, Kind, NeedlessError, actors_of, acts_of
from notifications.models import INVITATION, Notification, Owed
from notifications.people import ROLE
from notifications.phrases import day, joined, link, listing, note, sentences, together
from notifications.placeholders import Placeholder, Value
from notifications.queries import told_in
from products.guides import guide_to
from products.models import AccessChange, Product, ProductAccess
from products.queries import product_names
from users.invitations import LIFETIME, token_of
from users.models import CAPABILITIES, Role, User

CHANGE = "CHANGE"  # about a bulk change
ONBOARDING = "ONBOARDING"  # about a product
SUSPENDED = "suspended"

# Translators: a safety sentence. It must say that nothing can be used any more, and that this ends when a product is assigned
# again; "suspended" is the word for the status Suspended.
NOTHING_LEFT = _(
    "You have no products any more, so your access is suspended: "
    "you cannot sign in to any product until one is assigned to you again."
)
LISTS = {
    "added": (_("New for you:"), "+", "good", "#137a46"),
    "removed": (_("No longer available to you:"), "−", "bad", "#b3261e"),
    "held": (_("What you can use now:"), "•", "soft", "#5a6675"),
}
HOLDS = Placeholder("holds", _("What the reader holds now, in one line"))
PRODUCTS = Placeholder("products", _("What the reader holds now, as a list"), is_block=True)


def register() -> None:
    """Make the kinds known to the outbox."""
    for kind in (INVITATION_KIND, ONBOARDING_KIND, CHANGE_KIND, ROLE_KIND):
        emails.register(kind)


@dataclass(frozen=True)
class ChangeFacts:
    """What a change did to someone, as product names in the catalogue's order, and who made it."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    held: tuple[str, ...]
    actor: Actor | None = None


@dataclass(frozen=True)
class OnboardingFacts:
    """Which product someone starts with, who gave it, and all that they hold."""

    actor: Actor | None
    product: str
    code: str
    held: tuple[str, ...]


@dataclass(frozen=True)
class InvitationFacts:
    """What somebody is invited to, by whom, and the link that lets them in, until when in their time zone."""

    actor: Actor | None
    held: tuple[str, ...]
    address: str
    until: datetime
    zone: str


@dataclass(frozen=True)
class RoleFacts:
    """Which role somebody had and has, who gave it, and what they hold."""

    actor: Actor | None
    before: str
    role: str
    held: tuple[str, ...]


def change_facts(notifications: Sequence[Owed]) -> dict[int, Hashable]:
    """Return what the changes that each email tells of did to its user, by notification id: read from the entitlement history.

    That is from before the first of them to after the last, as far as it is still so, and what is held now: five queries. Who
    acted is whoever made the last one. An email that may have gone out is written anew as well, for nobody knows what was held
    when it was handed over; where nothing of it is still so, it tells what its changes did.
    """
    told = told_in(notifications)
    tells = {(n.user_id, change): n.id for n in notifications for change in told[n.id]}
    changes = AccessChange.objects.filter(
        change_id__in={change for _user, change in tells}, user__id__any={user for user, _change in tells}
    )
    spans: dict[int, tuple[list[int], list[int], int | None]] = {}
    last: dict[int, int] = {}
    rows = changes.order_by("id").values_list("id", "user_id", "change_id", "before", "after", "actor_id")
    for row, user, change, before, after, actor in rows:
        # A single change too may reach a user in several steps.
        if letter := tells.get((user, change)):
            spans[letter] = (spans[letter][0] if letter in spans else before), after, actor
            last[letter] = row
    names, actors = product_names(), actors_of(actor for _before, _after, actor in spans.values())
    held, held_then = _sets_held({n.user_id for n in notifications}), _sets_held_then(notifications, last)

    @cache  # most of a batch is told what others of it are told
    def facts(before: tuple[int, ...], after: tuple[int, ...], held: tuple[int, ...], actor: int | None) -> ChangeFacts:
        had, has, holds = set(before), set(after), set(held)
        told_of = _named(names, (has - had) & holds), _named(names, had - has - holds), _named(names, holds)
        return ChangeFacts(*told_of, actor=actors.get(actor or 0))

    found: dict[int, Hashable] = {}
    for n in notifications:
        if n.id in spans:
            before, after, by = spans[n.id]
            holds = held_then.get(n.id, after) if n.is_fixed and not n.is_open else held.get(n.user_id, [])
            tells_of = facts(tuple(before), tuple(after), tuple(holds), by)
            if tells_of.added or tells_of.removed:
                found[n.id] = tells_of
            else:  # what went out told something: it was taken back since
                found[n.id] = facts(tuple(before), tuple(after), tuple(after), by) if n.is_fixed else NeedlessError()
    return found


def change_values(facts: ChangeFacts) -> dict[str, Value]:
    """Return what a change email says in the language that is active."""
    language = get_language() or "en"
    return {
        "changes": together(
            _listed(language, "added", facts.added),
            _listed(language, "removed", facts.removed),
            _listed(language, "held", facts.held) if facts.held else note(NOTHING_LEFT),
        ),
        "added": _in_a_line(language, facts.added),
        "removed": _in_a_line(language, facts.removed),
        "holds": _in_a_line(language, facts.held),
    }


def onboarding_facts(notifications: Sequence[Owed]) -> dict[int, Hashable]:
    """Return the product that each user starts with, by notification id, in five queries.

    Who holds it no more is not told how to start with it. Granted again, it is owed again (products/batch.py).
    """
    products, users = Product.objects.in_bulk({n.about for n in notifications}), {n.user_id for n in notifications}
    given = AccessChange.objects.filter(user__id__any=users, first__overlap=list(products))
    givers = {
        (user, product): actor for user, first, actor in given.values_list("user_id", "first", "actor_id") for product in first
    }
    actors, names, held = actors_of(givers.values()), product_names(), _sets_held(users)

    def facts(n: Owed, product: Product) -> OnboardingFacts | NeedlessError:
        holds = set(held.get(n.user_id, ()))  # by id: a name may change from one statement to the next
        if n.about not in holds and not n.is_fixed:
            return NeedlessError()
        giver = actors.get(givers.get((n.user_id, n.about)) or 0)
        return OnboardingFacts(giver, product.name, product.code, _named(names, holds))

    return {n.id: facts(n, product) for n in notifications if (product := products.get(n.about))}


def onboarding_values(facts: OnboardingFacts) -> dict[str, Value]:
    """Return what an email on how to start with a product says in the language that is active."""
    return {"product": Value.plain(facts.product), **_holding(facts.held)}


def invitation_facts(notifications: Sequence[Owed]) -> dict[int, Hashable]:
    """Return what each invitation is to, by notification id, in five queries. Who chose a password meanwhile is not in it."""
    acts, actors = acts_of(notifications)
    users = User.objects.only("email", "password", "time_zone").in_bulk({n.user_id for n in notifications})
    held = _held(users)
    facts: dict[int, Hashable] = {}
    for notification in notifications:
        act, user = acts.get(notification.about), users.get(notification.user_id)
        if act is not None and user is not None and not user.has_usable_password():
            address = settings.CONSOLE_URL + reverse("accept_invitation", args=[token_of(user, invited_at=act.at)])
            actor, until = actors.get(act.actor_id or 0), act.at + LIFETIME
            facts[notification.id] = InvitationFacts(actor, held[user.pk], address, until, user.time_zone)
    return facts


def invitation_values(facts: InvitationFacts) -> dict[str, Value]:
    """Return what an invitation says in the language that is active."""
    return {
        "products": _listed(get_language() or "en", "held", facts.held)
        if facts.held
        else sentences(gettext("You hold no product yet.")),
        "holds": Value.plain(joined(facts.held)),
        "link": link(facts.address, gettext("Choose your password")),
        "expires": Value.plain(day(facts.until, facts.zone)),
    }


def role_facts(notifications: Sequence[Owed]) -> dict[int, Hashable]:
    """Return which role each user had and got, by notification id, in four queries."""
    acts, actors = acts_of(notifications)
    held = _held({n.user_id for n in notifications})
    return {
        n.id: RoleFacts(actors.get(act.actor_id or 0), act.before["role"], act.after["role"], held[n.user_id])
        for n in notifications
        if (act := acts.get(n.about)) is not None and act.before and act.after
    }


def role_values(facts: RoleFacts) -> dict[str, Value]:
    """Return what an email about a role says in the language that is active."""
    abilities = [str(capability.label) for capability in sorted(CAPABILITIES[facts.role])]
    nothing = sentences(gettext("With this role you do not open the console."))
    return {
        "before": Value.plain(Role(facts.before).label),
        "role": Value.plain(Role(facts.role).label),
        "abilities": listing(gettext("What you can do in the console now:"), abilities) if abilities else nothing,
        **_holding(facts.held),
    }


def _welcomed() -> Mapping[str, str | Promise]:
    found = Product.objects.filter(onboarding=True).order_by("position", "id")
    return dict(found.values_list("code", "name"))


def _change_sample(reader: User, variant: str, now: datetime) -> ChangeFacts:
    """Return the last change of the reader, as far as it is such a one; else one that could have been."""
    names, actor = product_names(), Actor(reader.name, reader.email)
    held = _held([reader.pk])[reader.pk]
    last = AccessChange.objects.filter(user=reader).order_by("-id").first()
    if variant == SUSPENDED:
        return ChangeFacts((), held or tuple(names.values())[:2], (), actor)
    if last and last.after:
        had, has = set(last.before), set(last.after)
        return ChangeFacts(_named(names, has - had), _named(names, had - has), _named(names, has), actor)
    held = held or tuple(names.values())[:3]
    return ChangeFacts(held[:1], tuple(name for name in names.values() if name not in held)[:1], held, actor)


def _onboarding_sample(reader: User, variant: str, now: datetime) -> OnboardingFacts:
    product = Product.objects.get(code=variant).name
    held = _held([reader.pk])[reader.pk]
    return OnboardingFacts(Actor(reader.name, reader.email), product, variant, held if product in held else (product, *held))


def _invitation_sample(reader: User, variant: str, now: datetime) -> InvitationFacts:
    held = _held([reader.pk])[reader.pk]
    address, until = f"{settings.CONSOLE_URL}/…", now + LIFETIME
    return InvitationFacts(Actor(reader.name, reader.email), held, address, until, reader.time_zone)


def _role_sample(reader: User, variant: str, now: datetime) -> RoleFacts:
    before = Role.ADMIN if reader.role == Role.MEMBER else Role.MEMBER
    return RoleFacts(Actor(reader.name, reader.email), before, reader.role, _held([reader.pk])[reader.pk])


def _held(users: Iterable[int]) -> dict[int, tuple[str, ...]]:
    """Return what each of the users holds, by their ids."""
    names, users = product_names(), list(users)
    held = _sets_held(users)
    return {user: _named(names, set(held.get(user, ()))) for user in users}


def _sets_held(users: Iterable[int]) -> dict[int, list[int]]:
    """Return the products that each of the users holds, by their ids."""
    return dict(ProductAccess.objects.filter(user__id__any=users).values_list("user_id", "products"))


def _sets_held_then(notifications: Sequence[Owed], told: Mapping[int, int]) -> dict[int, list[int]]:
    """Return what the users of emails that are over held when they were sent, where it was changed after the last row told.

    When one that may have gone out was sent nobody knows.
    """
    letters, held = defaultdict[int, list[Notification]](list), dict[int, list[int]]()
    for n in notifications:
        if isinstance(n, Notification) and n.is_fixed and not n.is_open and n.id in told:
            letters[n.user_id].append(n)
    later = AccessChange.objects.filter(user__id__any=list(letters), id__gt=min(told.values(), default=0)).order_by("id")
    for user, row, at, after in later.values_list("user_id", "id", "at", "after") if letters else ():
        held |= {n.id: after for n in letters[user] if row > told[n.id] and at <= n.told_until}
    return held


def _named(names: Mapping[int, str], products: set[int]) -> tuple[str, ...]:
    return tuple(name for product, name in names.items() if product in products)


def _holding(held: tuple[str, ...]) -> dict[str, Value]:
    """Return the values of what the reader holds now, in the language that is active."""
    language = get_language() or "en"
    nothing = sentences(gettext("You hold no product at the moment."))
    return {"products": _listed(language, "held", held) if held else nothing, "holds": _in_a_line(language, held)}


@lru_cache(maxsize=5_000)
def _in_a_line(language: str, products: tuple[str, ...]) -> Value:
    return Value.plain(joined(products))


@lru_cache(maxsize=5_000)
def _listed(language: str, which: str, products: tuple[str, ...]) -> Value:
    """Return one of the LISTS in the language, which is the active one."""
    title, sign, tone, colour = LISTS[which]
    return listing(title, products, sign=sign, tone=tone, colour=colour)


CHANGE_KIND = Kind(
    name=CHANGE,
    label=_("Change of products"),
    lane=2,
    template="change",
    facts=change_facts,
    values=change_values,
    sample=_change_sample,
    placeholders=(
        ACTOR,
        Placeholder("changes", _("What is new, what is gone, and what the reader holds now"), is_block=True, is_needed=True),
        Placeholder("added", _("What is new, in one line")),
        Placeholder("removed", _("What is gone, in one line")),
        HOLDS,
    ),
    variant=lambda facts: "" if facts.held else SUSPENDED,
    variants=lambda: {"": _("Something is left"), SUSPENDED: _("Nothing is left: Suspended")},
    merges=True,
)
ONBOARDING_KIND = Kind(
    name=ONBOARDING,
    label=_("How to start with a product"),
    lane=1,
    template="onboarding",
    facts=onboarding_facts,
    values=onboarding_values,
    sample=_onboarding_sample,
    placeholders=(ACTOR, Placeholder("product", _("The name of the product")), PRODUCTS, HOLDS),
    variant=lambda facts: facts.code,
    variants=_welcomed,
    context=lambda variant: {"guide": guide_to(variant)},
)
INVITATION_KIND = Kind(
    name=INVITATION,
    label=_("Invitation"),
    lane=0,
    template="invitation",
    facts=invitation_facts,
    values=invitation_values,
    sample=_invitation_sample,
    lets_in=True,
    placeholders=(
        ACTOR,
        Placeholder("link", _("The link to choose a password with"), is_block=True, is_needed=True),
        Placeholder("expires", _("The day on which the link ends")),
        PRODUCTS,
        HOLDS,
    ),
)
ROLE_KIND = Kind(
    name=ROLE,
    label=_("Change of role"),
    lane=1,
    template="role",
    facts=role_facts,
    values=role_values,
    sample=_role_sample,
    placeholders=(
        ACTOR,
        Placeholder("before", _("The role that the reader had")),
        Placeholder("role", _("The role that the reader has now"), is_needed=True),
        Placeholder("abilities", _("What the role lets its holder do"), is_block=True),
        PRODUCTS,
        HOLDS,
    ),
)
