"""What the forms about one person accept: a user to add, a role, how one likes to be written to."""

from typing import Any

from django import forms
from django.conf import settings
from django.forms.models import model_to_dict
from django.utils.functional import lazy
from django.utils.translation import gettext_lazy as _

from admin_console.forms import Refusable
from admin_console.group_forms import GroupsField, ManagedGroupsField
from products.queries import catalogue, out_of_reach
from users.models import Role, User
from users.moments import zones
from users.queries import grantable_roles, may_change_email

LANGUAGES = [("", _("As the organisation’s")), *settings.LANGUAGES]
time_zones = lazy(lambda: [("", _("As the console’s")), *((zone, zone) for zone in zones())], list)


class NamedForm(Refusable):
    """What somebody is called, and where they are written to."""

    first_name = forms.CharField(label=_("First name"), required=False, max_length=64)
    last_name = forms.CharField(label=_("Last name"), required=False, max_length=64)
    email = forms.CharField(label=_("Email"), max_length=254, widget=forms.EmailInput)


class AddUserForm(NamedForm):
    """A user to add."""

    role = forms.ChoiceField(label=_("Role"))
    manages = ManagedGroupsField()
    language = forms.ChoiceField(label=_("Language"), required=False, choices=LANGUAGES)
    groups = GroupsField(label=_("User groups"))
    products = forms.MultipleChoiceField(label=_("Products to begin with"), required=False, widget=forms.CheckboxSelectMultiple)
    invited = forms.BooleanField(
        label=_("Send an invitation"),
        required=False,
        help_text=_("An email with a link to choose a password, which works for seven days."),
    )

    def __init__(self, data: Any = None, *, actor: User) -> None:
        super().__init__(data, initial={"role": Role.MEMBER, "invited": True})
        unreachable = out_of_reach(actor)
        fields: Any = self.fields
        roles = {Role.MEMBER: Role.MEMBER.label, **{role: role.label for role in grantable_roles(actor)}}
        fields["role"].choices = list(roles.items())
        fields["products"].choices = [
            (product.pk, product.name) for product in catalogue() if product.retired_at is None and product.pk not in unreachable
        ]
        fields["groups"].offer(actor)
        if Role.MANAGER in roles:
            fields["manages"].offer(actor)
        else:
            del fields["manages"]

    @property
    def product_ids(self) -> list[int]:
        return [int(number) for number in self.cleaned_data["products"]]


class EditUserForm(NamedForm):
    """Another name or email for a user; one's own email, when somebody else has to change it, is shown only."""

    def __init__(self, data: Any = None, *, actor: User, user: User) -> None:
        super().__init__(data, initial=model_to_dict(user, ["first_name", "last_name", "email"]))
        email = self.fields["email"]
        if not may_change_email(actor, user):
            email.widget.attrs["readonly"] = True
            email.help_text = _("Your email is not yours to change: please ask a Super admin.")
        elif user == actor:
            email.help_text = _("Another email signs you out elsewhere. Your password stays, and the old address is told.")
        else:
            email.help_text = _(
                "Another email ends the user’s password and sessions, and links to a password. Both addresses are told, "
                "and the user chooses a new password."
            )


class PreferencesForm(forms.Form):
    """The language in which somebody is written to, and the time zone in which they read times."""

    language = forms.ChoiceField(label=_("Language"), required=False, choices=LANGUAGES)
    time_zone = forms.ChoiceField(label=_("Time zone"), required=False, choices=time_zones)


class RoleForm(Refusable):
    """Another role for a user, and the groups that they manage as a Manager."""

    role = forms.ChoiceField(label=_("Role"))
    manages = ManagedGroupsField()
    quiet = forms.BooleanField(label=_("Do not notify the user about this change"), required=False)

    def __init__(self, data: Any = None, *, actor: User, user: User) -> None:
        managed = set(user.managed_groups.values_list("id", flat=True))
        super().__init__(data, initial={"role": user.role, "manages": managed})
        fields: Any = self.fields
        fields["role"].choices = [(role, role.label) for role in grantable_roles(actor)]
        fields["manages"].offer(actor, first=managed)
