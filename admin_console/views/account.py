"""Where one starts, and one's own page."""

from django.contrib.auth.views import redirect_to_login
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET

from admin_console.access import Request, public, signed_in
from products.queries import catalogue
from users.models import Capability
from users.queries import can


@require_GET
@signed_in
def home(request: Request) -> HttpResponse:
    """Lead those whose role opens the console to Manage users, and everyone else to their own page."""
    return redirect("manage_users" if can(request.user, Capability.VIEW_USERS) else "me")


@require_GET
@signed_in
def me(request: Request) -> HttpResponse:
    """Show what one holds."""
    held = [product for product in catalogue() if product.pk in request.user.product_access.products]
    return render(request, "users/me.html", {"held": held})


@require_GET
@public
def admin_sign_in(request: Request) -> HttpResponse:
    """Lead from Django admin's own sign-in page to ours, which is throttled."""
    return redirect_to_login(request.GET.get("next", "/admin/")) if not request.user.is_authenticated else redirect("home")
