"""Evidence packs: some of the entitlement history as one signed file, which `verify_pack` verifies offline.

A pack is made step by step, some sealed blocks at a time, so a worker is never held for long and the memory is that of a step.
"""

import csv
import hashlib
import io
import json
import tempfile
import zipfile
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from itertools import batched
from pathlib import Path
from typing import IO, Any, Self
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import transaction
from django.db.models import BinaryField, Q, QuerySet, TextField
from django.db.models.expressions import RawSQL
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from notifications.phrases import labelled
from products import checkpoints, sealing, verify_pack
from products.export import BOM, safe
from products.models import AccessChange, BulkChange, Chain, EvidencePack, HistoryBlock, Source
from products.queries import product_names
from users.models import Action, Capability, User, UserGroup
from users.moments import zones
from users.queries import UserFilter, can, users_matching
from users.record import record
from users.typed import number, searched

KEPT = timedelta(days=7)
LEASE = timedelta(minutes=2)
ATTEMPTS = 3
WINDOW = 20  # blocks of a step
UNSEALED = 100_000  # ids of a step where nothing is sealed
AT_ONCE = 2_000  # rows in memory
README = """This is a part of the entitlement history: who was granted or lost which product, when, by whom and why.

history-*.csv     the rows, to be read
history-*.jsonl   the same rows as they were sealed, to be verified
changes-*.jsonl   the bulk changes that these rows name
blocks.jsonl      the sealed blocks of the whole history; blocks/ has the digests of the rows of those that these rows are in
checkpoints.jsonl what the console signed of them
manifest.json     what was asked for, and the SHA-256 of each file; manifest.sig is its signature (Ed25519)
verify.py         verifies all of this, offline: python3 verify.py THIS.zip --key KEY

Ask your organisation for the KEY by another way than this file, and for verify.py too if you do not trust the one in here.
"""


class InvalidHistoryFilter(ValueError):
    """What a filter of the history says cannot be; the text says why."""


@dataclass(frozen=True, kw_only=True)
class HistoryFilter:
    """What narrows the history down, as the list of Django admin asks it; all of it must hold."""

    person: str = ""  # a number, or some of a name or an email
    group: int | None = None
    granted: int | None = None
    revoked: int | None = None
    by: str = ""
    change: int | None = None
    since: str = ""  # days, the last one included, in `zone`
    until: str = ""
    source: str = ""
    q: str = ""
    zone: str = "UTC"

    @classmethod
    def from_query(cls, query: Mapping[str, str], *, zone: str = "UTC") -> Self:
        """Read the filter from a URL's query, or from `as_dict`. Raises InvalidHistoryFilter."""
        told = {name: searched(str(query.get(name) or "")) for name in cls.__dataclass_fields__}
        numbers: dict[str, Any] = {name: _number(told[name]) for name in ("group", "granted", "revoked", "change")}
        told["zone"] = told["zone"] or zone
        if told["zone"] not in zones():
            raise InvalidHistoryFilter(_("“%(zone)s” is not a time zone like Europe/Paris.") % {"zone": told["zone"]})
        for name in ("since", "until"):
            _day(told[name], told["zone"])
        if told["source"] and told["source"] not in Source:
            raise InvalidHistoryFilter(_("There is no such choice."))
        words: dict[str, Any] = {name: told[name] for name in ("person", "by", "since", "until", "source", "q", "zone")}
        return cls(**words, **numbers)

    def as_dict(self) -> dict[str, Any]:
        """Return what the filter asks as JSON; `from_query` reads it back."""
        return {name: value for name, value in asdict(self).items() if value not in ("", None)}

    def rows(self, *, now: datetime) -> QuerySet[AccessChange]:
        """Return the rows found, in the order of their ids."""
        rows = AccessChange.objects.order_by("id")
        for words, field in ((self.person, "user"), (self.by, "actor")):
            rows = rows.filter(_of_people(field, words, now=now)) if words else rows
        if self.group is not None:
            members = users_matching(User.objects.all(), UserFilter(group=(self.group,)), now=now)
            rows = rows.filter(user__in=members.values("pk"))
        if self.granted is not None:
            rows = rows.filter(after__contains=[self.granted]).exclude(before__contains=[self.granted])
        if self.revoked is not None:
            rows = rows.filter(before__contains=[self.revoked]).exclude(after__contains=[self.revoked])
        rows = rows.filter(change=self.change) if self.change is not None else rows
        rows = rows.filter(at__gte=since) if (since := _day(self.since, self.zone)) else rows
        rows = rows.filter(at__lt=until) if (until := _day(self.until, self.zone, days=1)) else rows
        rows = rows.filter(source=self.source) if self.source else rows
        if not self.q:
            return rows
        if (change := number(self.q)) is not None:
            return rows.filter(change=change)
        reasons = BulkChange.objects.filter(reason__icontains=self.q)
        return rows.filter(_of_people("user", self.q, now=now) | Q(change__in=reasons.values("pk")))

    def in_words(self) -> str:
        """Return what is asked for, to be read."""
        names, groups = product_names(), dict(UserGroup.objects.values_list("id", "name"))
        told = [
            (_("user"), self.person),
            (_("user group"), groups.get(self.group, self.group) if self.group is not None else ""),
            (_("granted"), names.get(self.granted, self.granted) if self.granted is not None else ""),
            (_("revoked"), names.get(self.revoked, self.revoked) if self.revoked is not None else ""),
            (_("by"), self.by),
            (_("bulk change"), f"#{self.change}" if self.change is not None else ""),
            (_("from"), f"{self.since} ({self.zone})" if self.since else ""),
            (pgettext("end of a period", "to"), f"{self.until} ({self.zone})" if self.until else ""),
            (_("source"), Source(self.source).label if self.source else ""),
            (_("search"), self.q),
        ]
        return ", ".join(labelled(label, value) for label, value in told if value) or _("the whole entitlement history")


