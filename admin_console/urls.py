"""Every URL of the console, on one screen."""

from allauth.account import views as allauth
from django.contrib import admin
from django.urls import path, re_path

from admin_console.access import public
from admin_console.views import (
    account,
    affected_users,
    as_of,
    changes,
    email_events,
    email_texts,
    erasing,
    errors,
    evidence,
    find,
    groups,
    health,
    manage_products,
    manage_users,
    notifications,
    people,
    preferences,
    products,
    steering,
    styleguide,
    undo,
    user,
)

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("email-events/<slug:provider>/", email_events.email_events, name="email_events"),
    path("", account.home, name="home"),
    path("notices/", account.notices, name="notices"),
    path("me/", account.me, name="me"),
    path("find/", find.find_anything, name="find"),
    path("language/", preferences.choose_language, name="choose_language"),
    path("shortcuts/", preferences.shortcuts, name="shortcuts"),
    path("invitation/<str:token>/", account.accept_invitation, name="accept_invitation"),
    # Manage users
    path("users/", manage_users.manage_users, name="manage_users"),
    path("users/count/", manage_users.count_users, name="count_users"),
    path("users/selection/count/", manage_users.count_selected, name="count_selected"),
    path("users/selection/ticks/", manage_users.tick_users, name="tick_users"),
    path("users/selection/everyone/", manage_users.select_all, name="select_all_users"),
    path("users/selection/clear/", manage_users.clear_selection, name="clear_selection"),
    path("users/look/", manage_users.look_of_users, name="look_of_users"),
    path("users/add/", people.add_user, name="add_user"),
    # Manage products
    path("users/products/", manage_products.manage_products, name="manage_products"),
    path("users/products/preview/", manage_products.preview_changes, name="preview_changes"),
    path("users/products/apply/", manage_products.apply_changes, name="apply_changes"),
    path("users/products/names/", affected_users.affected_users, name="affected_users"),
    path("users/products/names.csv", affected_users.export_affected_users, name="export_affected_users"),
    # One user
    path("users/<int:user_id>/", user.user, name="user"),
    path("users/<int:user_id>/edit/", people.edit_user, name="edit_user"),
    path("users/<int:user_id>/products/", user.user_products, name="user_products"),
    path("users/<int:user_id>/erase/", erasing.erase, name="erase_user"),
    path("users/<int:user_id>/invite/", people.invite_user, name="invite_user"),
    path("users/<int:user_id>/role/", people.user_role, name="user_role"),
    path("users/<int:user_id>/groups/", people.user_groups, name="user_groups"),
    path("users/<int:user_id>/emails/<int:email_id>/retry/", user.retry_email, name="retry_email"),
    path("users/<int:user_id>/as-of/", as_of.user_as_of, name="user_as_of"),
    # User groups
    path("groups/", groups.groups, name="groups"),
    path("groups/add/", groups.add_group, name="add_group"),
    path("groups/<int:group_id>/", groups.group, name="group"),
    path("groups/<int:group_id>/delete/", groups.delete_group, name="delete_group"),
    # Changes
    path("changes/", changes.changes, name="changes"),
    path("changes/running/", changes.running, name="running_changes"),
    path("changes/<int:change_id>/", changes.change, name="change"),
    path("changes/<int:change_id>/users.csv", changes.export, name="export_change"),
    path("changes/<int:change_id>/pause/", steering.pause, name="pause_change"),
    path("changes/<int:change_id>/resume/", steering.resume, name="resume_change"),
    path("changes/<int:change_id>/cancel/", steering.cancel, name="cancel_change"),
    path("changes/<int:change_id>/retry/", steering.retry, name="retry_change"),
    path("changes/<int:change_id>/undo/", undo.undo, name="undo_change"),
    # Products and their seats
    path("products/", products.products, name="products"),
    path("products/<int:product_id>/", products.product, name="product"),
    path("products/add/", products.add_product, name="add_product"),
    path("products/<int:product_id>/edit/", products.edit_product, name="edit_product"),
    path("products/<int:product_id>/seats/", products.product_seats, name="product_seats"),
    path("products/<int:product_id>/as-of/", as_of.product_as_of, name="product_as_of"),
    path("products/<int:product_id>/as-of.csv", as_of.export_product_as_of, name="export_product_as_of"),
    # Evidence packs
    path("evidence/", evidence.packs, name="evidence"),
    path("evidence/make/", evidence.make, name="make_pack"),
    path("evidence/<int:pack_id>/pack.zip", evidence.download, name="evidence_pack"),
    # What emails say and how they look
    path("emails/", email_texts.email_texts, name="email_texts"),
    path("emails/identity/", email_texts.edit_identity, name="mail_identity"),
    path("emails/<slug:kind>/<str:variant>/<slug:language>/", email_texts.email_words, name="email_words"),
    path("emails/<slug:kind>/<str:variant>/<slug:language>/preview/", email_texts.preview_email, name="preview_email"),
    path("emails/<slug:kind>/<str:variant>/<slug:language>/restore/", email_texts.restore_words, name="restore_words"),
    # Every email and its fate
    path("notifications/", notifications.notifications, name="notifications"),
    path("notifications/retry/", notifications.retry_notifications, name="retry_notifications"),
    path("notifications/suppressed/", notifications.suppressed_addresses, name="suppressed_addresses"),
    path("notifications/suppressed/release/", notifications.release_address, name="release_address"),
    path("notifications/<int:notification_id>/", notifications.notification, name="notification"),
    path("notifications/<int:notification_id>/html/", notifications.notification_html, name="notification_html"),
    path("notifications/<int:notification_id>/retry/", notifications.retry_notification, name="retry_notification"),
    # Test inbox: only while the built-in mail sink is the mail server
    path("inbox/", notifications.test_inbox, name="test_inbox"),
    path("inbox/<int:message_id>/", notifications.test_inbox_message, name="test_inbox_message"),
    path("inbox/<int:message_id>/html/", notifications.test_inbox_html, name="test_inbox_html"),
    # Every component in every state: only for who works on them
    path("styleguide/", styleguide.styleguide, name="styleguide"),
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
