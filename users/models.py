"""Who: users, the tree of user groups they are in, and the role each has."""

from typing import Any

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.hashers import check_password, make_password
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import F, Func, Q, Value
from django.db.models.functions import Concat, Lower
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext_lazy as _

ERASED_AT = "@erased.invalid"  # where the address of an erased user is: nowhere
USABLE = "^[^!]"  # how a stored password begins that one can sign in with; also in SQL, and in the rule of migration 0012


class Role(models.TextChoices):
    """What a user may do in the console: one role per user, each a set of capabilities."""

    MEMBER = "MEMBER", _("Member")
    MANAGER = "MANAGER", _("Manager")
    ADMIN = "ADMIN", _("Admin")
    SUPER_ADMIN = "SUPER_ADMIN", _("Super admin")
    SUPPORT = "SUPPORT", _("Support")


class Capability(models.TextChoices):
    """One thing that a role may allow, named as it is asked for by `queries.can`."""

    VIEW_USERS = "users.view", _("See users and what they hold")
    MANAGE_USERS = "users.manage", _("Add, import and edit users and user groups")
    CHANGE_ROLES = "users.change_role", _("Change the role of users")
    ASSIGN_PRODUCTS = "products.assign", _("Set the products of users")
    ASSIGN_RESTRICTED = "products.assign_restricted", _("Set restricted products too")
    MANAGE_CATALOGUE = "products.manage", _("Add, rename and retire products")
    VIEW_CHANGES = "changes.view", _("See the bulk changes of all admins")
    VIEW_NOTIFICATIONS = "notifications.view", _("See every email and its fate")
    VIEW_EVIDENCE = "evidence.view", _("Read the entitlement history in Django admin")
    EXPORT_EVIDENCE = "evidence.export", _("Export evidence packs")
    CUSTOMISE_EMAILS = "emails.customise", _("Write what emails say and how they look")
    ERASE_USERS = "users.erase", _("Erase the personal data of users")


_ADMIN = frozenset(
    {
        Capability.VIEW_USERS,
        Capability.MANAGE_USERS,
        Capability.ASSIGN_PRODUCTS,
        Capability.ASSIGN_RESTRICTED,
        Capability.VIEW_CHANGES,
        Capability.VIEW_NOTIFICATIONS,
    }
)
CAPABILITIES: dict[str, frozenset[Capability]] = {
    Role.MEMBER: frozenset(),
    Role.MANAGER: frozenset({Capability.VIEW_USERS, Capability.ASSIGN_PRODUCTS}),
    Role.ADMIN: _ADMIN,
    Role.SUPER_ADMIN: frozenset(Capability),
    Role.SUPPORT: frozenset(
        {Capability.VIEW_USERS, Capability.VIEW_CHANGES, Capability.VIEW_NOTIFICATIONS, Capability.VIEW_EVIDENCE}
        | ({Capability.EXPORT_EVIDENCE} if settings.SUPPORT_MAY_EXPORT else set())
    ),
}


