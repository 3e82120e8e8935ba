"""Checkpoints: what the chains have come to, signed (Ed25519) and put outside of the database, beyond its owner's reach."""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, cached_property
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import HTTPRedirectHandler, Request, build_opener

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Sum

from products.models import Chain, Checkpoint, HistoryBlock

WEBHOOK_PATIENCE = 5  # seconds
LOOKED_AT = 100  # stored checkpoints, at the most, to find one of our own among them

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Signed:
    """A checkpoint as it stands in a file: the text, its signature, and the public key that is said to have signed it."""

    payload: str
    signature: str
    key: str

    @cached_property
    def is_genuine(self) -> bool:
        """Whether this is a checkpoint, and the signature of it by this key. Whose key that is, is another question."""
        try:
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.key))
            key.verify(bytes.fromhex(self.signature), self.payload.encode())
        except (InvalidSignature, ValueError):
            return False
        return "chains" in json.loads(self.payload)  # the key also signs the manifests of evidence packs


def public_key() -> str:
    """Return the console's public key, by which anybody can check its signatures, in hexadecimal digits."""
    return _key(settings.HISTORY_KEY).public_key().public_bytes_raw().hex()


def sign(text: str) -> str:
    """Return the console's signature of a text, in hexadecimal digits."""
    return _key(settings.HISTORY_KEY).sign(text.encode()).hex()


def is_ours(checkpoint: Checkpoint) -> bool:
    """Return whether a stored checkpoint is one and signed by our own key: the console's role may add others."""
    own = public_key()
    return checkpoint.key == own and Signed(checkpoint.payload, checkpoint.signature, own).is_genuine


def latest(*, now: datetime) -> Checkpoint | None:
    """Return the newest stored checkpoint of our own that is not of the future; None if there is none among the newest."""
    newest = Checkpoint.objects.defer("at").order_by("-id")[:LOOKED_AT]
    return next((each for each in newest if is_ours(each) and _signed_at(each) <= now), None)


def make(*, now: datetime, every: timedelta = timedelta(0)) -> Checkpoint | None:
    """Sign what the chains have come to and return it; None when that is signed already, or something was so short a time ago."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtext('products_checkpoint'))")
        if not cursor.fetchone()[0]:
            return None
        last = latest(now=now)
        if last and _signed_at(last) > now - every:
            return None
        earlier = last.heads if last else {}
        heads = {chain.value: head for chain in Chain if (head := _head(chain, earlier.get(chain, {"block": 0, "rows": 0})))}
        if heads == earlier:
            return None
        payload = json.dumps({"at": now.isoformat(), "chains": heads}, sort_keys=True)
        return Checkpoint.objects.create(at=now, payload=payload, signature=sign(payload), key=public_key())


def publish(checkpoint: Checkpoint) -> None:
    """Put a checkpoint outside of the database: into the file, the log and, if there is one, to the webhook.

    What fails is logged: the next checkpoint tells all of it again.
    """
    line = json.dumps({"payload": checkpoint.payload, "signature": checkpoint.signature, "key": checkpoint.key})
    logger.info("checkpoint", extra={"payload": checkpoint.payload, "signature": checkpoint.signature, "key": checkpoint.key})
    try:
        with os.fdopen(os.open(settings.HISTORY_CHECKPOINTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "w") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        logger.error("checkpoint_not_written", extra={"path": str(settings.HISTORY_CHECKPOINTS), "error": str(error)})
    if settings.HISTORY_WEBHOOK:
        _post(settings.HISTORY_WEBHOOK, line)


def read(path: Path) -> Iterator[Signed | None]:
    """Yield the checkpoints of a file, None for a line that is none. Raises OSError."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                found = json.loads(line)
                yield Signed(str(found["payload"]), str(found["signature"]), str(found["key"]))
            except (ValueError, TypeError, KeyError):
                yield None


def stored(keys: Iterable[str]) -> Iterator[Signed]:
    """Yield the checkpoints that the database keeps and that one of these keys signed; what else is there counts for nothing."""
    rows = Checkpoint.objects.filter(key__in=list(keys)).order_by("id").values_list("payload", "signature", "key")
    for row in rows.iterator():
        if (signed := Signed(*row)).is_genuine:
            yield signed


def _signed_at(checkpoint: Checkpoint) -> datetime:
    """Return when one of our own says that it was signed; `at`, beside it, is not signed."""
    return datetime.fromisoformat(json.loads(checkpoint.payload)["at"])


@cache
def _key(secret: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"admin console history\0" + secret.encode()).digest())


def _head(chain: Chain, earlier: dict[str, Any]) -> dict[str, Any] | None:
    """Return the last block of a chain, and how many rows are sealed up to it; None if there is none."""
    last = HistoryBlock.objects.filter(chain=chain).order_by("-n").defer("leaves").first()
    if last is None:
        return None
    more = HistoryBlock.objects.filter(chain=chain, n__gt=earlier["block"]).aggregate(rows=Sum("rows"))["rows"] or 0
    return {"block": last.n, "digest": bytes(last.digest).hex(), "last_id": last.last_id, "rows": earlier["rows"] + more}


class _Stay(HTTPRedirectHandler):
    """Goes nowhere else than where the operator said."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _post(address: str, line: str) -> None:
    # The address is the operator's own (https, without a password in it: see settings); nothing of the answer is used.
    request = Request(address, line.encode(), {"Content-Type": "application/json"}, method="POST")  # noqa: S310
    try:
        with build_opener(_Stay).open(request, timeout=WEBHOOK_PATIENCE):
            pass
    except (OSError, HTTPException) as error:
        logger.warning("checkpoint_not_posted", extra={"error": str(error)})
