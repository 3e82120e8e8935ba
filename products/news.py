"""What admins are told by email: how a bulk change of theirs ended, or paused by itself, and that seats run low."""

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from django.conf import settings
from django.db.models import Exists, F, OuterRef
from django.urls import reverse
from django.utils.formats import number_format
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from notifications import emails
from notifications.emails import Kind
from notifications.models import Owed
from notifications.phrases import day, labelled, link, listing, sentences, together
from notifications.placeholders import Placeholder, Value
from notifications.wordings import identity
from products.models import BulkChange, BulkChangeMove, SeatReservation, SeatWarning
from products.pauses import Pause, pause_of
from products.reports import failed_users
from users.models import Action, AdminAction, User

COURSES = {
    "FINISHED": _("Bulk change finished"),
    "FAILED": _("Bulk change finished with errors"),
    "PAUSED": _("Bulk change paused"),
}
SEATS = "SEATS"  # about a warning


def register() -> None:
    """Make the kinds known to the outbox."""
    for kind in (*COURSE_KINDS, SEATS_KIND):
        emails.register(kind)


type Move = tuple[str, int, int]  # a product, how many users gained it, and how many lost it


@dataclass(frozen=True)
class CourseFacts:
    """How far a bulk change came, and how many gained and lost each product by it."""

    number: int
    requested_at: datetime
    zone: str  # of who is told, who is who asked
    changed: int
    unchanged: int
    skipped: int
    failed: int
    waiting: int
    moves: tuple[Move, ...]
    pause: Pause | None


@dataclass(frozen=True)
class SeatFacts:
    """How many seats of a product are left, and which change took some last; 0: none did, or their number was set since."""

    product: str
    product_id: int
    free: int
    seats: int
    change: int = 0
    actor_name: str = ""  # empty when emails name nobody, or when they were erased


def course_facts(notifications: Sequence[Owed]) -> dict[int, Hashable]:
    """Return how far the change of each email came, by notification id, in two queries, and at most two more for each."""
    changes = BulkChange.objects.select_related("actor").in_bulk({n.about for n in notifications})
    moves = _moves(changes)
    return {n.id: _course(changes[n.about], moves[n.about], n.kind) for n in notifications if n.about in changes}


def course_values(facts: CourseFacts) -> dict[str, Value]:
    """Return what an email about a bulk change says in the language that is active."""
    held_already = ngettext(
        "%(users)s user held these products already.", "%(users)s users held these products already.", facts.unchanged
    )
    counted = [
        (facts.changed, ngettext("%(users)s user was changed.", "%(users)s users were changed.", facts.changed)),
        (facts.unchanged, held_already),
        (facts.skipped, ngettext("%(users)s user was left out.", "%(users)s users were left out.", facts.skipped)),
        (facts.failed, ngettext("%(shown)s user could not be changed.", "%(shown)s users could not be changed.", facts.failed)),
        (facts.waiting, ngettext("%(users)s user still waits.", "%(users)s users still wait.", facts.waiting)),
    ]
    numbered = ((number_format(users, force_grouping=True), line) for users, line in counted if users)
    lines = [line % {"users": number, "shown": number} for number, line in numbered]  # “shown”: as the change's page says it
    moved = [labelled(product, " ".join(_signed("+", gained) + _signed("−", lost))) for product, gained, lost in facts.moves]
    why = [gettext("Why it paused: %(reason)s") % {"reason": facts.pause}] if facts.pause else []
    return {
        "change": Value.plain(facts.number),
        "date": Value.plain(day(facts.requested_at, facts.zone)),
        "outcome": together(sentences(*why, *lines), listing(gettext("What users gained and lost:"), moved)),
        "link": link(settings.CONSOLE_URL + reverse("change", args=[facts.number]), gettext("Open the change")),
    }


def seat_facts(notifications: Sequence[Owed]) -> dict[int, Hashable]:
    """Return which seats ran low, by notification id, in two queries, and two for each product."""
    found = SeatWarning.objects.select_related("product").in_bulk({n.about for n in notifications})
    names_actor = identity().names_actor
    facts = {number: _seats(warning, names_actor=names_actor) for number, warning in found.items()}
    return {n.id: facts[n.about] for n in notifications if n.about in facts}


