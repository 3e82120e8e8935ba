"""The pages Notifications: what the URL of the list asks for, as one value, the emails that it shows, and one of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.db.models import Q
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy

from admin_console.finding import users_called
from admin_console.url_filter import DAYS, Choices, day_of, midnight, read
from notifications import actions, queries
from notifications.copies import Copy, NoCopyError, copy_of
from notifications.emails import KINDS
from notifications.message_ids import parts_of, without_seal
from notifications.models import RETRYABLE, Notification, State, Suppression
from notifications.queries import Counts, Filter, Page
from notifications.suppression import known, normalised
from products.emails import CHANGE, ONBOARDING
from products.mailing import about_product, onboarding_of
from products.models import BulkChange
from products.news import COURSES
from products.queries import product_names
from products.reports import history_of
from users.models import Capability, User
from users.plans import TookTooLong
from users.queries import can, visible_to
from users.typed import number

PAGE_SIZE = 50
MOST = actions.RETRIED_AT_ONCE
DUPLICATE = "DUPLICATE"

LABELS = {
    "search": gettext_lazy("Search"),
    "kind": pgettext_lazy("a message", "Email"),
    "state": gettext_lazy("State"),
    "language": gettext_lazy("Language"),
    "product": gettext_lazy("Product"),
    "change": gettext_lazy("Change"),
    "user": gettext_lazy("User"),
    "from": pgettext_lazy("start of a period", "From"),
    "to": pgettext_lazy("end of a period", "To"),
}
STATES = {
    "OPEN": gettext_lazy("Waiting"),
    "UNSENT": gettext_lazy("Not delivered"),
    DUPLICATE: gettext_lazy("Possible duplicate"),
}


class LetterChoices(Choices):
    """What emails may be filtered by."""

    def __init__(self) -> None:
        self.products = product_names()
        super().__init__(
            {
                "kind": [
                    (kind.name, str(kind.label)) for kind in sorted(KINDS.values(), key=lambda kind: (kind.lane, kind.name))
                ],
                "state": [(value, str(label)) for value, label in (*STATES.items(), *State.choices)],
                "language": list(settings.LANGUAGES),
                "product": [(str(product), name) for product, name in self.products.items()],
            }
        )


@dataclass(frozen=True)
class Row:
    """One email as the list shows it."""

    letter: Notification
    kind: str
    about: str  # what it is about, in words
    change: int | None  # the bulk change that it is about
    reader: User | None


class Letters:
    """The emails that the URL of the list asks for; what it says that cannot be is left out, and told in `problems`."""

    def __init__(self, query: Any, *, reader: User, now: datetime) -> None:
        self.reader, self.now, self.choices = reader, now, LetterChoices()
        self.values, self.problems = read(query, LABELS, self.choices, numbers=("change", "user"))
        self.before = number(query.get("before", "")) or 0

    @property
    def drop_downs(self) -> list[tuple[str, str, Sequence[tuple[str, str]], str]]:
        """(name, label, choices, what is chosen) of each."""
        return [(name, str(LABELS[name]), found, self.values.get(name, "")) for name, found in self.choices.by_name.items()]

    @property
    def days(self) -> list[tuple[str, str, str]]:
        """(name, label, value) of the first and the last day."""
        return [(name, str(LABELS[name]), self.values.get(name, "")) for name in DAYS]

    @property
    def chips(self) -> list[tuple[str, str, str]]:
        """(name, value in words, the query without it) of what is on."""
        return [(str(LABELS[name]), self._in_words(name, value), self.query(without=name)) for name, value in self.values.items()]

    def query(self, *, before: int = 0, without: str = "", **other: object) -> str:
        """Return the URL query, with the question mark, of this list from a place on, without a filter, or with another."""
        pairs = {name: value for name, value in self.values.items() if name != without} | other
        return f"?{urlencode(pairs | ({'before': before} if before else {}))}"

    @property
    def here(self) -> str:
        """The query of this page."""
        return self.query(before=self.before)

    @property
    def newest(self) -> str:
        """The query of the first page."""
        return self.query()

    @property
    def older(self) -> str:
        """The query of the next page; empty when there is none."""
        return self.query(before=self.page.older) if self.page.older else ""

    @cached_property
    def people(self) -> list[tuple[User, str]]:
        """The users whom the search may mean, when these are several, each with the query for their emails: say who."""
        several = self._called if len(self._called) > 1 else []
        return [(user, self.query(without="search", user=user.pk)) for user in several]

    @cached_property
    def page(self) -> Page:
        """The emails of this page."""
        if self._finds_nobody:
            return Page([], None, None)
        return queries.page(self._asked, before=self.before or None, size=PAGE_SIZE)

    @cached_property
    def rows(self) -> list[Row]:
        """The emails of this page as they are shown."""
        letters = self.page.letters
        readers = visible_to(self.reader).only("email", "first_name", "last_name").in_bulk([n.user_id for n in letters])
        return [described(letter, self.choices.products, readers.get(letter.user_id)) for letter in letters]

    @cached_property
    def counted(self) -> list[tuple[str, str, int, str, bool]]:
        """(tone, label, how many, query, whether it is on) of each state of these emails, whichever state is asked for."""
        found = {} if self._finds_nobody else self._counts.by_state
        rows = [("", _("All"), sum(found.values()), self.query(without="state"), "state" not in self.values)]
        for state in [state for state in State if state in found]:
            tone = {State.SENT: "good", State.NEEDLESS: ""}.get(state, "bad" if state in RETRYABLE else "info")
            rows.append((tone, str(state.label), found[state], self.query(state=state.value), self.values.get("state") == state))
        return rows

    @property
    def looked_at(self) -> int:
        """How many emails are counted at most."""
        return queries.LOOKED_AT

    @property
    def count_is_cut(self) -> bool:
        """Whether only the newest of these emails were counted."""
        return not self._finds_nobody and self._counts.is_cut

    @cached_property
    def retryable(self) -> int:
        """How many of them the reader may have tried again, at most so many as are tried at once."""
        if self._finds_nobody or not self.may_act:
            return 0
        return queries.filtered(self._asked).filter(queries.retryable(self.now))[: MOST + 1].count()

    @property
    def retried_at_once(self) -> int:
        """How many of them are tried again by one click."""
        return min(self.retryable, MOST)

    @property
    def may_act(self) -> bool:
        """Whether the reader may try emails again and release addresses."""
        return can(self.reader, Capability.MANAGE_USERS)

    def retry(self) -> int:
        """Try again what failed among these emails; return how many. Raises PermissionDenied."""
        if self._finds_nobody:
            return 0
        return actions.retry_all(actor=self.reader, found=queries.filtered(self._asked), now=self.now)

    @cached_property
    def _asked(self) -> Filter:
        values, state = self.values, self.values.get("state", "")
        asked = Filter(
            kind=values.get("kind", ""),
            state="" if state == DUPLICATE else state,
            language=values.get("language", ""),
            user=number(values.get("user", "")) or (self._called[0].pk if self._called else None),
            since=midnight(day_of(values.get("from", ""))),
            until=midnight(day_of(values.get("to", "")), days=1),
            possible_duplicates=state == DUPLICATE,
            message_id=values["search"] if self._is_message_id else "",
        )
        if "product" in values:
            asked = replace(asked, also=about_product(int(values["product"])))
        return self._those_of(self._of_change, asked) if self._of_change else asked

    def _those_of(self, change: BulkChange, asked: Filter) -> Filter:
        """Return the filter for the emails of a change: those that tell of it, or the onboarding emails that it owed."""
        if asked.kind in ("", CHANGE):
            return replace(asked, change=change.pk)
        if asked.kind != ONBOARDING:
            return replace(asked, also=asked.also & Q(kind__in=COURSES, about=change.pk))
        since, until = history_of(change, now=change.finished_at or self.now)
        also = asked.also & onboarding_of(change)
        return replace(asked, also=also, since=max(asked.since or since, since), until=min(asked.until or until, until))

    @cached_property
    def _counts(self) -> Counts:
        return queries.counts(replace(self._asked, state="", possible_duplicates=False))

    @cached_property
    def _of_change(self) -> BulkChange | None:
        change_id = number(self.values.get("change", ""))
        return BulkChange.objects.filter(pk=change_id).first() if change_id else None

    @property
    def _is_message_id(self) -> bool:
        return parts_of(self.values.get("search", "")) is not None

    @cached_property
    def _called(self) -> Sequence[User]:
        """The users whom the search finds, the one of that email first of all."""
        text = self.values.get("search", "")
        if not text or self._is_message_id:
            return []
        if found := visible_to(self.reader).filter(email=text.lower()).first():
            return [found]
        try:
            return users_called(self.reader, text, self.now)
        except TookTooLong:
            self.problems.append(_("Too many users to look through. Please type more letters."))
            return []

    @property
    def _finds_nobody(self) -> bool:
        """Whether the search finds no single user whose emails there could be, or there is no such change."""
        searched = "search" in self.values and not self._is_message_id
        return (searched and len(self._called) != 1) or ("change" in self.values and self._of_change is None)

    def _in_words(self, name: str, value: str) -> str:
        if name in self.choices.by_name:
            return self.choices.label(name, value) or value
        if name == "change":
            return f"#{number(value)}"
        if name == "user":
            user = visible_to(self.reader).filter(pk=number(value) or 0).first()
            return user.name if user else value
        return value


class Letter:
    """One email: what became of it, and what it said, each asked for only when it is shown."""

    def __init__(self, letter: Notification, *, reader: User) -> None:
        self.row = described(letter, product_names(), visible_to(reader).filter(pk=letter.user_id).first())
        self.letter, self.reader = letter, reader

    @property
    def language(self) -> str:
        """The language that it is written in."""
        return dict(settings.LANGUAGES).get(self.letter.language, self.letter.language)

    @property
    def message_id(self) -> str:
        """Its Message-ID, without the seal."""
        return without_seal(self.letter.message_id)

    @cached_property
    def told_by(self) -> Notification | None:
        """The email that told what this one would have told."""
        return Notification.objects.filter(pk=self.letter.told_by_id).first() if self.letter.told_by_id else None

    @cached_property
    def also_tells(self) -> list[int]:
        """What else it tells of: the bulk changes of the emails that it took the place of."""
        told = queries.told_in([self.letter])[self.letter.pk] if self.row.change and not self.letter.told_by_id else []
        return sorted(set(told) - {self.letter.about})

    @cached_property
    def suppression(self) -> Suppression | None:
        """Why nobody writes to its reader any more."""
        address = self.letter.to_address or (self.row.reader.email if self.row.reader else "")
        found = known([address]).get(normalised(address)) if address else None
        return found if found and found.since else None

    @cached_property
    def copy(self) -> Copy | None:
        """What it said, None when that cannot be told."""
        try:
            return copy_of(self.letter)
        except NoCopyError as error:
            self.no_copy = str(error)
            return None

    @property
    def may_act(self) -> bool:
        """Whether the reader may try it again and release its address."""
        return can(self.reader, Capability.MANAGE_USERS)


def described(letter: Notification, products: Mapping[int, str], reader: User | None) -> Row:
    """Return an email with its kind and what it is about in words."""
    kind = KINDS.get(letter.kind)
    change = letter.about if letter.kind in (CHANGE, *COURSES) else None
    about = products.get(letter.about, "") if letter.kind == ONBOARDING else ""
    return Row(letter, str(kind.label) if kind else letter.kind, about, change, reader)
