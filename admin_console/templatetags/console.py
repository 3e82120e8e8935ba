"""What every template of the console may use: icons, marks, avatars, numbers, and the navigation."""

from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from functools import cache, lru_cache
from math import ceil
from typing import Any, NamedTuple

from django import template
from django.conf import settings
from django.templatetags.static import static
from django.urls import reverse
from django.utils.formats import date_format, number_format, time_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import localtime, now
from django.utils.translation import get_language, ngettext, pgettext
from django.utils.translation import gettext as _

from admin_console.languages import offered
from admin_console.notices import Notice, from_messages, kept, new
from admin_console.strip import Strip
from notifications.queries import backlog
from products.models import Product
from users.models import Capability, User
from users.queries import Status, can

register = template.Library()
THEMES = ("light", "dark")
DAY = 24 * 60 * 60
HUES = 12  # as many as css/tokens.css has


class Link(NamedTuple):
    """One entry of the navigation."""

    label: str
    url: str
    current: bool


@register.simple_tag
@cache  # forty on a page, and the address of the sprite is worked out for each
def icon(name: str) -> SafeString:
    """Return an icon of static/img/icons.svg; it says nothing to a screen reader, so the words beside it must."""
    return format_html('<svg class="icon" aria-hidden="true"><use href="{}#{}"></use></svg>', static("img/icons.svg"), name)


@register.simple_tag(takes_context=True)
def theme(context: template.Context) -> str:
    """Return the theme that the reader chose, `light` or `dark`, or nothing to follow the system."""
    request = context.get("request")
    chosen = request.COOKIES.get("theme", "") if request else ""
    return chosen if chosen in THEMES else ""


@register.simple_tag
def languages() -> dict[str, str]:
    """Return the languages that one may choose, by code, each by its own name."""
    return offered()


@register.simple_tag(takes_context=True)
def navigation(context: template.Context) -> list[Link]:
    """Return the pages that the reader may open, the current one marked."""
    request = context["request"]
    pages = [
        (_("Manage users"), "manage_users", can(request.user, Capability.VIEW_USERS)),
        (_("User groups"), "groups", can(request.user, Capability.MANAGE_USERS)),
        (_("Products"), "products", can(request.user, Capability.VIEW_USERS)),
        (_("Changes"), "changes", can(request.user, Capability.VIEW_USERS)),
        (_("Notifications"), "notifications", can(request.user, Capability.VIEW_NOTIFICATIONS)),
        (_("Emails"), "email_texts", can(request.user, Capability.CUSTOMISE_EMAILS)),
        (_("Test inbox"), "test_inbox", settings.MAIL_SINK and can(request.user, Capability.VIEW_NOTIFICATIONS)),
        (_("Entitlement history"), "admin:products_accesschange_changelist", can(request.user, Capability.VIEW_EVIDENCE)),
    ]
    found = [(label, reverse(name)) for label, name, allowed in pages if allowed]
    return [Link(label, url, request.path.startswith(url)) for label, url in found]


@register.simple_tag(takes_context=True)
def running_changes(context: template.Context) -> Strip:
    """Return the bulk changes that run now, and the news of those that ended since; once for each page."""
    return Strip(context["request"])


@register.simple_tag(takes_context=True)
def told(context: template.Context) -> list[Notice]:
    """Return what the page before left to tell on this one."""
    return from_messages(context["request"])


@register.inclusion_tag("components/notices.html", takes_context=True)
def notices(context: template.Context) -> dict[str, Any]:
    """Show the button of what was told lately, and the list behind it."""
    return {"notices": kept(context["request"]), "new": new(context["request"])}


@register.simple_tag(takes_context=True)
def new_notices(context: template.Context) -> int:
    """Return how many notices the reader has not looked at."""
    return new(context["request"])


@register.inclusion_tag("components/banners.html", takes_context=True)
def banners(context: template.Context, strip: Strip) -> dict[str, Any]:
    """Show what whoever opens the console should know: emails that are late, changes that are running."""
    if not can(context["request"].user, Capability.VIEW_USERS):
        return {}
    sees_emails = can(context["request"].user, Capability.VIEW_NOTIFICATIONS)
    return {"backlog": backlog(now()), "sees_emails": sees_emails, "strip": strip}


@register.simple_tag(takes_context=True)
def allowed(context: template.Context, capability: str) -> bool:
    """Return whether the reader's role includes the capability, e.g. {% allowed "products.assign" as may_assign %}."""
    return can(context["request"].user, Capability(capability))


@register.filter
def status_label(status: str) -> str:
    """Return the word for a status."""
    return str(Status(status).label)


@register.simple_tag
def avatar(user: User, *, large: bool = False) -> SafeString:
    """Return the initials of a user in a coloured circle; their name stands beside it, so it says nothing to a screen reader."""
    size = " avatar-large" if large else ""
    return format_html('<span class="avatar {}{}" aria-hidden="true">{}</span>', hue(user.pk), size, initials(user))


SHOWN = 5  # products of one user, before they are only counted


def product_marks(products: Sequence[tuple[str, Product]], *, hollow: bool) -> SafeString:
    """Return the products, each with its code, as marks; `hollow` for who never signed in. Their names are read out."""
    if not products:
        return dash(_("No product"))
    names = [product.name for _code, product in products]
    marks = [_mark(hue(each.pk), code, each.name, hollow) for code, each in products[:SHOWN]]
    if rest := names[SHOWN:]:
        marks.append(_mark("mark-more", f"+{len(rest)}", ", ".join(rest), hollow))
    # One element a mark: a list of fifty users has hundreds of them.
    return format_html('<span class="marks" role="img" aria-label="{}">{}</span>', ", ".join(names), SafeString("".join(marks)))


