"""Finding anything by a few letters: the palette over every page, and without JavaScript a page of its own."""

from django.http import HttpResponse
from django.shortcuts import render
from django.utils.timezone import now
from django.views.decorators.http import require_GET

from admin_console.access import Request, signed_in
from admin_console.finding import find
from users.typed import searched


@require_GET
@signed_in
def find_anything(request: Request) -> HttpResponse:
    """Show what the text finds for the reader."""
    text = searched(request.GET.get("text", ""))
    kinds = find(request, text, now=now())
    context = {"text": text, "kinds": kinds, "number": sum(len(kind.hits) for kind in kinds)}
    return render(request, "find.html" + ("#results" if request.htmx else ""), context)
