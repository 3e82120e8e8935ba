"""Which users: one frozen value with one meaning. List, count, export, preview and bulk change all resolve it here (rule S1)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from django.conf import settings
from django.core.exceptions import EmptyResultSet
from django.db.models import Count, Model, Q, QuerySet
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from notifications.phrases import alternatives, labelled, quoted
from products.models import AccessChange, ProductAccess, SelectionDraft
from users.models import Role, User
from users.plans import SWEEP, planned
from users.queries import Status, UserFilter, accesses_matching, memberships_matching, scope_of, users_matching, visible_to


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Ticked users (`ids`), or everyone the filter and search find, minus `ids`, the ones unticked since.

    For an undo: everyone whom the change `undoes` changed.
    """

    everyone: bool = False
    filter: UserFilter = field(default_factory=UserFilter)
    ids: tuple[int, ...] = ()
    draft: str = ""  # the id of the draft it was read from
    undoes: int | None = None
    dropped: int = 0  # so many more it changed, whose history was dropped

    def users(self, actor: Any, *, now: datetime) -> QuerySet[User]:
        """Return the selected users within the actor's scope, whatever was posted (rule S3)."""
        return self._within(visible_to(actor), users_matching, "id", now=now)

    def accesses(self, actor: Any, *, now: datetime) -> QuerySet[ProductAccess]:
        """Return the product access of the selected users: narrow rows, which know most of what a filter asks for."""
        return self._within(ProductAccess.objects.filter(scope_of(actor)), accesses_matching, "user__id", now=now)

    def _within[Row: Model](
        self, rows: QuerySet[Row], matching: Callable[..., QuerySet[Row]], user_id: str, *, now: datetime
    ) -> QuerySet[Row]:
        among = Q((f"{user_id}__any", list(self.ids)))
        if self.undoes is not None:
            return rows.filter(pk__in=AccessChange.objects.filter(change=self.undoes).values("user"))
        if not self.everyone:
            return rows.filter(among)
        rows = matching(rows, self.filter, now=now)
        return rows.exclude(among) if self.ids else rows

    def count(self, actor: Any, *, now: datetime) -> int:
        """Return how many users are selected, asking no more tables than need be. Raises users.plans.TookTooLong."""
        narrow = self.everyone and (self.filter.product or self.filter.status)
        rows: QuerySet[Any] = self.accesses(actor, now=now) if narrow else self.users(actor, now=now)
        memberships = memberships_matching(actor, self.filter) if self.everyone and not self.ids else None
        with planned(SWEEP):
            if memberships is not None:
                return int(memberships.aggregate(users=Count("user", distinct=True))["users"])
            return rows.order_by().count()

    def ticked_of(self, user_ids: Iterable[int], actor: Any, *, now: datetime) -> set[int]:
        """Return which of these users, whom the actor sees on one page, are selected."""
        if not self.everyone:
            return set(self.ids).intersection(user_ids)
        return set(self.users(actor, now=now).filter(id__in=list(user_ids)).values_list("id", flat=True))

    def as_json(self) -> dict[str, Any]:
        """Return the selection's description for the record: the filter, or how many were ticked; ids are frozen in batches."""
        if self.undoes is not None:
            return {"undoes": self.undoes, **({"dropped": self.dropped} if self.dropped else {})}
        if self.everyone:
            return {"everyone": True, "filter": self.filter.as_dict(), "unticked": len(self.ids)}
        return {"everyone": False, "ticked": len(self.ids)}

    def as_asked(self) -> Any:
        """Return what a form asks for: a draft by its id (it is emptied once applied), or the selection itself."""
        return self.draft or self.undoes or [self.everyone, self.filter.as_dict(), self.ids]

    @classmethod
    def of_draft(cls, draft: SelectionDraft) -> Self:
        """Return the selection that a draft holds."""
        wanted = UserFilter.from_query(draft.filter)
        return cls(everyone=draft.everyone, filter=wanted, ids=tuple(draft.ids), draft=str(draft.pk))

    @classmethod
    def of(cls, user_ids: Iterable[int]) -> Self:
        """Return the selection of these users."""
        return cls(ids=tuple(sorted(set(user_ids))))


def selection_in_words(selection: Mapping[str, Any], *, products: Mapping[int, str], groups: Mapping[int, str]) -> str:
    """Return whom a bulk change was for, as it was asked: “5 ticked users”, “everyone with role: Manager, except 2”."""
    if undone := selection.get("undoes"):
        return _("everyone whom change #%(number)s changed") % {"number": undone}
    if not selection.get("everyone"):
        ticked = selection.get("ticked", 0)
        return ngettext("%(number)s ticked user", "%(number)s ticked users", ticked) % {
            "number": number_format(ticked, force_grouping=True)
        }
    labels: dict[str, tuple[str, Mapping[Any, Any]]] = {
        "group": (_("user group"), {**{str(pk): name for pk, name in groups.items()}, "0": _("none")}),
        "role": (_("role"), dict(Role.choices)),
        "status": (_("status"), dict(Status.choices)),
        "product": (_("product"), {**{str(pk): name for pk, name in products.items()}, "0": _("none")}),
        "language": (_("language"), dict(settings.LANGUAGES)),
    }
    wanted = selection.get("filter", {})
    narrowed = [labelled(_("search"), quoted(" ".join(wanted["search"])))] if wanted.get("search") else []
    for category, (label, known) in labels.items():
        if values := wanted.get(category):
            narrowed.append(labelled(label, alternatives([str(known.get(value) or gone(value)) for value in values])))
    return everyone_in_words(narrowed, unticked=selection.get("unticked", 0))


def gone(value: str) -> str:
    """Return what a group is called that a filter names and that was deleted since."""
    return _("deleted (#%(number)s)") % {"number": value}


def everyone_in_words(narrowed: Sequence[str], *, unticked: int) -> str:
    """Return whom “Select all” took: everyone, or those with what was asked for, and except how many."""
    if narrowed and unticked:
        words = ngettext(
            "everyone with %(narrowed)s, except %(number)s", "everyone with %(narrowed)s, except %(number)s", unticked
        )
    elif narrowed:
        words = _("everyone with %(narrowed)s")
    elif unticked:
        words = ngettext("everyone, except %(number)s", "everyone, except %(number)s", unticked)
    else:
        words = _("everyone")
    return words % {"narrowed": ", ".join(narrowed), "number": number_format(unticked, force_grouping=True)}


def as_sql(users: QuerySet[Any, Any]) -> tuple[str, tuple[Any, ...]]:
    """Return a queryset of ids as SQL with its parameters, to be part of a larger statement."""
    try:
        sql, params = users.query.sql_with_params()
    except EmptyResultSet:
        return "SELECT NULL::integer AS id WHERE false", ()
    return sql, tuple(params)
