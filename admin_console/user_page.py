"""What one user's page shows: who they are, what they hold, what ever happened to it, and what the reader may do."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import CharField, F, QuerySet, Value

from admin_console.templatetags.console import product_codes
from notifications.models import Notification
from notifications.queries import letters_of, retryable
from products.asof import granted_by
from products.models import AccessChange, Product
from products.queries import catalogue, may_see, timeline
from users.invitations import invitations_of
from users.models import AdminAction, Capability, User
from users.queries import can, changeable_by, grantable_roles, may_rename, visible_groups

PAGE_SIZE = 50


@dataclass(frozen=True)
class Held:
    """A product that the user holds, its mark, and the change that granted it last (None: there is no record of it)."""

    product: Product
    code: str
    since: AccessChange | None
    change_is_visible: bool


@dataclass(frozen=True)
class Event:
    """Something that happened to the user: what they hold was changed, or an email was owed to them."""

    at: datetime
    change: AccessChange | None = None
    letter: Notification | None = None
    granted: Sequence[str] = ()
    again: Sequence[str] = ()
    first: Sequence[str] = ()
    revoked: Sequence[str] = ()
    about: str = ""  # of a letter: the product it tells of
    change_is_visible: bool = False


class UserPage:
    """What the page of a user shows, each part asked for only when it is shown."""

    def __init__(self, actor: User, person: Any, *, now: datetime, page: str = "1") -> None:
        self.actor, self.person, self.now, self.number = actor, person, now, page

    @cached_property
    def products(self) -> list[Product]:
        return catalogue()

    @cached_property
    def groups(self) -> list[str]:
        """The paths of the user's groups that the actor may see."""
        own = set(self.person.memberships.values_list("group_id", flat=True))
        return [path for group, path in self._visible_groups if group in own]

    @property
    def manages(self) -> list[str]:
        """The paths of the groups that a Manager manages and that the actor may see."""
        managed = set(self.person.managed_groups.values_list("id", flat=True))
        return [path for group, path in self._visible_groups if group in managed]

    @property
    def may_manage(self) -> bool:
        """Whether the actor may put the user in other groups."""
        return can(self.actor, Capability.MANAGE_USERS) and not self.person.is_erased

    @property
    def may_rename(self) -> bool:
        """Whether the actor may correct what the user is called."""
        return may_rename(self.actor, self.person) and not self.person.is_erased

    @cached_property
    def held(self) -> list[Held]:
        """What the user holds, in the order of the catalogue."""
        codes, since = product_codes(self.products), granted_by(self.person)
        return [
            Held(product, codes[product.pk], row := since.get(product.pk), may_see(self.actor, row.change if row else None))
            for product in self.products
            if product.pk in self.person.product_access.products
        ]

    @property
    def console_access(self) -> bool:
        """Whether the user's role opens the console."""
        return bool(self.person.is_active and can(self.person, Capability.VIEW_USERS))

    @cached_property
    def may_edit(self) -> bool:
        """Whether the actor may set what the user holds."""
        return (
            can(self.actor, Capability.ASSIGN_PRODUCTS)
            and not self.person.is_erased
            and User.objects.filter(changeable_by(self.actor), pk=self.person.pk).exists()
        )

    @cached_property
    def invitations(self) -> list[AdminAction]:
        """Every invitation that was sent to the user, newest first."""
        return invitations_of(self.person)

    @property
    def may_invite(self) -> bool:
        """Whether the actor may send an invitation: to who may sign in and has chosen no password yet."""
        return can(self.actor, Capability.MANAGE_USERS) and self.person.is_active and not self.person.has_usable_password()

    @property
    def may_change_role(self) -> bool:
        """Whether the actor may give the user another role."""
        return self.person.role in grantable_roles(self.actor) and not self.person.is_erased

    @property
    def sees_emails(self) -> bool:
        """Whether the actor may look at the emails themselves."""
        return can(self.actor, Capability.VIEW_NOTIFICATIONS)

    @property
    def may_retry(self) -> bool:
        """Whether the actor may have failed emails tried again."""
        return can(self.actor, Capability.MANAGE_USERS)

    @property
    def may_erase(self) -> bool:
        """Whether the actor may erase the user, and there is something left to erase."""
        return can(self.actor, Capability.ERASE_USERS) and not self.person.is_erased

    @property
    def sees_evidence(self) -> bool:
        """Whether the actor may read the history in Django admin."""
        return can(self.actor, Capability.VIEW_EVIDENCE)

    @cached_property
    def events(self) -> Page[Any]:
        """One page of what happened, newest first: changes of what they hold, and emails."""
        page: Page[Any] = Paginator(_events(self.person), PAGE_SIZE).get_page(self.number)
        keys = list(page.object_list)
        rows = timeline(self.person).in_bulk([key for _at, what, key in keys if what == "change"])
        letters = letters_of(self.person).annotate(can_be_retried=retryable(self.now))
        owed = letters.in_bulk([key for _at, what, key in keys if what == "letter"])
        page.object_list = [self._changed(rows[key]) if what == "change" else self._owed(owed[key], at) for at, what, key in keys]
        return page

    def _changed(self, row: AccessChange) -> Event:
        return Event(
            at=row.at,
            change=row,
            granted=self._named(row.granted),
            first=self._named(row.first),
            again=self._named(product for product in row.granted if product not in row.first),
            revoked=self._named(row.revoked),
            change_is_visible=may_see(self.actor, row.change),
        )

    def _owed(self, letter: Notification, at: datetime) -> Event:
        about = self._named([letter.about])[0] if letter.kind == "ONBOARDING" else ""
        return Event(at=at, letter=letter, about=about)

    def _named(self, products: Any) -> list[str]:
        wanted = set(products)
        return [product.name for product in self.products if product.pk in wanted]

    @cached_property
    def _visible_groups(self) -> list[tuple[int, str]]:
        return visible_groups(self.actor)


def _events(person: User) -> QuerySet[Any, tuple[datetime, str, int]]:
    """Return (when, what, id) of all that happened to a user, newest first."""
    change, letter = Value("change", CharField()), Value("letter", CharField())
    changes = timeline(person).order_by().annotate(when=F("at"), what=change).values_list("when", "what", "id")
    letters = letters_of(person).order_by().annotate(when=F("owed_at"), what=letter).values_list("when", "what", "id")
    return changes.union(letters, all=True).order_by("-when", "what", "-id")
