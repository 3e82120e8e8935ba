"""Every URL of the console, on one screen."""

from allauth.account import views as allauth
from django.contrib import admin
from django.urls import path, re_path

from admin_console.access import public
from admin_console.views import account, errors, health, manage_users

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("", account.home, name="home"),
    path("me/", account.me, name="me"),
    # Manage users
    path("users/", manage_users.manage_users, name="manage_users"),
    path("users/selection/ticks/", manage_users.tick_users, name="tick_users"),
    path("users/selection/everyone/", manage_users.select_all, name="select_all_users"),
    path("users/selection/clear/", manage_users.clear_selection, name="clear_selection"),
    # Signing in: of allauth only what is used here
    path("accounts/login/", public(allauth.login), name="account_login"),
    path("accounts/logout/", public(allauth.logout), name="account_logout"),
    path("accounts/password/reset/", public(allauth.password_reset), name="account_reset_password"),
    path("accounts/password/reset/done/", public(allauth.password_reset_done), name="account_reset_password_done"),
    re_path(
        r"^accounts/password/reset/key/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/$",
        public(allauth.password_reset_from_key),
        name="account_reset_password_from_key",
    ),
    path(
        "accounts/password/reset/key/done/",
        public(allauth.password_reset_from_key_done),
        name="account_reset_password_from_key_done",
    ),
    # Django admin: the reading room of support
    path("admin/login/", account.admin_sign_in),
    path("admin/", admin.site.urls),
]

handler400 = errors.bad_request
handler403 = errors.forbidden
handler404 = errors.not_found
handler429 = errors.too_many
handler500 = errors.server_error