def seat_values(facts: SeatFacts) -> dict[str, Value]:
    """Return what an email about seats says in the language that is active."""
    numbers = {"free": number_format(facts.free, force_grouping=True), "seats": number_format(facts.seats, force_grouping=True)}
    outcome = [sentences(gettext("Free seats: %(free)s of %(seats)s") % numbers)]
    if facts.change:
        told = {"number": facts.change, "name": facts.actor_name}
        by_name, by_nobody = (
            gettext("Last change that took seats: #%(number)s, by %(name)s"),
            gettext("Last change that took seats: #%(number)s"),
        )
        outcome.append(sentences((by_name if facts.actor_name else by_nobody) % told))
        outcome.append(link(settings.CONSOLE_URL + reverse("change", args=[facts.change]), gettext("Open the change")))
    return {
        "product": Value.plain(facts.product),
        "outcome": together(*outcome),
        "link": link(settings.CONSOLE_URL + reverse("product", args=[facts.product_id]), gettext("Open the product")),
    }


def _seats(warning: SeatWarning, *, names_actor: bool) -> SeatFacts:
    of_it = {"change": OuterRef("pk"), "product": warning.product_id}
    took = Exists(BulkChangeMove.objects.filter(**of_it, gained__gt=F("lost"))) | Exists(SeatReservation.objects.filter(**of_it))
    changes = BulkChange.objects.filter(took, requested_at__lte=warning.at).select_related("actor")
    facts = SeatFacts(warning.product.name, warning.product_id, warning.free, warning.seats)
    if (change := changes.order_by("-id").first()) is None:
        return facts
    set_since = AdminAction.objects.filter(
        action=Action.PRODUCT_SEATS_CHANGED, subject_id=warning.product_id, at__range=(change.requested_at, warning.at)
    )
    if set_since.exists():
        return facts
    actor = change.actor if names_actor else None
    return replace(facts, change=change.pk, actor_name=actor.name if actor and not actor.is_erased else "")


def _moves(changes: Collection[int]) -> dict[int, tuple[Move, ...]]:
    """Return how many users gained and lost each product by each of these changes, in the order of the catalogue."""
    found = BulkChangeMove.objects.filter(change__in=changes).order_by("product__position", "product_id")
    moves: dict[int, tuple[Move, ...]] = dict.fromkeys(changes, ())
    for change, product, gained, lost in found.values_list("change_id", "product__name", "gained", "lost"):
        moves[change] += ((product, gained, lost),)
    return moves


def _signed(sign: str, users: int) -> list[str]:
    return [f"{sign}{number_format(users, force_grouping=True)}"] if users else []


def _course(change: BulkChange, moves: tuple[Move, ...], kind: str) -> CourseFacts:
    failed = failed_users(change) if change.skipped else 0  # they are among the skipped
    return CourseFacts(
        number=change.pk,
        requested_at=change.requested_at,
        zone=change.actor.time_zone if change.actor else "",
        changed=change.changed,
        unchanged=change.unchanged,
        skipped=change.skipped - failed,
        failed=failed,
        waiting=change.not_reached,
        moves=moves,
        pause=pause_of(change) if kind == "PAUSED" else None,
    )


def _course_sample(kind: str, reader: User, now: datetime) -> CourseFacts:
    last = BulkChange.objects.order_by("-id").first()
    pause = Pause(BulkChange.Cause.DISK_FULL, "No space left on device") if kind == "PAUSED" else None
    made = BulkChange(id=1, requested_at=now, targets=1_204, changed=1_180, unchanged=20, skipped=4)
    course = _course(last, _moves([last.pk])[last.pk], kind) if last else _course(made, (("GoTo Meeting", 1_180, 0),), kind)
    return replace(course, pause=pause, zone=reader.time_zone)


def _seat_sample(reader: User, variant: str, now: datetime) -> SeatFacts:
    return SeatFacts("GoTo Meeting", 1, 4, 100, 1, reader.name)


CHANGE_PLACEHOLDERS = (
    Placeholder("change", _("The number of the change")),
    Placeholder("date", _("The day on which it was started")),
    Placeholder("outcome", _("How many users were changed, and what they gained and lost"), is_block=True, is_needed=True),
    Placeholder("link", _("The link to the change"), is_block=True),
)


def _course_kind(name: str) -> Kind:
    return Kind(
        name=name,
        label=COURSES[name],
        lane=1,
        template="course",
        facts=course_facts,
        values=course_values,
        sample=lambda reader, variant, now: _course_sample(name, reader, now),
        placeholders=CHANGE_PLACEHOLDERS,
        context=lambda variant: {"course": name},
    )


COURSE_KINDS = tuple(map(_course_kind, COURSES))
SEATS_KIND = Kind(
    name=SEATS,
    label=_("Seats run low"),
    lane=1,
    template="seats",
    facts=seat_facts,
    values=seat_values,
    sample=_seat_sample,
    placeholders=(
        Placeholder("product", _("The name of the product")),
        Placeholder("outcome", _("How many seats are free"), is_block=True, is_needed=True),
        Placeholder("link", _("The link to the product"), is_block=True),
    ),
)