class NotAllowed(Exception):
    """The actor may not export evidence."""


def request_pack(*, actor: User, wanted: HistoryFilter, now: datetime) -> EvidencePack:
    """Ask for a pack of the rows that the filter finds now, and record it; the same rows again while it waits are the same pack.

    Raises NotAllowed.
    """
    if not can(actor, Capability.EXPORT_EVIDENCE):
        raise NotAllowed
    asked = wanted.as_dict()
    plain: dict[str, Any] = {
        name: asked.pop(name) for name in ("group", "granted", "revoked", "change", "since", "until", "source") if name in asked
    }
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=actor.pk)  # who clicks twice asks once
        last = AccessChange.objects.order_by("-id").values_list("id", flat=True).first() or 0
        same = {"actor": actor, "wanted": wanted.as_dict(), "last_id": last, "state": EvidencePack.State.WAITING}
        pack, is_new = EvidencePack.objects.get_or_create(**same, defaults={"requested_at": now})
        if not is_new:
            return pack
        record(
            Action.EVIDENCE_EXPORTED,
            actor=actor,
            subject=pack.pk,
            after={"pack": pack.pk, "last_row": last, **plain},
            words=asked,
        )
    return pack


def waiting() -> list[int]:
    """Return the ids of the packs that a worker has to go on with."""
    return list(EvidencePack.objects.filter(state=EvidencePack.State.WAITING).order_by("id").values_list("id", flat=True))


def path_of(pack: EvidencePack) -> Path:
    """Return where the file of a pack is."""
    return Path(settings.EVIDENCE_FOLDER) / f"{pack.pk}.zip"


