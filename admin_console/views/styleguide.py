"""The style guide: every component in every state, for who works on them and for the test that compares how they look."""

from datetime import UTC, datetime
from types import SimpleNamespace

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from admin_console.access import public
from admin_console.notices import Notice
from admin_console.templatetags.console import avatar, product_marks
from products.models import Product
from users.models import User
from users.queries import Status

NAMES = ("GoTo Meeting", "GoTo Webinar", "OpenVoice", "GoTo Resolve", "Rescue", "Central", "join.me")
CODES = ("Me", "We", "Op", "Re", "Rs", "Ce", "Jo")
SOME_TIME = datetime(2026, 3, 14, 9, 26, tzinfo=UTC)


@require_GET
@public
def styleguide(request: HttpRequest) -> HttpResponse:
    """Show the components with invented content; not found unless the setting STYLEGUIDE is on."""
    if not settings.STYLEGUIDE:
        raise Http404
    products = [Product(pk=pk, name=name, onboarding=pk < 4) for pk, name in enumerate(NAMES, 1)]
    marked = list(zip(CODES, products, strict=True))
    people = [User(pk=pk, first_name=name, last_name=name[::-1].title()) for pk, name in enumerate(("Ada", "Grace", "Otto"), 1)]
    samples = {
        "buttons": ("", "primary", "danger", "quiet", "link"),
        "badges": ("", "line", "good", "warn", "bad", "info", "accent"),
        "alerts": (("info", "info"), ("good", "done"), ("warn", "warning"), ("bad", "error")),
        "tones": ("info", "success", "warning", "error"),
        "colours": ("canvas", "paper", "raised", "sunken", "hover", "line", "ink", "accent", "good", "warn", "bad", "info"),
        "statuses": Status.values,
        "filled": product_marks(marked, hollow=False),
        "hollow": product_marks(marked[:3], hollow=True),
        "none": product_marks([], hollow=False),
        "avatars": [avatar(person) for person in people] + [avatar(people[0], large=True)],
        "notices": [Notice("success", "Change #7 is finished: 30 users changed.", 7, 7, SOME_TIME.isoformat())],
        "when": SOME_TIME,
        "choice": _choice(products),
    }
    return render(request, "styleguide.html", samples)


def _choice(products: list[Product]) -> SimpleNamespace:
    """Return what the preview of a change shows at its loudest."""
    preview = SimpleNamespace(selected=1240, mark="", suspending=37, changed=812, unchanged=420, left_out=0)
    preview.outranking, preview.restoring, preview.kept, preview.change_emails, preview.changeable = 8, 0, 12, 812, 1232
    need = SimpleNamespace(needed=180, free=265, missing=0)
    return SimpleNamespace(
        preview=preview,
        refusal=None,
        mode="REPLACE",
        notify=True,
        until_full=False,
        seats_short=[],
        seats_that_suffice=[(products[3], need)],
        losses=[(products[0], 409), (products[1], 37)],
        gains=[(products[3], 180)],
        onboarding=[(products[2], 64)],
        some_mixed=True,
        choices=[
            _box(products[0], held=700, mixed=True),
            _box(products[1], held=1232, ticked=True, seats=567, used=556),
            _box(products[2], held=0),
            _box(products[3], held=1, seats=409, used=400, reserved=9),
            _box(products[4], held=12, disabled=True, why="Only an admin may grant or remove it. Who has it keeps it."),
        ],
    )


def _box(product: Product, *, held: int, **states: object) -> SimpleNamespace:
    """Return a product to tick, in the states that are told."""
    box = {"ticked": False, "mixed": False, "disabled": False, "why": "", "seats": None, "used": 0, "reserved": 0, **states}
    return SimpleNamespace(product=product, held=held, of=1232, some=0 < held < 1232, free=(box["seats"] or 0) and 2, **box)
