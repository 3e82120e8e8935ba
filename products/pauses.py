"""Why a bulk change paused by itself: stored as a cause and the words of others, told in the language of whoever reads it."""

from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from products.models import BulkChange

Cause = BulkChange.Cause


@dataclass(frozen=True)
class Pause:
    """A cause, and what there is to tell of it."""

    cause: str  # a Cause; empty: `words` say it all, as an earlier version of the console wrote them
    words: str  # the database's, or a product's name
    admin: str = ""  # whose change it is
    failures: int = 0  # batches, of those that were `frozen`
    frozen: int = 0

    def __str__(self) -> str:
        """Return the reason in the language that is active."""
        match self.cause:
            case Cause.NOT_ALLOWED:
                return _("%(name)s may no longer set products.") % {"name": self.admin}
            case Cause.OUT_OF_REACH:
                return _("%(name)s may no longer grant or remove %(product)s.") % {"name": self.admin, "product": self.words}
            case Cause.DISK_FULL:
                return _("The database has no room left: %(words)s") % {"words": self.words}
            case Cause.BATCHES_FAILED:
                return ngettext(
                    "%(failures)s of %(frozen)s batch failed. The database said: %(words)s",
                    "%(failures)s of %(frozen)s batches failed. The database said: %(words)s",
                    self.frozen,
                ) % {"failures": self.failures, "frozen": self.frozen, "words": self.words}
        return self.words


def pause_of(change: BulkChange) -> Pause | None:
    """Return why a change paused by itself; None when it did not, or was resumed. One more query when batches failed."""
    if not (change.state_cause or change.state_reason):
        return None
    frozen = change.batches.filter(depth=0).count() if change.state_cause == Cause.BATCHES_FAILED else 0
    return Pause(change.state_cause, change.state_reason, str(change.actor or ""), change.failures, frozen)