def advance(*, pack_id: int, now: datetime) -> bool:
    """Do the next step of a pack that waits, if nobody is at it; return whether there is more to do.

    A step that ended with its process left a broken file: the pack is begun anew, and given up after some attempts. A pack
    that was withdrawn during the step stays so.
    """
    pack = _claim(pack_id, now)
    if pack is None:
        return False
    if pack.checkpoint_id is None:
        _begin(pack, now)
    is_whole = pack.reached >= pack.last_id
    with zipfile.ZipFile(path_of(pack), "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        step = _Step(pack, archive)
        step.finish(now) if is_whole else step.add_rows(now)
    come: dict[str, Any] = {name: getattr(pack, name) for name in ("reached", "checkpoint", "pieces", "rows", "files")}
    if is_whole:
        come |= {"state": EvidencePack.State.READY, "size": path_of(pack).stat().st_size, "expires_at": now + KEPT}
    ours = EvidencePack.objects.filter(pk=pack.pk, lease_until=pack.lease_until)
    if not ours.filter(state=EvidencePack.State.WAITING).update(lease_until=None, **come):
        ours.update(lease_until=None)  # withdrawn: `expire` may remove the file now
        return False
    return not is_whole


def withdraw_all(*, now: datetime) -> None:
    """Let no pack there is be fetched or gone on with, and forget what they were asked for by: any may name who is erased.

    Part of the caller's transaction; the files go after it, those that are being written as soon as their step has ended.
    """
    kept = EvidencePack.objects.exclude(state=EvidencePack.State.EXPIRED)
    kept.update(state=EvidencePack.State.EXPIRED, wanted={}, files={}, expires_at=now)
    transaction.on_commit(lambda: expire(now=now))


def expire(*, now: datetime) -> int:
    """Remove the files that were kept long enough and that nobody writes, with what they were asked for by; return how many."""
    old = list(EvidencePack.objects.filter(_free(now), expires_at__lte=now))
    for pack in old:
        path_of(pack).unlink(missing_ok=True)
    gone: dict[str, Any] = {
        "state": EvidencePack.State.EXPIRED,
        "wanted": {},
        "files": {},
        "expires_at": None,
        "lease_until": None,
    }
    return EvidencePack.objects.filter(pk__in=[pack.pk for pack in old]).update(**gone)


def _free(now: datetime) -> Q:
    """Return the condition that nobody writes a pack."""
    return Q(lease_until=None) | Q(lease_until__lte=now)


@transaction.atomic
def _claim(pack_id: int, now: datetime) -> EvidencePack | None:
    waiting = EvidencePack.objects.filter(_free(now), pk=pack_id, state=EvidencePack.State.WAITING)
    pack = waiting.select_for_update(skip_locked=True).first()
    if pack is None:
        return None
    if pack.lease_until is not None or pack.attempts == 0:
        pack.reached = pack.rows = pack.pieces = 0
        pack.files, pack.checkpoint = {}, None
        pack.attempts += 1
        path_of(pack).unlink(missing_ok=True)
    pack.lease_until = now + LEASE
    if pack.attempts > ATTEMPTS:
        pack.state, pack.lease_until, pack.expires_at = EvidencePack.State.FAILED, None, now + KEPT
    pack.save()
    return pack if pack.state == EvidencePack.State.WAITING else None


def _begin(pack: EvidencePack, now: datetime) -> None:
    """Seal and sign what there is, so that as much as may be can be verified."""
    path_of(pack).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    sealing.seal()
    if made := checkpoints.make(now=now):
        checkpoints.publish(made)
    pack.checkpoint = checkpoints.latest(now=now)


class _Step:
    """One step of writing a pack: some rows, or at last what they are verified by."""

    def __init__(self, pack: EvidencePack, archive: zipfile.ZipFile) -> None:
        self.pack, self.archive = pack, archive
        self.wanted = HistoryFilter.from_query(pack.wanted)
        head = pack.checkpoint.heads.get(Chain.HISTORY) if pack.checkpoint else None
        self.blocks = HistoryBlock.objects.filter(chain=Chain.HISTORY, n__lte=head["block"] if head else 0).order_by("n")

    def add_rows(self, now: datetime) -> None:
        """Write the rows of the next blocks; where nothing is sealed, of the next ids."""
        blocks = list(self.blocks.filter(last_id__gt=self.pack.reached).defer("leaves")[:WINDOW])
        until = min(blocks[-1].last_id if blocks else self.pack.reached + UNSEALED, self.pack.last_id)
        rows = self.wanted.rows(now=now).filter(id__gt=self.pack.reached, id__lte=until)
        if blocks:  # so that other months are not looked into
            times = (min(block.first_at for block in blocks), max(block.last_at for block in blocks))
            rows = rows.filter(at__range=times)
        written = self._write_rows(rows)
        touched = [block for block in blocks if bisect_left(written, block.first_id) < bisect_right(written, block.last_id)]
        for n, leaves in self.blocks.filter(n__in=[block.n for block in touched]).values_list("n", "leaves").iterator(1):
            self._add(f"blocks/{n}.leaves", [bytes(leaves)])
        self.pack.reached = until

    def finish(self, now: datetime) -> None:
        """Write what the rows are verified by, and sign it."""
        self._add("blocks.jsonl", _lines(self._block(*each) for each in self._headers()))
        point = self.pack.checkpoint
        told = {"payload": point.payload, "signature": point.signature, "key": point.key} if point else {}
        self._add("checkpoints.jsonl", _lines([told] if told else []))
        self._add("verify.py", [Path(verify_pack.__file__).read_bytes()])
        self._add("README.txt", [README.encode()])
        manifest = {
            "format": 1,
            "organisation": settings.ORGANISATION_NAME,
            "made_at": now.isoformat(),
            "made_by": self.pack.actor_id,
            "asked": self.wanted.in_words(),
            "filter": self.pack.wanted,
            "last_row": self.pack.last_id,
            "rows": self.pack.rows,
            "key": checkpoints.public_key(),
            "files": self.pack.files,
        }
        text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False)
        self.archive.writestr("manifest.json", text)
        self.archive.writestr("manifest.sig", checkpoints.sign(text) + "\n")

    def _write_rows(self, rows: QuerySet[AccessChange]) -> Sequence[int]:
        """Write some rows, both ways, and the changes they name; return their ids."""
        ids: list[int] = []
        changes: dict[int, dict[str, Any]] = {}
        with tempfile.TemporaryFile("w+b") as sheet, tempfile.TemporaryFile("w+b") as sealed:
            table = io.TextIOWrapper(sheet, "utf-8", newline="", write_through=True)
            writer = csv.writer(table)
            table.write(BOM)
            writer.writerow(_titles())
            for some in batched(rows.iterator(AT_ONCE), AT_ONCE):
                self._write_batch(some, writer, sealed, changes)
                ids += [row.pk for row in some]
            table.detach()
            if ids:
                self.pack.pieces, self.pack.rows = self.pack.pieces + 1, self.pack.rows + len(ids)
                piece = f"{self.pack.pieces:05}"
                self._add(f"history-{piece}.csv", _parts(sheet))
                self._add(f"history-{piece}.jsonl", _parts(sealed))
                self._add(f"changes-{piece}.jsonl", _lines(changes.values()))
        return ids

    def _write_batch(
        self, rows: Sequence[AccessChange], writer: Any, sealed: IO[bytes], changes: dict[int, dict[str, Any]]
    ) -> None:
        users = User.objects.defer("password").in_bulk(
            {row.user_id for row in rows} | {row.actor_id for row in rows if row.actor_id}
        )
        named = {row.change_id for row in rows if row.change_id} - changes.keys()
        changes |= {change.pk: _change(change) for change in BulkChange.objects.filter(pk__in=named)}
        names = product_names()
        for row in rows:
            reason = changes[row.change_id]["reason"] if row.change_id in changes else ""
            writer.writerow([safe(cell) if isinstance(cell, str) else cell for cell in _cells(row, users, names, reason)])
            sealed.write(json.dumps(_sealed(row), separators=(",", ":")).encode() + b"\n")

    def _headers(self) -> Iterator[Any]:
        fields = (
            "n",
            "first_id",
            "last_id",
            "told",
            "rows",
            "first_at",
            "last_at",
            "sealed_at",
            "digested",
            "previous",
            "digest",
        )
        told, digested = RawSQL("ids::text", [], TextField()), RawSQL("sha256(leaves)", [], BinaryField())
        return self.blocks.annotate(told=told, digested=digested).values_list(*fields).iterator()

    def _block(self, *told: Any) -> dict[str, Any]:
        fields = ("n", "first_id", "last_id", "ids", "rows", "first_at", "last_at", "sealed_at", "leaves", "previous", "digest")
        block = dict(zip(fields, told, strict=True))
        times = {name: block[name].isoformat() for name in ("first_at", "last_at", "sealed_at")}
        return {**block, **times, **{name: bytes(block[name]).hex() for name in ("leaves", "previous", "digest")}}

    def _add(self, name: str, parts: Iterable[bytes]) -> None:
        """Write a file of the pack, and remember its digest for the manifest."""
        digest = hashlib.sha256()
        with self.archive.open(name, "w", force_zip64=True) as file:
            for part in parts:
                digest.update(part)
                file.write(part)
        self.pack.files[name] = digest.hexdigest()


