"""The names behind a number of the preview in Manage products: one page of users, with what each holds now and afterwards."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.http import Http404
from django.utils.translation import gettext_lazy as _

from admin_console.forms import AffectedForm, ChoiceForm
from products.actions import check_intent
from products.previews import Affected, Number
from products.queries import product_names
from products.selection import Selection
from users.models import User
from users.typed import LAST_ID

PAGE_SIZE = 50
TITLES = {
    Number.CHANGED: _("Users who are changed"),
    Number.UNCHANGED: _("Users who stay as they are"),
    Number.SUSPENDING: _("Users who become Suspended"),
    Number.RESTORING: _("Users who come back"),
    Number.KEPT: _("Users who keep a product that this change leaves alone"),
    Number.OUTRANKING: _("Users who are skipped: their role is higher than yours"),
    Number.LEFT_OUT: _("Users who are left out for want of a seat"),
    Number.GAINS: _("Users who are granted %(product)s"),
    Number.LOSSES: _("Users from whom %(product)s is removed"),
    Number.CHANGE_EMAILS: _("Users who get an email about the change"),
    Number.ONBOARDING: _("Users who get the onboarding email of %(product)s"),
}


@dataclass(frozen=True)
class Row:
    """A user, and the names of the products that they hold now and would hold afterwards."""

    user: User
    now: Sequence[str]
    afterwards: Sequence[str]


class AffectedPage:
    """One page of the users behind a number, in the order in which they were added. Raises ChangeRefused, Http404."""

    def __init__(self, actor: User, form: AffectedForm, selection: Selection, *, now: datetime) -> None:
        self.form, self.number, self.names = form, Number(form.asked["number"]), product_names()
        product = form.asked["of"]
        if product and product not in self.names:
            raise Http404
        self.title = str(TITLES[self.number]) % {"product": self.names.get(product, "")}
        intent = check_intent(actor=actor, products=form.ticked, mode=form.asked_mode)
        self.affected = Affected(
            selection,
            actor=actor,
            mode=intent.mode,
            wanted=intent.wanted,
            preserved=intent.preserved,
            number=self.number,
            product=product,
            now=now,
            until_full=form.asked_until_full,
        )

    def load(self) -> None:
        """Read the rows, and see whether there are others before and after them."""
        after, before = self.form.asked["after"], self.form.asked["before"]
        if before is not None:
            found = list(self._users(0, before - 1).order_by("-id")[: PAGE_SIZE + 1])
        else:
            found = list(self._users((after or 0) + 1, LAST_ID).order_by("id")[: PAGE_SIZE + 1])
        more, found = len(found) > PAGE_SIZE, found[:PAGE_SIZE]
        users = found[::-1] if before is not None else found
        self.rows = [self._row(user) for user in users]
        self.previous = self._query(before=users[0].pk) if users and (after if before is None else more) else ""
        self.next = self._query(after=users[-1].pk) if users and (more if before is None else True) else ""

    @property
    def query(self) -> str:
        """The URL's query for all of them."""
        return self._query()

    @property
    def back(self) -> str:
        """The URL's query of the dialog with this choice."""
        return choice_query(self.form, shown=self.form.asked_mode, reason=self.form.asked["reason"])

    def _users(self, first: int, last: int) -> Any:
        return self.affected.users(first, last).select_related("product_access")

    def _row(self, user: User) -> Row:
        access = user.product_access
        return Row(user, self._named(access.products), self._named(self.affected.target(access)))

    def _named(self, products: Iterable[int]) -> list[str]:
        held = frozenset(products)
        return [name for product, name in self.names.items() if product in held]

    def _query(self, **place: int) -> str:
        return choice_query(self.form, number=self.number.value, of=self.form.asked["of"], **place)


def choice_query(form: ChoiceForm, **more: Any) -> str:
    """Return what was chosen, and for whom, as an URL's query; more of it when it is something."""
    asked = form.asked
    choice: dict[str, Any] = {
        "draft": asked.get("draft"),
        "user": [] if asked.get("draft") else asked.get("user"),
        "mode": form.asked_mode,
        "product": sorted(form.ticked),
        "until_full": "on" if form.asked_until_full else "",
        "quiet": "" if form.notify else "on",
        **more,
    }
    return urlencode({name: value for name, value in choice.items() if value}, doseq=True)
