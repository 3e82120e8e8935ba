"""The list on the page Changes: what its URL asks for, as one frozen value, and the words for each bulk change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlencode

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy

from admin_console.url_filter import Choices, day_of, midnight, read
from products.models import BulkChange, Mode
from products.queries import product_names
from products.reports import ChangeFilter, Kind, acting_admins
from users.models import Capability, User
from users.queries import can
from users.typed import number

LABELS = {
    "search": gettext_lazy("Search"),
    "actor": gettext_lazy("Admin"),
    "kind": gettext_lazy("Kind"),
    "state": gettext_lazy("State"),
    "product": gettext_lazy("Product"),
    "from": pgettext_lazy("start of a period", "From"),
    "to": pgettext_lazy("end of a period", "To"),
}


class ChangeChoices(Choices):
    """What changes may be filtered by; who sees their own changes only has no admins to choose from."""

    def __init__(self, reader: User) -> None:
        self.names = product_names()
        admins = acting_admins() if can(reader, Capability.VIEW_CHANGES) else []
        super().__init__(
            {
                "actor": [(str(admin.pk), admin.name) for admin in admins],
                "kind": [(value, str(label)) for value, label in Kind.choices],
                "state": [(value, str(label)) for value, label in BulkChange.State.choices],
                "product": [(str(product), name) for product, name in self.names.items()],
            }
        )


@dataclass(frozen=True, kw_only=True)
class Activity:
    """What the URL of the list says: filters and search, where the page begins; and what it said that could not be."""

    values: Mapping[str, str] = field(default_factory=dict)  # by the names of LABELS, without empty ones
    before: int = 0
    problems: Sequence[str] = ()

    @classmethod
    def from_query(cls, query: Any, choices: Choices) -> Self:
        """Read a QueryDict. A value that cannot be is left out, and said so in `problems`."""
        values, problems = read(query, LABELS, choices)
        return cls(values=values, before=number(query.get("before", "")) or 0, problems=problems)

    @property
    def wanted(self) -> ChangeFilter:
        """What narrows the list down. Days are those of the reader's time zone, the last one included."""
        values = self.values
        return ChangeFilter(
            search=values.get("search", ""),
            actor=int(values["actor"]) if "actor" in values else None,
            kind=values.get("kind", ""),
            state=values.get("state", ""),
            product=int(values["product"]) if "product" in values else None,
            since=midnight(day_of(values.get("from", ""))),
            until=midnight(day_of(values.get("to", "")), days=1),
        )

    def query(self, *, before: int = 0, without: str = "") -> str:
        """Return the URL query, with the question mark, of this list from a place on, or without one of its filters."""
        pairs = [(name, value) for name, value in self.values.items() if name != without]
        return f"?{urlencode([*pairs, ('before', before)] if before else pairs)}"

    def chips(self, choices: Choices) -> list[tuple[str, str, str]]:
        """Return (name, value in words, the query without it) of what is on."""
        words = {name: choices.label(name, value) or value for name, value in self.values.items() if name in choices.by_name}
        return [(str(LABELS[name]), words.get(name, value), self.query(without=name)) for name, value in self.values.items()]


def what(made: BulkChange, names: Mapping[int, str]) -> str:
    """Return what a change does, in words: “Add GoTo Meeting, Rescue”, “Undo #7”."""
    if made.mode == Mode.UNDO:
        return _("Undo #%(number)s") % {"number": made.undoes_id}
    products = ", ".join(name for product, name in names.items() if product in made.products)
    if products:
        words = {Mode.REPLACE: _("Set to %(products)s"), Mode.ADD: _("Add %(products)s"), Mode.REMOVE: _("Remove %(products)s")}
    else:
        words = {Mode.REPLACE: _("Remove all products"), Mode.ADD: _("Add no product"), Mode.REMOVE: _("Remove no product")}
    return words[Mode(made.mode)] % {"products": products}