@lru_cache(maxsize=1_000)
def _mark(style: str, code: str, name: str, hollow: bool) -> SafeString:
    return format_html('<span class="mark {}{}" title="{}">{}</span>', style, " mark-hollow" * hollow, name, code)


@register.simple_tag
def dash(words: str) -> SafeString:
    """Return a dash that is read out as these words."""
    return format_html('<span class="faint" aria-hidden="true">–</span><span class="visually-hidden">{}</span>', words)


@register.filter
def moment(at: datetime | None) -> SafeString:
    """Return how long ago something happened, with the exact time in reach (css/badges.css); nothing for what never did."""
    if at is None:
        return SafeString()
    local = localtime(at)
    language = get_language()
    exact = f"{_date(local.date(), language)}, {_time(local.time().replace(second=0, microsecond=0), language)}"
    parts = local.isoformat(timespec="seconds"), ago(at), exact
    return format_html('<time datetime="{}" tabindex="-1">{} <span class="exact">{}</span></time>', *parts)


@register.filter
def initials(user: User) -> str:
    """Return one or two letters for the avatar of a user."""
    names = [name for name in (user.first_name.strip(), user.last_name.strip()) if name] or [user.email]
    return "".join(name[0] for name in names).upper()


@register.filter
def hue(number: int) -> str:
    """Return the CSS class of the colour for a number."""
    return f"hue-{number % HUES}"


@register.filter
def ago(moment: datetime | None) -> str:
    """Return how long ago something happened in a word or two; a date when it is more than four weeks."""
    if moment is None:
        return ""
    age = int((now() - moment).total_seconds())
    if age < 60:
        return _("just now")
    if age >= 28 * DAY:
        return _short_date(localtime(moment).date(), get_language())
    unit = next(seconds for seconds in AGO if age >= seconds)
    return AGO[unit](age // unit)


# Whole phrases: “3 days” alone is not what follows “vor” in German.
AGO: dict[int, Callable[[int], str]] = {
    7 * DAY: lambda number: ngettext("%(number)s week ago", "%(number)s weeks ago", number) % {"number": number},
    DAY: lambda number: ngettext("%(number)s day ago", "%(number)s days ago", number) % {"number": number},
    60 * 60: lambda number: ngettext("%(number)s hour ago", "%(number)s hours ago", number) % {"number": number},
    60: lambda number: ngettext("%(number)s minute ago", "%(number)s minutes ago", number) % {"number": number},
}


# Fifty rows on every page tell times: the words for one are kept, by the language that is active then.


@lru_cache(maxsize=5_000)
def _date(day: date, _language: str | None) -> str:
    return date_format(day, "DATE_FORMAT")


@lru_cache(maxsize=5_000)
def _short_date(day: date, _language: str | None) -> str:
    # Translators: how a date is written where there is little room, in the letters of Django's filter `date`; M is “Nov”.
    return date_format(day, pgettext("a short date", "M j, Y"))


@lru_cache(maxsize=24 * 60)
def _time(minute: time, _language: str | None) -> str:
    return time_format(minute, "TIME_FORMAT")


@register.filter
def duration(seconds: float) -> str:
    """Return how long something took: “< 0.1 s”, “0.4 s”, “12 s”, “3 min 20 s”, “1 h 5 min”."""
    if seconds < 0.05:
        return _("%(seconds)s s") % {"seconds": f"< {number_format(0.1, 1)}"}
    if seconds < 9.95:
        return _("%(seconds)s s") % {"seconds": number_format(round(seconds, 1), 1)}
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return _("%(seconds)s s") % {"seconds": rest}
    if minutes < 60:
        return _("%(minutes)s min %(seconds)s s") % {"minutes": minutes, "seconds": rest}
    return _("%(hours)s h %(minutes)s min") % {"hours": minutes // 60, "minutes": minutes % 60}


@register.filter
def time_left(seconds: float) -> str:
    """Return how long something still takes, no more exactly than that can be told: “5 s”, “40 s”, “3 min”."""
    seconds = ceil(seconds)
    if seconds < 60:
        return _("%(seconds)s s") % {"seconds": seconds if seconds < 10 else -(-seconds // 5) * 5}
    minutes = -(-seconds // 60)
    if minutes < 60:
        return _("%(minutes)s min") % {"minutes": minutes}
    return _("%(hours)s h %(minutes)s min") % {"hours": minutes // 60, "minutes": minutes % 60}


def product_codes(products: list[Product]) -> dict[int, str]:
    """Return a two-letter code for each product, no two alike: “Me” for GoTo Meeting, “Re” for Resolve, “Rs” for Rescue."""
    codes: dict[int, str] = {}
    for product in products:
        word = product.name.replace("GoTo", " ").split()[-1] if product.name.replace("GoTo", " ").split() else product.name
        wanted = [word[0].upper() + letter.lower() for letter in [*word[1:], *"0123456789"] if letter.isalnum()]
        codes[product.pk] = next((code for code in wanted if code not in codes.values()), word[0].upper())
    return codes
