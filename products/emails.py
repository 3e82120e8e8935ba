"""What the emails about products tell: a change of someone's products, and how to start with one."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from notifications import emails
from notifications.models import Notification
from notifications.queries import told_in
from products.models import AccessChange, Product
from products.queries import product_names

CHANGE = "CHANGE"  # about a bulk change
ONBOARDING = "ONBOARDING"  # about a product


def register() -> None:
    """Make the two kinds known to the outbox."""
    emails.register(ONBOARDING, lane=1, template="onboarding", facts=onboarding_facts)
    emails.register(CHANGE, lane=2, template="change", facts=change_facts, merges=True)


@dataclass(frozen=True)
class ChangeFacts:
    """What a change did to someone, as product names in the catalogue's order."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    held: tuple[str, ...]

    @property
    def suspended(self) -> bool:
        """Whether nothing is left."""
        return not self.held


@dataclass(frozen=True)
class OnboardingFacts:
    """Which product someone starts with."""

    product: str
    code: str

    @property
    def guide(self) -> "Guide":
        return GUIDES.get(self.code, ANY_PRODUCT)


@dataclass(frozen=True)
class Guide:
    """How to start with a product: what it is for, the first steps, where to read more (nothing when empty)."""

    purpose: str | Promise
    steps: tuple[str | Promise, ...]
    link: str = ""


def change_facts(notifications: Sequence[Notification]) -> dict[int, Hashable]:
    """Return what the changes that each email tells of did to its user, by notification id: read from the entitlement history.

    That is from before the first of them to after the last, in three queries.
    """
    told = told_in(notifications)
    tells = {(n.user_id, change): n.id for n in notifications for change in told[n.id]}
    changes = AccessChange.objects.filter(
        change_id__in={change for _user, change in tells}, user_id__in={user for user, _change in tells}
    )
    spans: dict[int, tuple[list[int], list[int]]] = {}
    for user, change, before, after in changes.order_by("id").values_list("user_id", "change_id", "before", "after"):
        # A single change too may reach a user in several steps.
        if letter := tells.get((user, change)):
            first_before, _after = spans.get(letter, (before, after))
            spans[letter] = first_before, after
    names = product_names()

    def named(ids: set[int]) -> tuple[str, ...]:
        return tuple(name for product, name in names.items() if product in ids)

    facts: dict[int, Hashable] = {}
    for notification in notifications:
        if span := spans.get(notification.id):
            had, has = set(span[0]), set(span[1])
            facts[notification.id] = ChangeFacts(named(has - had), named(had - has), named(has))
    return facts


def onboarding_facts(notifications: Sequence[Notification]) -> dict[int, Hashable]:
    """Return the product that each user starts with, by notification id, in one query."""
    products = Product.objects.in_bulk({n.about for n in notifications})
    return {n.id: OnboardingFacts(products[n.about].name, products[n.about].code) for n in notifications if n.about in products}


GUIDES = {
    "meeting": Guide(
        _("With GoTo Meeting you meet online: everyone sees the same screen and each other, from a browser or a phone."),
        (
            _("Sign in with your work email address and choose “Meet now” to try it alone: check your microphone and camera."),
            _("Schedule your first meeting and send the invitation: your guests join with its link and need no account."),
            _("In the meeting choose “Share screen” to show one window or all of it, and hand control to a guest if you like."),
        ),
        "https://support.goto.com/meeting",
    ),
    "webinar": Guide(
        _("With GoTo Webinar you present to a large audience, who registers beforehand and can ask you questions."),
        (
            _("Sign in with your work email address and schedule a webinar: its registration page is made for you."),
            _("Add co-organisers and panelists, then start a practice session: nobody in the audience sees or hears it."),
            _("Share the registration link. Afterwards the reports say who came, who stayed, and what they asked."),
        ),
        "https://support.goto.com/webinar",
    ),
    "training": Guide(
        _("With GoTo Training you teach a class online, with materials, tests and a catalogue of your courses."),
        (
            _("Sign in with your work email address, create a training and upload its materials: learners get them beforehand."),
            _("Write a short test or a poll: you can start it during the session, and see the answers at once."),
            _("Publish the training in your catalogue, or send its registration link to the learners yourself."),
        ),
        "https://support.goto.com/training",
    ),
    "openvoice": Guide(
        _("With OpenVoice you hold conference calls by telephone, at any time and without booking."),
        (
            _("Sign in with your work email address: your conference room number and your organiser PIN are on the first page."),
            _("Give your guests a dial-in number and the room number. Keep the PIN to yourself: with it you start the call."),
            _("During a call you can mute everyone, lock it or record it with keys of your telephone: the help lists them."),
        ),
        "https://support.goto.com/openvoice",
    ),
}
ANY_PRODUCT = Guide(
    _("It is ready for you, with the account that you already have."),
    (
        _("Sign in to it with your work email address."),
        _("Look around: its own help tells you what it can do for you."),
        _("Ask an administrator of your organisation if something you need is missing."),
    ),
)
