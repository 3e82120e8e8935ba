"""What the console's forms accept: values read and checked. What they mean for the organisation, the actions decide."""

from typing import Any

from django import forms
from django.core.exceptions import BadRequest, ValidationError
from django.forms.models import model_to_dict
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from products.catalogue import LONGEST_CODE, LONGEST_NAME
from products.models import TICKED_MODES, Mode, Product
from products.previews import PER_PRODUCT, Number
from products.refusals import ChangeRefused
from users.typed import LAST_ID, number

MOST_IDS = 500  # posted at once: the ids of one page, while everyone is selected by a draft


class Ids(forms.Field):
    """Ids posted under one name, as a list of integers."""

    widget = forms.MultipleHiddenInput

    def to_python(self, value: Any) -> list[int]:
        values, ids = value or [], []
        if len(values) > MOST_IDS:
            raise ValidationError(_("That was too much at once. To act on many users, use “Select all” instead."), "too_many")
        for each in values:
            if (found := number(each, most=LAST_ID)) is None:
                raise ValidationError(_("There is no product with the number %(id)s."), "unknown", {"id": each[:40]})
            ids.append(found)
        return ids


class Refusable(forms.Form):
    """A form that shows what was refused when it was acted on, like what it refuses itself."""

    def fail(self, field: str, message: str) -> None:
        """Show the message beside the field, or above all when there is no such field."""
        self.add_error(field if field in self.fields else None, message)


class Reason(forms.CharField):
    """Text of an admin; a line break counts as one character, as it does in the browser."""

    widget = forms.Textarea

    def to_python(self, value: Any) -> str:
        return str(super().to_python(value)).replace("\r\n", "\n")


class TypedNumber(forms.CharField):
    """A number as people type it, with or without separators; None when it is left empty or is no number."""

    def to_python(self, value: Any) -> int | None:  # type: ignore[override]
        digits = "".join(character for character in str(value or "") if character not in " .,’'\u00a0\u202f")
        return number(digits, most=LAST_ID)


class ChoiceForm(forms.Form):
    """What an admin chooses in Manage products, and for whom."""

    mode = forms.ChoiceField(choices=[(mode.value, mode.label) for mode in TICKED_MODES])
    product = Ids(required=False)
    quiet = forms.BooleanField(required=False)
    until_full = forms.BooleanField(required=False)
    reason = Reason(required=False, max_length=500)
    draft = forms.UUIDField(required=False)
    user = Ids(required=False)

    def __init__(self, posted: QueryDict) -> None:
        super().__init__(posted)
        self.full_clean()
        self.asked = dict(self.cleaned_data)  # kept when the change is refused: an error takes a value out of cleaned_data

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

    @property
    def asked_until_full(self) -> bool:
        """Whether, short of seats, some users are to be left out."""
        return bool(self.asked.get("until_full"))


class ChangeForm(ChoiceForm):
    """The dialog Manage products, and the products of one user."""

    confirmed = TypedNumber(required=False)
    # What the console wrote into the form
    key = forms.UUIDField()
    expected = forms.IntegerField(min_value=0)  # how many users the preview was for
    mark = forms.IntegerField(required=False, min_value=-(2**63), max_value=2**63 - 1)  # who they are, as one number
    catalogue = forms.IntegerField(required=False, min_value=0, max_value=2**32 - 1)  # what may be done with which, as one number
    shown = forms.ChoiceField(choices=[(mode.value, mode.label) for mode in TICKED_MODES])  # the mode that the ticks were for

    WRITTEN_BY_US = ("key", "expected", "mark", "catalogue", "shown", "draft", "user")
    refused: ChangeRefused | None = None  # why the change was not made

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


class AffectedForm(ChoiceForm):
    """The names behind a number of the preview: a choice, which number, of which product, and from which user on."""

    number = forms.ChoiceField(choices=[(number.value, number.value) for number in Number])
    of = forms.IntegerField(required=False, min_value=1, max_value=LAST_ID)
    after = forms.IntegerField(required=False, min_value=0, max_value=LAST_ID)
    before = forms.IntegerField(required=False, min_value=0, max_value=LAST_ID)

    @classmethod
    def read(cls, query: QueryDict) -> "AffectedForm":
        """Return what the URL asks for. Raises BadRequest when the console wrote no such URL."""
        form = cls(query)
        if not form.is_valid() or (form.asked["number"] in PER_PRODUCT) != bool(form.asked["of"]):
            raise BadRequest(f"not a number of the preview: {form.errors}")
        return form


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


class ProductForm(Refusable):
    """A product to add or to change: its code is settled with the first, and retired is only what there is."""

    name = forms.CharField(label=_("Name"), max_length=LONGEST_NAME)
    code = forms.CharField(
        label=_("Code"),
        required=False,
        max_length=LONGEST_CODE,
        help_text=_("Import files can name the product by it. Left empty, it is made of the name; it cannot be changed later."),
    )
    onboarding = forms.BooleanField(
        label=_("Onboarding email"), required=False, help_text=_("A first-ever activation sends an email on how to use it.")
    )
    restricted = forms.BooleanField(
        label=_("Restricted"), required=False, help_text=_("Only admins may grant or remove it, managers may not.")
    )
    retired = forms.BooleanField(
        label=_("Retired"),
        required=False,
        help_text=_("Whoever holds it keeps it, and nobody is newly given it. A bulk change that runs goes on to its end."),
    )

    def __init__(self, data: Any = None, *, product: Product | None = None) -> None:
        super().__init__(data, initial=model_to_dict(product) | {"retired": product.retired_at is not None} if product else None)
        del self.fields["code" if product else "retired"]


class UndoForm(forms.Form):
    """The question whether to undo a bulk change. Silent unless asked otherwise."""

    notify = forms.BooleanField(required=False)
    reason = Reason(required=False, max_length=500)
    confirmed = TypedNumber(required=False)
    key = forms.UUIDField()
    expected = forms.IntegerField(min_value=0)  # how many users the preview was for
