"""What is sealed and signed of the history and of the record of admins, as support reads it."""

import json
from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from products import checkpoints
from products.models import Chain, Checkpoint, HistoryBlock
from products.verification import Kind
from users.reading_room import ChoiceFilter, PeriodFilter, ReadOnlyAdmin, Text, column, moment, page_link


def _code(text: str) -> SafeString:
    return format_html('<code class="reading-code">{}</code>', text)


@admin.register(Checkpoint)
class CheckpointAdmin(ReadOnlyAdmin):
    """The signed checkpoints, newest first: what to compare with those that were put outside of the database."""

    list_display = ("when", "sealed", "signed_text")
    list_filter = (PeriodFilter,)
    fieldsets = ((None, {"fields": ("when", "sealed", "payload", "signature", "public_key", "line")}),)

    @column(_("when"))
    def when(self, row: Any) -> SafeString:
        return moment(row.at)

    @column(_("sealed"))
    def sealed(self, row: Any) -> str:
        try:
            if not checkpoints.Signed(row.payload, row.signature, row.key).is_genuine:
                return str(Kind.SIGNATURE.label)
            told = ((Chain(chain).label, head) for chain, head in row.heads.items())
            sealed = "; ".join(_extent(str(chain), rows=head["rows"], blocks=head["block"]) for chain, head in told)
        except (AttributeError, KeyError, TypeError, ValueError):  # whoever has a key of their own signs what they like by it
            return str(Kind.SIGNATURE.label)
        if row.key == checkpoints.public_key():
            return sealed
        return _now("%(sealed)s (signed by another key than the console has now)") % {"sealed": sealed}

    @column(_("signature"))
    def signed_text(self, row: Any) -> SafeString:
        return _code(row.signature[:32] + "…")

    @column(_("public key"))
    def public_key(self, row: Any) -> SafeString:
        return _code(row.key)

    @column(_("as a line of the file"))
    def line(self, row: Any) -> SafeString:
        return _code(json.dumps({"payload": row.payload, "signature": row.signature, "key": row.key}))


class OfChain(ChoiceFilter):
    name = field = "chain"
    title = _("Record")

    def options(self) -> Sequence[tuple[str, Text]]:
        return Chain.choices


class SealedIn(PeriodFilter):
    field = "sealed_at"


@admin.register(HistoryBlock)
class HistoryBlockAdmin(ReadOnlyAdmin):
    """The sealed blocks, newest first."""

    list_display = ("number", "record", "row_numbers", "rows", "sealed", "digest_told")
    list_filter = (OfChain, SealedIn)
    fieldsets = (
        (None, {"fields": ("record", "number", "row_numbers", "rows", "first", "last", "sealed", "digest_told", "before")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[HistoryBlock]:
        return HistoryBlock.objects.defer("leaves")

    @column(_("block"))
    def number(self, row: Any) -> str:
        return f"#{row.n}"

    @column(_("record"))
    def record(self, row: Any) -> str:
        return str(row.get_chain_display())

    @column(_("rows"))
    def row_numbers(self, row: Any) -> SafeString:
        text = f"{row.first_id}–{row.last_id}"
        page = "products_accesschange_changelist" if row.chain == Chain.HISTORY else "users_adminaction_changelist"
        return page_link(page, text, after=row.last_id + 1)

    @column(_("from"))
    def first(self, row: Any) -> SafeString:
        return moment(row.first_at)

    @column(_("until"))
    def last(self, row: Any) -> SafeString:
        return moment(row.last_at)

    @column(_("sealed"))
    def sealed(self, row: Any) -> SafeString:
        return moment(row.sealed_at)

    @column(_("digest"))
    def digest_told(self, row: Any) -> SafeString:
        return _code(bytes(row.digest).hex())

    @column(_("digest of the block before"))
    def before(self, row: Any) -> SafeString:
        return _code(bytes(row.previous).hex())


def _extent(chain: str, *, rows: int, blocks: int) -> str:
    """Return how much of a chain is sealed."""
    if rows == 1:
        return _now("%(chain)s: one row in one block") % {"chain": chain}
    words = ngettext("%(chain)s: %(rows)s rows in %(blocks)s block", "%(chain)s: %(rows)s rows in %(blocks)s blocks", blocks)
    return words % {"chain": chain, "rows": rows, "blocks": blocks}
