"""Why a bulk change is refused: the exceptions that `actions` raises, having applied nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from products.models import Product
from products.previews import SeatNeed


class ChangeRefused(Exception):
    """A bulk change that cannot be made as asked for; its text is for the admin. Nothing was applied."""


class NotAllowed(ChangeRefused):
    """The actor may not set products, or not these."""


class NotNow(ChangeRefused):
    """What was asked for does not go with the state that the change is in now."""


class NobodySelected(ChangeRefused):
    """The selection finds no user."""


class NotAmongEveryone(ChangeRefused):
    """Everyone whom a filter finds is selected, and who was ticked is not among them: they would only look selected."""


class UnknownProduct(ChangeRefused):
    """A ticked product does not exist."""


class RetiredProduct(ChangeRefused):
    """A retired product was asked for; it can be unticked, never newly ticked (rule B12)."""


class CatalogueChanged(ChangeRefused):
    """A product was retired since the preview, or offered again, or came into or out of reach: something else would happen."""


class KeyReused(ChangeRefused):
    """The key was used for a change with other content (rule B4)."""


@dataclass(frozen=True, kw_only=True)
class Some:
    """Some users: how many, and the ids of the first of them."""

    count: int = 0
    ids: Sequence[int] = ()


class SelectionChanged(ChangeRefused):
    """Others are selected now than the preview showed (rule S4): it was for `previewed`, and `found` are there.

    `came` and `left` are who; nobody when that cannot be told.
    """

    def __init__(self, message: str, *, previewed: int, found: int, came: Some | None = None, left: Some | None = None) -> None:
        super().__init__(message)
        self.previewed, self.found = previewed, found
        self.came, self.left = came or Some(), left or Some()


class ConfirmationNeeded(ChangeRefused):
    """The change touches more users than may go without typing their `number` (rule B11)."""

    def __init__(self, message: str, *, number: int) -> None:
        super().__init__(message)
        self.number = number


class SeatsShort(ChangeRefused):
    """There are too few seats (rule B9): `needs` has the products that lack some."""

    def __init__(self, message: str, *, needs: Sequence[SeatNeed]) -> None:
        super().__init__(message)
        self.needs = needs


def refuse_if_short(needs: Iterable[SeatNeed]) -> None:
    """Raise SeatsShort with the exact shortfall if there are too few seats for any of the needs."""
    short = [need for need in needs if need.missing]
    if not short:
        return
    names = dict(Product.objects.filter(id__in=[need.product_id for need in short]).values_list("id", "name"))
    sentences = [
        ngettext(
            "%(product)s: %(needed)s seat needed, %(free)s free, %(missing)s missing.",
            "%(product)s: %(needed)s seats needed, %(free)s free, %(missing)s missing.",
            need.needed,
        )
        % {
            "product": names[need.product_id],
            "needed": number_format(need.needed, force_grouping=True),
            "free": number_format(max(need.free, 0), force_grouping=True),
            "missing": number_format(need.missing, force_grouping=True),
        }
        for need in short
    ]
    raise SeatsShort(" ".join([_("There are not enough seats, so nothing was changed."), *sentences]), needs=short)
