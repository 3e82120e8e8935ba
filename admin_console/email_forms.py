"""What the forms about emails accept: their words, and how the organisation shows itself in them."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from admin_console.forms import Refusable
from notifications.customising import MOST_LOGO
from notifications.models import MailIdentity, ReplyTo
from users.models import User
from users.queries import visible_to


class WordsForm(Refusable):
    """The words of an email, and about whom to show it."""

    subject = forms.CharField(label=_("Subject"), required=False, max_length=1_000)
    html = forms.CharField(
        label=_("Message (HTML)"), required=False, strip=False, widget=forms.Textarea(attrs={"rows": 16, "class": "textarea"})
    )
    text = forms.CharField(
        label=_("Message as text"),
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 8, "class": "textarea"}),
        help_text=_("Left empty, it is made from the HTML."),
    )
    about = forms.CharField(
        label=_("Show it for"), required=False, max_length=254, help_text=_("The email of a user, whose data the preview shows.")
    )
    after = forms.IntegerField(min_value=0, widget=forms.HiddenInput)  # the newest version when the form was shown

    def __init__(self, *args: Any, actor: User, **named: Any) -> None:
        super().__init__(*args, **named)
        self.actor = actor

    def clean_about(self) -> User:
        asked = self.cleaned_data["about"].strip().lower()
        found = visible_to(self.actor).filter(email=asked).first() if asked else self.actor
        if found is None:
            raise forms.ValidationError(_("There is no user with this email."))
        return found

    @property
    def words(self) -> dict[str, str]:
        """What was written."""
        return {name: self.cleaned_data[name] for name in ("subject", "html", "text")}


class IdentityForm(Refusable):
    """How the organisation shows itself in emails."""

    organisation = forms.CharField(label=_("Name of the organisation"), required=False, max_length=80)
    accent = forms.CharField(label=_("Colour"), max_length=7, widget=forms.TextInput(attrs={"type": "color"}))
    logo = forms.FileField(
        label=_("Logo"), required=False, help_text=_("A PNG of at most 32 kB, shown 40 pixels high."), max_length=200
    )
    no_logo = forms.BooleanField(label=_("Without a logo"), required=False)
    sender_name = forms.CharField(label=_("Name of the sender"), required=False, max_length=80)
    sender_address = forms.CharField(label=_("Address of the sender"), required=False, max_length=254)
    reply_to = forms.ChoiceField(label=_("Replies go to"), choices=ReplyTo.choices, widget=forms.RadioSelect)
    reply_address = forms.CharField(label=_("Address for replies"), required=False, max_length=254)
    names_actor = forms.BooleanField(label=_("Emails name the admin who acted"), required=False)

    KEPT = ("organisation", "accent", "sender_name", "sender_address", "reply_to", "reply_address", "names_actor")

    @classmethod
    def of(cls, kept: MailIdentity) -> "IdentityForm":
        """Return the form as it is first shown."""
        return cls(initial={name: getattr(kept, name) for name in cls.KEPT})

    @property
    def chosen(self) -> dict[str, Any]:
        """What was chosen; the logo only when it is another one."""
        found = {name: self.cleaned_data[name] for name in self.KEPT}
        if self.cleaned_data["no_logo"]:
            return {**found, "logo": None}
        file = self.cleaned_data["logo"]
        return {**found, "logo": file.read(MOST_LOGO + 1)} if file else found
