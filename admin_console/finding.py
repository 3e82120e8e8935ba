"""What the palette finds within the reader's scope: people, user groups, products, a change by its number, pages and actions."""

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.template import Context
from django.urls import reverse
from django.utils.translation import gettext as _

from admin_console.found_users import Found, page_of
from admin_console.templatetags.console import navigation
from admin_console.user_order import order_of
from products.models import SelectionDraft
from products.queries import catalogue, selection_draft, visible_changes
from users.models import Capability, User
from users.plans import TookTooLong
from users.queries import UserFilter, can, visible_groups
from users.typed import number

MOST = 6  # of one kind


@dataclass(frozen=True)
class Hit:
    """One thing that was found, and where it leads."""

    icon: str
    label: str
    url: str
    detail: str = ""


@dataclass(frozen=True)
class Kind:
    """What was found of one kind; if it could not be looked for, why."""

    title: str
    hits: list[Hit]
    problem: str = ""


def find(request: Any, text: str, *, now: datetime) -> list[Kind]:
    """Return what the text finds for the reader, by kind; of none, the pages and actions. The number of queries is constant."""
    reader = request.user
    kinds = [*_of_the_organisation(reader, text, now)] if text and can(reader, Capability.VIEW_USERS) else []
    pages = [Hit("next", link.label, link.url) for link in navigation(Context({"request": request}))]
    pages.append(Hit("user", _("My products"), reverse("me")))
    kinds += [Kind(_("Pages"), _matching(pages, text)), Kind(_("Actions"), _matching(_actions(reader, now), text))]
    return [kind for kind in kinds if kind.hits or kind.problem]


def _of_the_organisation(reader: User, text: str, now: datetime) -> Iterator[Kind]:
    if (change_id := number(text)) is not None:
        changes = visible_changes(reader).filter(pk=change_id).values_list("pk", flat=True)
        yield Kind(_("Changes"), [Hit("history", _change(pk), reverse("change", args=[pk])) for pk in changes])
    try:
        users = [Hit("user", each.name, reverse("user", args=[each.pk]), each.email) for each in users_called(reader, text, now)]
        yield Kind(_("Users"), users)
    except TookTooLong:
        yield Kind(_("Users"), [], _("Too many to look through. Please type more letters."))
    groups = [_group(group, path) for group, path in visible_groups(reader) if has_words(path, text)]
    yield Kind(_("User groups"), groups[:MOST])
    products = [Hit("products", each.name, reverse("product", args=[each.pk])) for each in catalogue()]
    yield Kind(_("Products"), _matching(products, text))


def _group(group: int, path: str) -> Hit:
    above, _slash, name = path.rpartition(" / ")
    return Hit("users", name, f"{reverse('manage_users')}?{urlencode({'group': group})}", above)


def _change(number: int) -> str:
    return _("Change #%(number)s") % {"number": number}


def users_called(reader: User, text: str, now: datetime) -> list[User]:
    """Return the first users by name whom the list would find. Raises TookTooLong."""
    wanted = UserFilter.from_query({"search": [text]})
    order = order_of("name", wanted, [], ungrouped=True, most_products=0, now=now)
    places, _more = page_of(Found(reader, wanted, now), order, size=MOST)
    users = User.objects.only("first_name", "last_name", "email").in_bulk([place.id for place in places])
    return [users[place.id] for place in places if place.id in users]


def _actions(reader: User, now: datetime) -> list[Hit]:
    actions = []
    if can(reader, Capability.ASSIGN_PRODUCTS) and _is_somebody(draft := selection_draft(reader, now=now)):
        dialog = f"{reverse('manage_products')}?{urlencode({'draft': draft.pk})}"
        actions.append(Hit("products", _("Manage products"), dialog, _("for the selected users")))
    if can(reader, Capability.MANAGE_USERS):
        actions.append(Hit("plus", _("Add user"), reverse("add_user")))
        actions.append(Hit("plus", _("Add group"), reverse("add_group")))
    if can(reader, Capability.MANAGE_CATALOGUE):
        actions.append(Hit("plus", _("Add product"), reverse("add_product")))
    return [*actions, Hit("info", _("Keyboard shortcuts"), reverse("shortcuts"))]


def _is_somebody(draft: SelectionDraft) -> bool:
    return draft.everyone or bool(draft.ids)


def _matching(hits: Iterable[Hit], text: str) -> list[Hit]:
    """Return the first hits whose label has every word of the text."""
    return [hit for hit in hits if has_words(hit.label, text)][: MOST if text else None]


def has_words(label: str, text: str) -> bool:
    """Return whether a label has every word of the text, whatever its capitals and accents."""
    folded = _folded(label)
    return all(word in folded for word in _folded(text).split())


def _folded(text: str) -> str:
    letters = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))
