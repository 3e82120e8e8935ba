"""What the pages of a moment show: what one user held then and why, and who held a product; gained and lost until another."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django.utils.timezone import get_current_timezone_name
from django.utils.translation import gettext as _

from admin_console.templatetags.console import product_codes
from products import asof
from products.asof import FoundPage, Question, What
from products.models import AccessChange, Product
from products.queries import catalogue, may_see
from products.selection import selection_in_words
from users.models import Capability, User, UserGroup
from users.moments import Moment, UnreadableMoment, zones
from users.plans import TookTooLong
from users.queries import can
from users.typed import LAST_ID, number

SHOWN = 200  # of what happened in between
PAGE_SIZE = 50


class Moments:
    """The moments that a URL asks about: `at` (now, when it says none) and perhaps `until`, in its `zone` or the reader's own."""

    def __init__(self, query: Mapping[str, str], *, now: datetime) -> None:
        self.texts = {name: query.get(name, "").strip()[:40] for name in ("at", "until")}
        self.zone = query.get("zone", "").strip()[:64] or get_current_timezone_name()
        self.now, self.problems = Moment(now.astimezone(UTC), ZoneInfo("UTC")), dict[str, str]()
        self.since, self.until = self._read("at", now) or self.now, self._read("until", now)
        if self.until and self.until.at <= self.since.at:
            self.problems["until"], self.until = _("The second moment has to come after the first one."), None

    @property
    def zones(self) -> list[str]:
        """The time zones to choose from."""
        return zones()

    @property
    def is_now(self) -> bool:
        """Whether no moment was named."""
        return self.since is self.now

    @property
    def asked(self) -> dict[str, str]:
        """The fields of the form that were filled in."""
        return {name: value for name, value in {**self.texts, "zone": self.zone}.items() if value}

    def _read(self, name: str, now: datetime) -> Moment | None:
        try:
            return Moment.read(self.texts[name], self.zone, now=now) if self.texts[name] else None
        except UnreadableMoment as error:
            self.problems[name] = str(error)
            return None


class Told:
    """A row of the history in words: who did it, by which change, why, and how the user came into its selection."""

    def __init__(self, row: AccessChange, page: "Page") -> None:
        self.row, self.change = row, row.change
        self.granted, self.removed = page.named(row.granted), page.named(row.revoked)
        self.change_is_visible = may_see(page.reader, self.change)
        self.chosen = ""
        if self.change is not None and self.change_is_visible:
            self.chosen = selection_in_words(self.change.selection, products=page.names, groups=page.groups)


class Page:
    """What both pages share: the reader, the moments, and the names that rows are told with."""

    def __init__(self, reader: User, moments: Moments) -> None:
        self.reader, self.moments = reader, moments

    @cached_property
    def products(self) -> list[Product]:
        """The catalogue."""
        return catalogue()

    @cached_property
    def names(self) -> dict[int, str]:
        """The name of each product."""
        return {product.pk: product.name for product in self.products}

    @cached_property
    def groups(self) -> dict[int, str]:
        """The name of each user group, for the filters of selections."""
        return dict(UserGroup.objects.values_list("id", "name"))

    @cached_property
    def codes(self) -> dict[int, str]:
        """The two letters of each product's mark."""
        return product_codes(self.products)

    @property
    def sees_evidence(self) -> bool:
        """Whether the reader may read the history in Django admin."""
        return can(self.reader, Capability.VIEW_EVIDENCE)

    def named(self, products: Iterable[int]) -> list[str]:
        """Return the names of some products, in the order of the catalogue."""
        wanted = set(products)
        return [name for product, name in self.names.items() if product in wanted]


@dataclass(frozen=True)
class Held:
    """A product that the user held, its mark, and what gave it (None: there is no record of it)."""

    product: Product
    code: str
    told: Told | None


