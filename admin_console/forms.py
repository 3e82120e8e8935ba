"""What the console's forms accept: values read and checked. What they mean for the organisation, the actions decide."""

from typing import Any

from django import forms
from django.core.exceptions import BadRequest, ValidationError
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from products.models import TICKED_MODES, Mode

MOST_IDS = 500  # posted at once: the ids of one page, while everyone is selected by a draft
INT4 = 2**31 - 1


class Ids(forms.Field):
    """Ids posted under one name, as a list of integers."""

    widget = forms.MultipleHiddenInput

    def to_python(self, value: Any) -> list[int]:
        values = value or []
        if len(values) > MOST_IDS:
            raise ValidationError(_("That was too much at once. To act on many users, use “Select all” instead."), "too_many")
        for each in values:
            if not (each.isascii() and each.isdigit() and len(each) <= 10 and int(each) <= INT4):
                raise ValidationError(_("There is no product with the number %(id)s."), "unknown", {"id": each[:40]})
        return [int(each) for each in values]


class Reason(forms.CharField):
    """Text of an admin; a line break counts as one character, as it does in the browser."""

    widget = forms.Textarea

    def to_python(self, value: Any) -> str:
        return str(super().to_python(value)).replace("\r\n", "\n")


class TypedNumber(forms.CharField):
    """A number as people type it, with or without separators; None when it is left empty or is no number."""

    def to_python(self, value: Any) -> int | None:  # type: ignore[override]
        digits = "".join(character for character in str(value or "") if character not in " .,’'\u00a0\u202f")
        return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else None


class ChangeForm(forms.Form):
    """The dialog Manage products, and the products of one user."""

    # What the admin chooses
    mode = forms.ChoiceField(choices=[(mode.value, mode.label) for mode in TICKED_MODES])
    product = Ids(required=False)
    quiet = forms.BooleanField(required=False)
    reason = Reason(required=False, max_length=500)
    confirmed = TypedNumber(required=False)
    # What the console wrote into the form
    key = forms.UUIDField()
    expected = forms.IntegerField(min_value=0)  # how many users the preview was for
    shown = forms.ChoiceField(
        choices=[(mode.value, mode.label) for mode in TICKED_MODES]
    )  # the mode that the ticks were shown for
    draft = forms.UUIDField(required=False)
    user = Ids(required=False)

    WRITTEN_BY_US = ("key", "expected", "shown", "draft", "user")

    def __init__(self, posted: QueryDict) -> None:
        super().__init__(posted)
        self.full_clean()
        self.asked = dict(self.cleaned_data)  # kept when the change is refused: an error takes a value out of cleaned_data

    @classmethod
    def read(cls, posted: QueryDict) -> "ChangeForm":
        """Return the form as it was posted. Raises BadRequest when it is not ours: unknown fields, or broken hidden ones."""
        form = cls(posted)
        if unknown := posted.keys() - form.fields.keys() - {"csrfmiddlewaretoken"}:
            raise BadRequest(f"unknown fields: {sorted(unknown)}")
        if "too_many" in [error.code for error in form.errors.as_data().get("user", [])]:
            return form
        if broken := [name for name in cls.WRITTEN_BY_US if name in form.errors]:
            raise BadRequest(f"broken fields: {broken}")
        return form

    @property
    def asked_mode(self) -> str:
        """The mode, Replace when there is none."""
        return str(self.asked.get("mode") or Mode.REPLACE)

    @property
    def ticked(self) -> frozenset[int]:
        """The ids of the ticked products."""
        return frozenset(self.asked.get("product") or [])

    @property
    def notify(self) -> bool:
        """Whether change emails are to be sent: unless “Do not notify users about this change” is ticked."""
        return not self.asked.get("quiet")


class SeatsForm(forms.Form):
    """How many seats there are of a product; left empty, as many as wanted."""

    seats = forms.CharField(required=False, max_length=20)

    def clean_seats(self) -> int | None:
        text = self.cleaned_data["seats"]
        if not text:
            return None
        number = TypedNumber(required=False).to_python(text)
        if number is None:
            raise ValidationError(_("“%(text)s” is not a number of seats.") % {"text": text})
        return number


class UndoForm(forms.Form):
    """The question whether to undo a bulk change. Silent unless asked otherwise."""

    notify = forms.BooleanField(required=False)
    reason = Reason(required=False, max_length=500)
    confirmed = TypedNumber(required=False)
    key = forms.UUIDField()
    expected = forms.IntegerField(min_value=0)  # how many users the preview was for
