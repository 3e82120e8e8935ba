"""What the forms about user groups accept: some of them to choose, and one to add or change."""

from collections.abc import Collection
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from users.models import User, UserGroup
from users.queries import visible_groups, with_subgroups


class GroupsField(forms.ModelMultipleChoiceField):  # type: ignore[type-arg]  # of which it is, only its stubs can be told
    """User groups to tick, each by its path; once `offer` has said which."""

    widget = forms.CheckboxSelectMultiple

    def __init__(self, **options: Any) -> None:
        super().__init__(UserGroup.objects.none(), required=False, **options)

    def offer(self, actor: User, *, first: Collection[int] = ()) -> None:
        """Let the actor choose from the groups they see: the `first` ones, then the others, in the order of the tree."""
        paths = visible_groups(actor)
        self.queryset = UserGroup.objects.filter(pk__in=[group for group, _path in paths])
        self.choices = sorted(paths, key=lambda choice: choice[0] not in first)


class ManagedGroupsField(GroupsField):
    """The user groups that a user manages as a Manager."""

    def __init__(self) -> None:
        words = _("A Manager sees the users of these groups and of their subgroups.")
        super().__init__(label=_("Managed groups"), help_text=words)


class UserGroupsForm(forms.Form):
    """The groups that a user is in."""

    groups = GroupsField(label=_("User groups"))

    def __init__(self, data: Any = None, *, actor: User, user: User) -> None:
        own = set(user.memberships.values_list("group_id", flat=True))
        super().__init__(data, initial={"groups": own})
        fields: Any = self.fields
        fields["groups"].offer(actor, first=own)


class GroupForm(forms.Form):
    """A user group to add or to change."""

    name = forms.CharField(label=_("Name"), max_length=120)
    parent = forms.ModelChoiceField(
        UserGroup.objects.none(), label=_("Subgroup of"), required=False, empty_label=_("No other group")
    )

    def __init__(self, data: Any = None, *, actor: User, group: UserGroup | None = None) -> None:
        super().__init__(data, initial={"name": group.name, "parent": group.parent_id} if group else None)
        inside = set(with_subgroups([group.pk])) if group else set()
        paths = [choice for choice in visible_groups(actor) if choice[0] not in inside]
        fields: Any = self.fields
        fields["parent"].queryset = UserGroup.objects.filter(pk__in=[pk for pk, _path in paths])
        fields["parent"].choices = [("", fields["parent"].empty_label), *paths]
