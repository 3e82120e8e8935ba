"""On a user's page in Django admin: what they hold and why, what they held at a moment, and their timeline."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.timezone import now
from django.utils.translation import gettext_lazy as _

from products.asof import granted_by, held_at
from products.models import AccessChange
from products.queries import product_names, timeline
from products.selection import selection_in_words
from users.models import User, UserGroup
from users.moments import Moment, UnreadableMoment, zones
from users.reading_room import NOTHING, moment, page_link, person_link

SHOWN = 50  # rows of the history


def in_words(products: Iterable[int], names: Mapping[int, str]) -> SafeString:
    """Return the names of some products, in the order of the catalogue."""
    products = set(products)
    known = [name for product, name in names.items() if product in products]
    return format_html_join(", ", "{}", [(name,) for name in [*known, *(f"#{id}" for id in sorted(products - names.keys()))]])


def change_link(change_id: int | None) -> SafeString:
    """Return a link to a bulk change."""
    return NOTHING if change_id is None else page_link("products_bulkchange_change", f"#{change_id}", change_id)


def timeline_panel(request: HttpRequest, user: User) -> SafeString:
    """Return what a user holds now and held at the moment asked for, and the newest of their entitlement history."""
    names = product_names()
    rows = list(timeline(user).defer("actor__password")[: SHOWN + 1])
    everything = page_link("products_accesschange_changelist", _("Entitlement history of this user"), person=user.pk)
    held = held_at(user)
    context = {
        "as_of": AsOf(request, user, names),
        "held": in_words(held, names),
        "reasons": list(_reasons(user, held, names)),
        "person": user,
        "rows": [_told(row, names) for row in rows[:SHOWN]],
        "everything": everything,
        "is_cut": len(rows) > SHOWN,
        "shown": SHOWN,
    }
    return SafeString(render_to_string("admin/users/user/timeline.html", context, request))


def _reasons(user: User, held: Iterable[int], names: Mapping[int, str]) -> Iterator[dict[str, Any]]:
    """Yield for each product that a user holds the row that gave it, and how the user came into the selection of its change."""
    given, groups = granted_by(user), dict(UserGroup.objects.values_list("id", "name"))
    for product, name in names.items():
        if product in held and product in given:
            row = given[product]
            chosen = selection_in_words(row.change.selection, products=names, groups=groups) if row.change else ""
            yield {**_told(row, names), "product": name, "chosen": chosen}


def _told(row: AccessChange, names: Mapping[int, str]) -> dict[str, Any]:
    known = {row.actor_id: row.actor} if row.actor_id is not None and row.actor else {}
    return {
        "when": page_link("products_accesschange_change", moment(row.at), row.pk),
        "granted": in_words(row.granted, names),
        "revoked": in_words(row.revoked, names),
        "first": in_words(row.first, names),
        "by": person_link(row.actor_id, known, brief=True) if row.actor_id else row.get_source_display(),
        "change": change_link(row.change_id),
        "reason": row.change.reason if row.change_id and row.change else "",
    }


class AsOf:
    """The question of a small form, what a user held at a moment, and the answer once it is asked."""

    def __init__(self, request: HttpRequest, user: User, names: Mapping[int, str]) -> None:
        own_zone = getattr(request.user, "time_zone", "") or "UTC"
        self.text, self.zone = request.GET.get("as_of", "").strip(), request.GET.get("zone", "").strip() or own_zone
        self.zones = zones()
        self.problem, self.held = "", SafeString("")
        self.moment: Moment | None = None
        if not self.text:
            return
        try:
            self.moment = Moment.read(self.text, self.zone, now=now())
        except UnreadableMoment as error:
            self.problem = str(error)
        else:
            self.held = in_words(held_at(user, self.moment.at), names)
