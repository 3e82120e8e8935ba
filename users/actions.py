"""What changes users: added, given a role, put in groups, seen. The only place that writes the tables of this app."""

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from allauth.account.models import EmailAddress
from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from users.models import ERASED_AT, USABLE, Action, AdminAction, Capability, GroupMembership, Role, User, UserGroup
from users.moments import zones
from users.queries import can, grantable_roles, may_change_email, may_rename
from users.record import record
from users.typed import is_visible, tidy

NOT_YOURS_TO_RENAME = gettext_lazy("You may not give the role of this user, so their name and email are not yours to change.")
SEEN_AT_MOST_EVERY = timedelta(hours=1)
# Plain ASCII addresses, in lower case: what every mail server takes.
EMAIL_FORM = re.compile(
    r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+([.][a-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?[.])+[a-z]([a-z0-9-]{0,61}[a-z0-9])"
)

logger = logging.getLogger(__name__)


class NotAllowed(Exception):
    """The actor may not do this."""


class InvalidUser(ValueError):
    """A user cannot be like this: `field`, and in words what is wrong with it."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field


class InvalidGroup(ValueError):
    """A user group cannot be called this, or be there: `field` is what is wrong with it."""

    field = "name"


class GroupNameTaken(InvalidGroup):
    """Another user group has this name, whatever its capitals."""


class GroupCycle(InvalidGroup):
    """A user group cannot be inside itself or inside one of its subgroups."""

    field = "parent"


class GroupGone(InvalidGroup):
    """A user group was deleted since it was chosen."""

    field = "parent"

    def __str__(self) -> str:
        return _("A user group that you chose was deleted meanwhile. Please choose again.")


class GroupHasSubgroups(InvalidGroup):
    """A user group with subgroups cannot be deleted: where they were to go, nobody has said."""


class LastSuperAdmin(Exception):
    """The organisation would be left without a Super admin who can sign in (rule B13)."""

    def __str__(self) -> str:
        return _(
            "This is the last Super admin who can sign in: whoever is to follow must have chosen a password first, or nobody "
            "could manage the console any more."
        )


def require(actor: User, capability: Capability) -> None:
    """Raise NotAllowed unless the actor's role allows this."""
    if not can(actor, capability):
        raise NotAllowed(_("You may not do this: %(what)s.") % {"what": capability.label})


@contextmanager
def keeping_a_super_admin() -> Iterator[None]:
    """Do what is inside of the block, and raise LastSuperAdmin, with nothing done, if that leaves no Super admin who can
    sign in.

    The database checks at the end of the transaction anyhow; here it is asked at once.
    """
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            yield
            cursor.execute("SET CONSTRAINTS users_last_super_admin_changed, users_last_super_admin_deleted IMMEDIATE")
            cursor.execute("SET CONSTRAINTS users_last_super_admin_changed, users_last_super_admin_deleted DEFERRED")
    except IntegrityError as error:
        if _broken_rule(error) == "users_last_super_admin":
            raise LastSuperAdmin from error
        raise


def normal_email(text: str) -> str:
    """Return the email as it is stored, in lower case without spaces around it. Raises InvalidUser when it is none."""
    email = text.strip().lower()
    if not email:
        raise InvalidUser("email", _("An email is needed."))
    if len(email) > 254 or email.find("@") > 64:
        raise InvalidUser("email", _("This email is too long."))
    if not EMAIL_FORM.fullmatch(email) or email.endswith(ERASED_AT):
        raise InvalidUser("email", _("“%(email)s” is not an email.") % {"email": email[:80]})
    return email


def plain_name(field: str, text: str) -> str:
    """Return a first or last name as it is stored, without needless spaces. Raises InvalidUser."""
    name = tidy(text)
    if not is_visible(name):
        raise InvalidUser(field, _("A name cannot hold invisible characters."))
    if len(name) > 64:
        raise InvalidUser(field, _("A name has at most 64 characters."))
    return name


def group_name(text: str) -> str:
    """Return a group's name as it is stored, without needless spaces. Raises InvalidGroup."""
    name = tidy(text)
    if not name or len(name) > 120 or not name.isprintable():
        raise InvalidGroup(_("A group's name has 1 to 120 characters."))
    if re.search("[/;]", name):
        raise InvalidGroup(_("A group's name cannot hold “/” or “;”, which separate groups in a path and a list."))
    return name


@transaction.atomic
def ensure_first_super_admin(*, email: str, password: str, now: datetime) -> bool:
    """Make this user a Super admin who can sign in, when the organisation has none who can; return whether that was needed."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('users_last_super_admin'))")
    if User.objects.filter(role=Role.SUPER_ADMIN, is_active=True, password__regex=USABLE).exists():
        return False
    found = User.objects.select_for_update(no_key=True).filter(email=normal_email(email)).first()
    user = found or User(email=normal_email(email), created_at=now)
    user.role, user.is_active = Role.SUPER_ADMIN, True
    user.set_password(password)
    user.save()
    logger.info("first_super_admin", extra={"user": user.pk})
    record(Action.USER_ROLE_CHANGED, actor=None, subject=user.pk, after={"role": user.role})
    return True


@transaction.atomic
def add_user(
    *,
    actor: User,
    email: str,
    first_name: str = "",
    last_name: str = "",
    language: str = "",
    time_zone: str = "",
    role: str = Role.MEMBER,
    groups: Iterable[UserGroup] = (),
    now: datetime,
) -> User:
    """Add a user without a password, for whom it is set by the reset email. Raises NotAllowed, InvalidUser or GroupGone."""
    require(actor, Capability.MANAGE_USERS)
    if role != Role.MEMBER and role not in grantable_roles(actor):
        raise NotAllowed(_("You may not give this role."))
    _check_preferences(language, time_zone)
    user = User(email=normal_email(email), language=language, time_zone=time_zone, role=role, created_at=now)
    user.first_name, user.last_name = plain_name("first_name", first_name), plain_name("last_name", last_name)
    user.set_unusable_password()
    with _email_of_nobody_else(user.email):
        user.save()
    in_groups = _kept(groups)
    GroupMembership.objects.bulk_create(GroupMembership(user=user, group_id=group_id) for group_id in in_groups)
    logger.info("user_added", extra={"user": user.pk, "role": user.role, "actor": actor.pk})
    after = {"role": role, "language": language, "time_zone": time_zone, "groups": in_groups}
    record(Action.USER_ADDED, actor=actor, subject=user.pk, after=after, words=_called(user))
    return user


@transaction.atomic
def edit_user(*, actor: User, user: User, first_name: str, last_name: str, email: str) -> AdminAction | None:
    """Correct what a user is called and where they are written to, and return the record of it. Whoever is called so already
    stays as they are: nothing is recorded.

    With another email whatever the old one opened ends: sessions, and links to a password, which are made of it. When somebody
    else gives it, so does the password, for good: they might have chosen it, through a mailbox of theirs, for the day on which
    the user is given a role. Emails that wait go to the new one. Raises NotAllowed, InvalidUser or LastSuperAdmin.
    """
    require(actor, Capability.MANAGE_USERS)
    user = _locked(user, no_key=False)  # an email is a key: to lock it later is to wait for whoever refers to the user by then
    before = _called(user)
    user.first_name, user.last_name = plain_name("first_name", first_name), plain_name("last_name", last_name)
    user.email = normal_email(email)
    after = _called(user)
    changed = [field for field in after if after[field] != before[field]]
    if not changed:
        return None
    if not may_rename(actor, user):
        raise NotAllowed(NOT_YOURS_TO_RENAME)
    # Whose email or password was changed since they were asked who they are does not take that back.
    is_over = user.pk == actor.pk and (actor.email, actor.password) != (before["email"], user.password)
    if "email" in changed and (is_over or not may_change_email(actor, user)):
        raise NotAllowed(_("Your email is not yours to change: please ask a Super admin."))
    if "email" in changed and user.pk != actor.pk:
        user.set_unusable_password()  # a random one: not even the old email makes what was made of both right again
    with keeping_a_super_admin(), _email_of_nobody_else(user.email):
        user.save(update_fields=[*changed, "password"])
    if "email" in changed:
        EmailAddress.objects.filter(user=user).delete()  # allauth kept one of who asked for a password, and lets it sign in
    logger.info("user_edited", extra={"user": user.pk, "fields": changed, "actor": actor.pk})
    words = {"before": before, "after": after}
    return record(Action.USER_EDITED, actor=actor, subject=user.pk, after={"changed": changed}, words=words)


@transaction.atomic
def change_role(*, actor: User, user: User, role: str) -> AdminAction | None:
    """Give the user this role and return the record of it. Nobody gives what they do not hold, nor takes it from somebody who
    holds more than they do. A user who has the role already stays as they are: nothing is recorded.

    Raises NotAllowed or LastSuperAdmin.
    """
    require(actor, Capability.CHANGE_ROLES)
    user = _locked(user)
    if not {user.role, role} <= set(grantable_roles(actor)):
        raise NotAllowed(_("You may not give or take this role."))
    if user.role == role:
        return None
    with keeping_a_super_admin():
        User.objects.filter(pk=user.pk).update(role=role)
    logger.info("role_changed", extra={"user": user.pk, "before": user.role, "role": role, "actor": actor.pk})
    return record(Action.USER_ROLE_CHANGED, actor=actor, subject=user.pk, before={"role": user.role}, after={"role": role})


@transaction.atomic
def put_in_groups(*, actor: User, user: User, groups: Iterable[UserGroup]) -> None:
    """Let these be the groups that the user is in, and no others. Raises NotAllowed or GroupGone."""
    require(actor, Capability.MANAGE_USERS)
    user = _locked(user)
    wanted = _kept(groups)
    before = sorted(user.memberships.values_list("group_id", flat=True))
    if before == wanted:
        return
    GroupMembership.objects.filter(user=user).exclude(group__in=wanted).delete()
    GroupMembership.objects.bulk_create(
        [GroupMembership(user=user, group_id=group_id) for group_id in wanted], ignore_conflicts=True
    )
    logger.info("groups_changed", extra={"user": user.pk, "groups": wanted, "actor": actor.pk})
    record(Action.USER_GROUPS_CHANGED, actor=actor, subject=user.pk, before={"groups": before}, after={"groups": wanted})


@transaction.atomic
def let_manage(*, actor: User, user: User, groups: Iterable[UserGroup]) -> bool:
    """Let these be the groups that a Manager manages, subgroups included, and return whether they were others before.

    Whoever is no Manager manages none, whatever is given. Raises NotAllowed, GroupGone, or InvalidUser for a Manager of no group.
    """
    require(actor, Capability.CHANGE_ROLES)
    user = _locked(user)
    wanted = _kept(groups) if user.role == Role.MANAGER else []
    if user.role == Role.MANAGER and not wanted:
        raise InvalidUser("manages", _("Choose at least one user group: a Manager of none sees nobody."))
    before = sorted(user.managed_groups.values_list("id", flat=True))
    if before == wanted:
        return False
    user.managed_groups.set(wanted)
    logger.info("managed_groups_changed", extra={"user": user.pk, "groups": wanted, "actor": actor.pk})
    record(Action.USER_MANAGED_GROUPS_CHANGED, actor=actor, subject=user.pk, before={"groups": before}, after={"groups": wanted})
    return True


@transaction.atomic
def add_group(*, actor: User, name: str, parent: UserGroup | None = None) -> UserGroup:
    """Add a user group, inside another one when given. Raises NotAllowed, InvalidGroup, GroupNameTaken or GroupGone."""
    require(actor, Capability.MANAGE_USERS)
    _kept([parent] if parent else [])
    group = UserGroup(name=group_name(name), parent=parent)
    with _group_rules(group.name):
        group.save()
    logger.info("group_added", extra={"group": group.pk, "actor": actor.pk})
    record(Action.GROUP_ADDED, actor=actor, subject=group.pk, after={"name": group.name, "parent": group.parent_id})
    return group


@transaction.atomic
def edit_group(*, actor: User, group: UserGroup, name: str, parent: UserGroup | None) -> None:
    """Rename and move a user group, all or nothing. Raises what `rename_group` and `move_group` raise."""
    require(actor, Capability.MANAGE_USERS)
    _kept([group, parent] if parent else [group])  # both in order, for whoever puts a user in both locks them in order too
    rename_group(actor=actor, group=group, name=name)
    move_group(actor=actor, group=group, parent=parent)


@transaction.atomic
def rename_group(*, actor: User, group: UserGroup, name: str) -> None:
    """Give a user group another name. Raises NotAllowed, InvalidGroup, GroupNameTaken or GroupGone."""
    require(actor, Capability.MANAGE_USERS)
    name = group_name(name)
    _kept([group])
    before = UserGroup.objects.get(pk=group.pk).name
    if name == before:
        return
    with _group_rules(name):
        UserGroup.objects.filter(pk=group.pk).update(name=name)
    group.name = name
    logger.info("group_renamed", extra={"group": group.pk, "actor": actor.pk})
    record(Action.GROUP_RENAMED, actor=actor, subject=group.pk, before={"name": before}, after={"name": name})


@transaction.atomic
def move_group(*, actor: User, group: UserGroup, parent: UserGroup | None) -> None:
    """Put a user group inside another one, or at the top. Raises NotAllowed, GroupCycle or GroupGone."""
    require(actor, Capability.MANAGE_USERS)
    _kept([group, parent] if parent else [group])
    before = UserGroup.objects.get(pk=group.pk).parent_id
    group.parent = parent
    if group.parent_id == before:
        return
    with _group_rules(group.name):
        UserGroup.objects.filter(pk=group.pk).update(parent=parent)
    logger.info("group_moved", extra={"group": group.pk, "parent": group.parent_id, "actor": actor.pk})
    record(Action.GROUP_MOVED, actor=actor, subject=group.pk, before={"parent": before}, after={"parent": group.parent_id})


@transaction.atomic
def delete_group(*, actor: User, group: UserGroup) -> None:
    """Delete a user group. Its members stay, and whoever manages it manages it no more.

    Raises NotAllowed, GroupGone or GroupHasSubgroups.
    """
    require(actor, Capability.MANAGE_USERS)
    found = UserGroup.objects.select_for_update().filter(pk=group.pk).first()
    if found is None:
        raise GroupGone
    if found.subgroups.exists():
        raise GroupHasSubgroups(_("“%(name)s” has subgroups: move or delete those first.") % {"name": found.name})
    before = {
        "name": found.name,
        "parent": found.parent_id,
        "members": found.memberships.count(),
        "managers": sorted(User.objects.filter(managed_groups=found).values_list("id", flat=True)),
    }
    found.delete()
    logger.info("group_deleted", extra={"group": group.pk, "actor": actor.pk})
    record(Action.GROUP_DELETED, actor=actor, subject=group.pk, before=before)


def prefer(*, user: User, language: str, time_zone: str) -> None:
    """Let this be the language the user is written to in, and the time zone they read times in. Raises InvalidUser."""
    _check_preferences(language, time_zone)
    User.objects.filter(pk=user.pk).update(language=language, time_zone=time_zone)


def seen(*, user: User, now: datetime) -> None:
    """Record that the user was seen. Nothing is written, nor locked, when that was recorded within the hour."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO users_lastseen (user_id, first_at, at)
            SELECT %(user)s, %(now)s, %(now)s
            WHERE NOT EXISTS (SELECT FROM users_lastseen WHERE user_id = %(user)s AND at > %(recently)s)
            ON CONFLICT (user_id) DO UPDATE SET at = EXCLUDED.at WHERE users_lastseen.at <= %(recently)s
            """,
            {"user": user.pk, "now": now, "recently": now - SEEN_AT_MOST_EVERY},
        )


def _called(user: User) -> dict[str, str]:
    """Return by what a user is known, as it is recorded."""
    return {"email": user.email, "first_name": user.first_name, "last_name": user.last_name}


@contextmanager
def _email_of_nobody_else(email: str) -> Iterator[None]:
    """Raise InvalidUser when what is done inside of the block is refused because another user has this email."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        if User.objects.filter(email=email).exists():
            raise InvalidUser("email", _("There is a user with this email already.")) from error
        raise


def _locked(user: User, *, no_key: bool = True) -> User:
    """Return the user as they are now, whom nobody else changes before the transaction ends. Raises NotAllowed once erased."""
    user = User.objects.select_for_update(no_key=no_key).get(pk=user.pk)
    if user.is_erased:
        raise NotAllowed(_("This user was erased already."))
    return user


def _kept(groups: Iterable[UserGroup]) -> list[int]:
    """Return the ids of these groups, in order; none of them is deleted before the transaction ends. Raises GroupGone."""
    wanted = {group.pk for group in groups}
    kept = UserGroup.objects.select_for_update(no_key=True).filter(pk__in=wanted).order_by("pk")
    found = list(kept.values_list("pk", flat=True))
    if len(found) < len(wanted):
        raise GroupGone
    return found


def _check_preferences(language: str, time_zone: str) -> None:
    if language and language not in dict(settings.LANGUAGES):
        raise InvalidUser("language", _("“%(language)s” is not one of the languages.") % {"language": language[:80]})
    if time_zone and time_zone not in zones():
        raise InvalidUser("time_zone", _("“%(zone)s” is not a time zone.") % {"zone": time_zone[:80]})


@contextmanager
def _group_rules(name: str) -> Iterator[None]:
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        match _broken_rule(error):
            case "user_group_name_is_unique":
                raise GroupNameTaken(_("There is a group called “%(name)s” already.") % {"name": name}) from error
            case "user_group_is_not_inside_itself":
                raise GroupCycle(_("“%(name)s” cannot be inside itself or one of its subgroups.") % {"name": name}) from error
        raise


def _broken_rule(error: IntegrityError) -> Any:
    return getattr(getattr(error.__cause__, "diag", None), "constraint_name", None)