def _titles() -> list[str]:
    return [
        _("Row"), _("When (UTC)"), _("User"), _("Name"), _("Email"), _("Granted"), _("Revoked"), _("First time"),
        _("Held before"), _("Held afterwards"), _("By"), _("By (name)"), _("Bulk change"), _("Reason"), _("Source"),
        _("Database role"),
    ]  # fmt: skip


def _cells(row: AccessChange, users: Mapping[int, User], names: Mapping[int, str], reason: str) -> list[Any]:
    user, actor = users.get(row.user_id), users.get(row.actor_id or 0)
    sets = (row.granted, row.revoked, row.first, row.before, row.after)
    told = ["; ".join(names.get(product, f"#{product}") for product in products) for products in sets]
    who = [user.name if user else "", user.email if user else ""]
    done = [row.actor_id or "", actor.name if actor else "", row.change_id or "", reason, row.source, row.db_role]
    return [row.pk, row.at.isoformat(), row.user_id, *who, *told, *done]


def _sealed(row: AccessChange) -> dict[str, Any]:
    """Return a row with all that its digest is made of."""
    return {
        "id": row.pk, "at": row.at.isoformat(), "user": row.user_id, "change": row.change_id, "actor": row.actor_id,
        "source": row.source, "db_role": row.db_role, "before": row.before, "after": row.after, "first": row.first,
    }  # fmt: skip


