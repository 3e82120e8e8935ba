"""What an admin chooses products from: a box for each, how many of the users hold it, and what the choice would do."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from notifications.queries import Forecast, forecast
from products.actions import ChangeRefused, Intent, check_intent
from products.models import Mode, Product
from products.previews import Group, Preview, SeatNeed, compose, preview
from products.queries import catalogue_mark
from products.selection import Selection

MODES = {
    Mode.REPLACE: gettext_lazy("Everyone ends up with exactly the ticked products, whatever they had before."),
    Mode.ADD: gettext_lazy("The ticked products are added. Nobody loses anything."),
    Mode.REMOVE: gettext_lazy("The ticked products are removed. Everything else stays as it is."),
}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One product to tick: how many users (`held` of `of`, the erased apart) hold it, and why it may not be chosen, if so."""

    product: Product
    held: int
    of: int
    ticked: bool
    mixed: bool  # some hold it, and the box was left as it is
    disabled: bool
    why: str
    seats: int | None  # None: as many as wanted
    used: int
    reserved: int  # by changes that run

    @property
    def free(self) -> int:
        """How many seats are free."""
        return max((self.seats or 0) - self.used - self.reserved, 0)

    @property
    def some(self) -> bool:
        """Whether some of the users hold it, and others do not."""
        return 0 < self.held < self.of


class ProductChoice:
    """The boxes and the preview for some users. Not told which are `ticked`, those are that everyone holds (Replace), or none."""

    def __init__(
        self,
        actor: Any,
        selection: Selection,
        *,
        mode: str,
        ticked: Iterable[int] | None,
        notify: bool,
        now: datetime,
        until_full: bool = False,
    ) -> None:
        self.actor, self.selection, self.mode, self.notify, self.now = actor, selection, mode, notify, now
        self.until_full = until_full
        self.composition = compose(selection.accesses(actor, now=now), actor=actor)
        self.products, self.locked = self.composition.products, self.composition.locked
        self.ticked = frozenset(self._held_by_all() if ticked is None else ticked)
        self.refusal: ChangeRefused | None = None
        try:
            self.preview = self._preview(check_intent(actor=actor, products=self.ticked, mode=mode))
        except ChangeRefused as error:
            self.refusal, self.preview = error, self._preview(self._nothing())

    @property
    def modes(self) -> list[tuple[Mode, str, str]]:
        """The modes: value, word, what it does."""
        return [(mode, str(mode.label), str(does)) for mode, does in MODES.items()]

    @property
    def catalogue_mark(self) -> int:
        """What may be done with which product, as one number that goes with the form."""
        return catalogue_mark(self.products, self.locked)

    @cached_property
    def choices(self) -> list[Choice]:
        """The products in the order of the catalogue."""
        return [self._choice(product) for product in self.products]

    @property
    def some_mixed(self) -> bool:
        """Whether a box shows a dash."""
        return any(choice.mixed for choice in self.choices)

    @property
    def losses(self) -> list[tuple[Product, int]]:
        return self._by_product(self.preview.losses)

    @property
    def gains(self) -> list[tuple[Product, int]]:
        return self._by_product(self.preview.gains)

    @property
    def onboarding(self) -> list[tuple[Product, int]]:
        return self._by_product(self.preview.onboarding_emails)

    @cached_property
    def forecast(self) -> Forecast | None:
        """How long its emails take, after those that wait; None when it owes none."""
        owed = self.preview.change_emails + sum(self.preview.onboarding_emails.values())
        return forecast(owed, now=self.now) if owed else None

    @property
    def seats_short(self) -> list[tuple[Product, SeatNeed]]:
        """The products of which there are too few seats."""
        return [(product, need) for product, need in self._seats if need.missing]

    @property
    def seats_that_suffice(self) -> list[tuple[Product, SeatNeed]]:
        """The limited products of which there are enough."""
        return [(product, need) for product, need in self._seats if not need.missing]

    def _held_by_all(self) -> list[int]:
        if self.mode != Mode.REPLACE:
            return []
        sets = [group.held for group in self._not_erased]
        return sorted(frozenset.intersection(*sets) - self.locked) if sets else []

    @cached_property
    def _not_erased(self) -> list[Group]:
        """Those who can hold anything; the others are no reason to leave a box unticked."""
        return [group for group in self.composition.groups if not group.erased]

    def _nothing(self) -> Intent:
        return Intent(mode=self.mode, wanted=(), preserved=tuple(sorted(self.locked)))

    def _preview(self, intent: Intent) -> Preview:
        return preview(
            self.selection,
            actor=self.actor,
            mode=intent.mode,
            wanted=intent.wanted,
            preserved=intent.preserved,
            notify=self.notify,
            now=self.now,
            until_full=self.until_full,
            composition=self.composition,
        )

    def _choice(self, product: Product) -> Choice:
        held, of = self.preview.holding.get(product.pk, 0), sum(group.users for group in self._not_erased)
        locked = product.pk in self.locked
        why, disabled = self._why(product, locked=locked, held=held)
        replacing = self.mode == Mode.REPLACE
        seat = product.seat
        return Choice(
            product=product,
            held=held,
            of=of,
            ticked=product.pk in self.ticked or (locked and replacing and 0 < held == of),
            mixed=replacing and 0 < held < of and product.pk not in self.ticked,
            disabled=disabled,
            why=why,
            seats=seat.seats,
            used=seat.used,
            reserved=seat.reserved,
        )

    def _why(self, product: Product, *, locked: bool, held: int) -> tuple[str, bool]:
        """Return what restricts a product and whether that disables its box."""
        if locked:
            return _("Only an admin may grant or remove it. Who has it keeps it."), True
        if not product.retired_at:
            return "", False
        if self.mode == Mode.REPLACE and held:
            return _("Retired: ticked, who has it keeps it, and nobody else gets it."), False
        return _("Retired: it can no longer be granted."), self.mode == Mode.ADD or not held

    @property
    def _seats(self) -> list[tuple[Product, SeatNeed]]:
        products = {product.pk: product for product in self.products}
        return [(products[need.product_id], need) for need in self.preview.seats]

    def _by_product(self, counts: Mapping[int, int]) -> list[tuple[Product, int]]:
        return [(product, counts[product.pk]) for product in self.products if counts.get(product.pk)]