class UserAsOf(Page):
    """What one user held at a moment and why; and what they gained and lost until another."""

    def __init__(self, reader: User, person: User, moments: Moments) -> None:
        super().__init__(reader, moments)
        self.person = person

    @cached_property
    def held(self) -> list[Held]:
        """What the user held, in the order of the catalogue, each with the change that gave it."""
        at = None if self.moments.is_now else self.moments.since.at
        held = set(asof.held_at(self.person, at))
        given = asof.granted_by(self.person, at)
        return [
            Held(product, self.codes[product.pk], Told(given[product.pk], self) if product.pk in given else None)
            for product in self.products
            if product.pk in held
        ]

    @cached_property
    def difference(self) -> Mapping[str, list[str]]:
        """The names of what the user gained and lost."""
        assert self.moments.until
        found = asof.difference(self.person, self.moments.since.at, self.moments.until.at)
        return {"gained": self.named(found.gained), "lost": self.named(found.lost)}

    @cached_property
    def between(self) -> Sequence[Told]:
        """What happened in between, newest first, up to `SHOWN`."""
        assert self.moments.until
        rows = asof.changes_between(self.person, self.moments.since.at, self.moments.until.at)
        return [Told(row, self) for row in rows.defer("actor__password")[:SHOWN]]

    @property
    def is_cut(self) -> bool:
        """Whether more happened than is shown."""
        return len(self.between) == SHOWN


class ProductAsOf(Page):
    """Who held a product at a moment, or gained or lost it until another: a page of them, in the order of their ids."""

    def __init__(self, reader: User, product: Product, moments: Moments, query: Mapping[str, str]) -> None:
        super().__init__(reader, moments)
        self.product = product
        asked = query.get("what", "")
        self.what = What(asked) if moments.until and asked in What else What.HELD
        self.after = number(query.get("after", ""), most=LAST_ID) or 0

    @property
    def question(self) -> Question:
        """What is asked of the history."""
        until = self.moments.until.at if self.moments.until and self.what != What.HELD else None
        return Question(product=self.product, reader=self.reader, since=self.moments.since.at, until=until, what=self.what)

    @property
    def choices(self) -> list[tuple[str, str, bool]]:
        """What can be asked: (label, the URL's query, whether it is what is shown)."""
        return [(str(what.label), self._query(what=what), what == self.what) for what in What]

    @cached_property
    def _found(self) -> FoundPage | None:
        try:
            return asof.found(self.question, after=self.after, size=PAGE_SIZE)
        except TookTooLong:
            return None

    @property
    def took_too_long(self) -> bool:
        """Whether the users were not found in time."""
        return self._found is None

    @cached_property
    def rows(self) -> Sequence[tuple[int, User | None, Told | None]]:
        """The users of this page: (id, who they are, what gave them the product or took it)."""
        found = self._found.rows if self._found else ()
        return [(each.user_id, each.user, Told(each.row, self) if each.row else None) for each in found]

    @property
    def next(self) -> str:
        """The URL's query of the next page, if there is one."""
        return self._query(after=self._found.next) if self._found and self._found.next is not None else ""

    @property
    def count(self) -> int | None:
        """How many there are, when this page alone tells."""
        return len(self.rows) if self._found and not self.after and not self.next else None

    @property
    def first(self) -> str:
        """The URL's query of the first page."""
        return self._query()

    @property
    def everybody(self) -> str:
        """The URL's query for the export and the count, which mean the very moment that the page was made for."""
        moments = {
            "at": self.moments.since.at.isoformat(),
            **({"until": self.moments.until.at.isoformat()} if self.moments.until else {}),
        }
        return self._query(**moments)

    def _query(self, **more: Any) -> str:
        return f"?{urlencode({**self.moments.asked, 'what': self.what.value, **more})}"


def file_name(page: ProductAsOf) -> str:
    """Return the name of the file of all users found: which product, what was asked, and of when."""
    moments = [page.question.since, page.question.until]
    times = "-".join(f"{at:%Y%m%dT%H%M%SZ}" for at in moments if at)
    return f"{page.product.code}-{page.what.value}-{times}.csv"