def _change(change: BulkChange) -> dict[str, Any]:
    return {
        "id": change.pk, "actor": change.actor_id, "at": change.requested_at.isoformat(), "mode": change.mode,
        "products": change.products, "preserved": change.preserved, "selection": change.selection, "undoes": change.undoes_id,
        "notify": change.notify, "reason": change.reason, "source": change.source, "state": change.state,
    }  # fmt: skip


def _lines(told: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    return (json.dumps(each, ensure_ascii=False).encode() + b"\n" for each in told)


def _parts(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    return iter(lambda: file.read(1 << 20), b"")


def _of_people(field: str, words: str, *, now: datetime) -> Q:
    """Return the condition to be about a person: by their number, or by some of their name or email."""
    if (person := number(words)) is not None:
        return Q(**{field: person}) if person < 2**31 else Q(pk=None)
    found = users_matching(User.objects.all(), UserFilter.from_query({"search": [words]}), now=now)
    return Q(**{f"{field}__in": found.order_by().values("pk")})


def _number(text: str) -> int | None:
    if text and number(text) is None:
        raise InvalidHistoryFilter(_("“%(text)s” is not a number.") % {"text": text})
    return number(text)


def _day(text: str, zone: str, *, days: int = 0) -> datetime | None:
    """Return when a day, or one so many days later, begins in a time zone."""
    try:
        day = date.fromisoformat(text) + timedelta(days) if text else None
    except (ValueError, OverflowError):
        raise InvalidHistoryFilter(_("“%(text)s” is not a date like 2026-11-22.") % {"text": text}) from None
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)) if day else None