@models.IntegerField.register_lookup
class AnyOf(models.Lookup):
    """`id__any=[…]`: one of these user ids, as one array parameter however many they are (`in` makes one of each)."""

    lookup_name = "any"

    def get_prep_lookup(self) -> list[int]:
        # What does not fit into the column is in no row; and only with the column's own type are many looked up by hash.
        return [value for value in map(int, self.rhs) if -(2**31) <= value < 2**31]

    def get_db_prep_lookup(self, value: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        # As PostgreSQL writes an array, for psycopg writes one number after the other ten times as slowly.
        return "%s::integer[]", (f"{{{','.join(map(str, value))}}}",)

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        left, left_params = self.process_lhs(compiler, connection)
        right, right_params = self.process_rhs(compiler, connection)
        return f"{left} = ANY({right})", (*left_params, *right_params)


def fold(text: Any) -> Func:
    """Return a text as it is searched and sorted, without accents and capitals: by an SQL function of migration 0001."""
    return Func(text, function="users_fold", output_field=models.TextField(db_collation="C"))


class UserManager(BaseUserManager["User"]):
    """Finds a user by email, whatever its capitals."""

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(email=(username or "").lower())


def full_name(first: str, last: str) -> str:
    """Return the name of somebody who has these; empty when they have neither."""
    return f"{first} {last}".strip()


class User(AbstractBaseUser):
    """A person of the organisation. What changes in bulk (product access) or often (last seen) has a narrow table beside it."""

    id = models.AutoField(primary_key=True)
    email = models.EmailField(_("email"), db_collation="C", unique=True)
    first_name = models.CharField(_("first name"), max_length=64, blank=True, db_default="")
    last_name = models.CharField(_("last name"), max_length=64, blank=True, db_default="")
    language = models.CharField(_("language"), max_length=5, choices=settings.LANGUAGES, blank=True, db_default="")
    time_zone = models.CharField(_("time zone"), max_length=64, blank=True, db_default="")
    role = models.CharField(_("role"), max_length=16, choices=Role, default=Role.MEMBER, db_default=Role.MEMBER)
    is_active = models.BooleanField(_("may sign in"), default=True, db_default=True)
    created_at = models.DateTimeField(_("added"), default=timezone.now, db_default=models.functions.Now())
    groups: "models.ManyToManyField[UserGroup, GroupMembership]" = models.ManyToManyField(
        "UserGroup", through="GroupMembership", related_name="members"
    )
    managed_groups: "models.ManyToManyField[UserGroup, Any]" = models.ManyToManyField(
        "UserGroup", related_name="managers", blank=True
    )
    name_key = models.GeneratedField(
        expression=fold(Concat(F("first_name"), Value(" "), F("last_name"), output_field=models.TextField())),
        output_field=models.TextField(db_collation="C"),
        db_persist=True,
    )
    search_key = models.GeneratedField(
        expression=fold(
            Concat(F("first_name"), Value(" "), F("last_name"), Value("\n"), F("email"), output_field=models.TextField())
        ),
        output_field=models.TextField(db_collation="C"),
        db_persist=True,
    )

    last_login = None  # see LastSeen

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    objects = UserManager()

    class Meta:
        verbose_name = _("user")
        verbose_name_plural = _("users")
        indexes = [
            GinIndex(fields=["search_key"], opclasses=["gin_trgm_ops"], name="users_by_fragment"),
            models.Index(fields=["name_key", "id"], include=["search_key"], name="users_by_name"),
            models.Index(fields=["role", "id"], condition=~Q(role=Role.MEMBER), name="users_beyond_members"),
            models.Index(fields=["language", "name_key", "id"], include=["role"], name="users_by_language"),
            models.Index(fields=["language", "email", "id"], name="users_by_language_and_email"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(email=Lower("email")), name="user_email_is_lowercase"),
            models.CheckConstraint(condition=Q(role__in=Role.values), name="user_role_is_known"),
            models.CheckConstraint(
                condition=Q(language__in=["", *(code for code, _name in settings.LANGUAGES)]), name="user_language_is_known"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        """The full name, or the email of a user without one."""
        if self.is_erased:
            return _("Erased user #%(id)s") % {"id": self.pk}
        return full_name(self.first_name, self.last_name) or self.email

    @property
    def is_erased(self) -> bool:
        """Whether the personal data of this user was overwritten on request."""
        return self.email.endswith(ERASED_AT)

    def clean(self) -> None:
        super().clean()
        self.email = self.email.lower()

    def check_password(self, raw_password: str | None) -> bool:
        """Return whether this is the password. Its hash is made anew when it is of an old kind, unless it is another by then."""
        checked = self.password

        def renew(password: str) -> None:
            self.password = make_password(password)
            User.objects.filter(pk=self.pk, password=checked).update(password=self.password)

        return check_password(raw_password, checked, renew)

    def _get_session_auth_hash(self, secret: str | None = None) -> str:
        """Return what a session is worth as long as it is the same: with another password or email all of them end."""
        return salted_hmac("users.sessions", f"{self.email} {self.password}", secret=secret, algorithm="sha256").hexdigest()

    # What Django admin asks: it is a reading room (products/admin.py and others refuse every write).

    @property
    def is_staff(self) -> bool:
        """Whether this user may open Django admin."""
        return Capability.VIEW_EVIDENCE in CAPABILITIES[self.role]

    def has_perm(self, perm: str, obj: object = None) -> bool:
        """Return whether Django admin may show a model: only its view permissions, only to those who may read evidence."""
        return self.is_active and self.is_staff and perm.rpartition(".")[2].startswith("view_")

    def has_module_perms(self, app_label: str) -> bool:
        return self.is_active and self.is_staff


class LastSeen(models.Model):
    """When a user was first and last seen; written at most hourly. No row: never signed in."""

    user = models.OneToOneField(User, on_delete=models.DB_CASCADE, primary_key=True, related_name="last_seen")
    first_at = models.DateTimeField()
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["at", "user"], name="users_by_last_seen")]

    def __str__(self) -> str:
        return f"{self.user_id} · {self.at:%Y-%m-%d %H:%M}"


class UserGroup(models.Model):
    """A named group of users in a tree: a subgroup's members count as members of the groups above it."""

    id = models.AutoField(primary_key=True)
    name = models.CharField(_("name"), max_length=120)
    parent = models.ForeignKey("self", on_delete=models.DO_NOTHING, null=True, blank=True, related_name="subgroups")

    class Meta:
        constraints = [
            models.UniqueConstraint(Lower("name"), name="user_group_name_is_unique"),
            models.CheckConstraint(condition=~Q(name=""), name="user_group_has_a_name"),
            models.CheckConstraint(condition=~Q(name__regex=r"[/;]|^\s|\s$"), name="user_group_name_fits_in_a_path"),
        ]

    def __str__(self) -> str:
        return self.name


class GroupMembership(models.Model):
    """A user is in a user group; a user may be in several."""

    # Both are looked up by the indexes below, which find members in the order of their ids.
    user = models.ForeignKey(User, on_delete=models.DB_CASCADE, related_name="memberships", db_index=False)
    group = models.ForeignKey(UserGroup, on_delete=models.DB_CASCADE, related_name="memberships", db_index=False)

    class Meta:
        indexes = [models.Index(fields=["group", "user"], name="members_of_a_group")]
        constraints = [models.UniqueConstraint(fields=["user", "group"], name="user_is_in_a_group_once")]

    def __str__(self) -> str:
        return f"{self.user_id} · {self.group_id}"


class Action(models.TextChoices):
    """Everything that admins do and that is recorded, with its sentence. A code begins with what was done to: its subject."""

    USER_SIGNED_IN = "user.signed_in", _("Signed in")
    USER_SIGN_IN_FAILED = "user.sign_in_failed", _("Failed to sign in")
    USER_SIGNED_OUT = "user.signed_out", _("Signed out")
    USER_PASSWORD_ASKED = "user.password_asked", _("Asked for an email to set a new password")
    USER_PASSWORD_SET = "user.password_set", _("Set a new password")
    USER_ADDED = "user.added", _("Added a user")
    USER_INVITED = "user.invited", _("Invited a user")
    USER_EDITED = "user.edited", _("Changed the name or email of a user")
    USER_IMPORTED = "user.imported", _("Imported users")
    USER_EXPORTED = "user.exported", _("Exported users")
    USER_ROLE_CHANGED = "user.role_changed", _("Changed the role of a user")
    USER_GROUPS_CHANGED = "user.groups_changed", _("Changed the groups of a user")
    USER_MANAGED_GROUPS_CHANGED = "user.managed_groups_changed", _("Changed which groups a user manages")
    USER_ERASED = "user.erased", _("Erased the personal data of a user")
    GROUP_ADDED = "group.added", _("Added a user group")
    GROUP_RENAMED = "group.renamed", _("Renamed a user group")
    GROUP_MOVED = "group.moved", _("Moved a user group")
    GROUP_DELETED = "group.deleted", _("Deleted a user group")
    PRODUCT_ADDED = "product.added", _("Added a product")
    PRODUCT_CHANGED = "product.changed", _("Changed a product")
    PRODUCT_SEATS_CHANGED = "product.seats_changed", _("Changed the seats of a product")
    CHANGE_REQUESTED = "change.requested", _("Asked for a bulk change")
    CHANGE_PAUSED = "change.paused", _("Paused a bulk change")
    CHANGE_RESUMED = "change.resumed", _("Resumed a bulk change")
    CHANGE_CANCELLED = "change.cancelled", _("Cancelled a bulk change")
    CHANGE_RETRIED = "change.retried", _("Had users tried again whom a bulk change could not change")
    CHANGE_EXPORTED = "change.exported", _("Exported the users of a bulk change")
    EMAIL_RETRIED = "email.retried", _("Had emails tried again")
    TEMPLATE_CHANGED = "template.changed", _("Changed the text of an email")
    SETTING_CHANGED = "setting.changed", _("Changed a setting")
    ADDRESS_RELEASED = "address.released", _("Released a suppressed email address")
    EVIDENCE_VIEWED = "evidence.viewed", _("Looked at the evidence")
    EVIDENCE_EXPORTED = "evidence.exported", _("Exported evidence")
    HISTORY_DROPPED = "history.dropped", _("Dropped old entitlement history")


class AdminAction(models.Model):
    """Something that an admin did, other than to what users hold: that is told by the entitlement history.

    Written by `record.record` only, append-only for everybody. The database itself fills in `at`, `db_role`, `salt` and
    `words_digest`. Personal data is in `words` alone, so that it can be erased: what is sealed of it is a salted hash.
    """

    at = models.DateTimeField(_("when"), default=timezone.now, db_default=models.functions.Now())
    action = models.CharField(_("action"), max_length=48)  # an Action; one that is no more is still told of
    actor = models.ForeignKey(  # null: nobody who signed in (a failed sign-in, a command of the operator)
        User, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, null=True, related_name="+", verbose_name=_("by")
    )
    subject_id = models.BigIntegerField(null=True)  # of what it was done to; which table, the action's code begins with
    db_role = models.TextField(_("database role"), db_default="")
    before = models.JSONField(_("before"), null=True)
    after = models.JSONField(_("after"), null=True)
    words = models.JSONField(_("words"), null=True)  # names, addresses, reasons; null when there are none, and once erased
    salt = models.BinaryField(null=True)  # erased with the words, so that nobody can try words against the digest
    words_digest = models.BinaryField(null=True)  # sha256(salt + words as text); stays

    class Meta:
        verbose_name = _("admin action")
        verbose_name_plural = _("admin actions")
        indexes = [
            models.Index(fields=["actor", "-id"], name="admin_actions_of_an_actor"),
            models.Index(fields=["action", "-id"], name="admin_actions_of_a_kind"),
            models.Index(fields=["subject_id", "-id"], name="admin_actions_on_a_subject"),
        ]

    def __str__(self) -> str:
        return f"{self.sentence} · {self.at:%Y-%m-%d %H:%M}"

    @property
    def sentence(self) -> str:
        """What was done, in words."""
        return str(Action(self.action).label) if self.action in Action else self.action

    @property
    def subject(self) -> str:
        """What kind of thing it was done to: user, group, product, change, email, template, setting, address, evidence…"""
        return self.action.partition(".")[0]

    @property
    def is_erased(self) -> bool:
        """Whether there were words, which have been erased."""
        return self.words is None and self.words_digest is not None
