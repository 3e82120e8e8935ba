"""Verifying: whether the rows are still those that were sealed, the blocks still follow one another, and lead to the checkpoints.

The digests are computed by the SQL in here, not by what the database calls its functions: those are its owner's to change.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any

from django.db import connection
from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from products.checkpoints import Signed
from products.models import Chain, HistoryBlock
from products.sealing import TABLES, Window, unsealed
from users.models import AdminAction

AT_A_TIME = 100  # blocks
NAMED = 10_000  # rows of one block, at the most
STRETCHES = 20  # of checkpoints that tell of other blocks of a chain; those after them are told as one


class Kind(TextChoices):
    """What is wrong."""

    CHANGED = "CHANGED", pgettext_lazy("a row", "changed")
    MISSING = "MISSING", pgettext_lazy("a row", "missing")
    ADDED = "ADDED", pgettext_lazy("a row", "added")
    BLOCK = "BLOCK", _("the block itself was changed")
    LINK = "LINK", _("a block before it is missing or was changed")
    CUT_OFF = "CUT_OFF", _("a signed checkpoint tells of it, and it is not there")
    REPLACED = "REPLACED", _("a signed checkpoint tells of another block in its place")
    SIGNATURE = "SIGNATURE", _("a checkpoint is not signed by the key")
    DROP = "DROP", _("no true record of dropped history")


@dataclass(frozen=True)
class Damage:
    """Something that is not as it was sealed: in which chain, block (None: before all of them) and rows.

    If checkpoints tell of it: up to which block, and from when until when those were signed.
    """

    chain: Chain | None
    block: int | None
    kind: Kind
    rows: tuple[int, ...] = ()
    last: int | None = None
    signed: tuple[datetime, datetime] | None = None


@dataclass
class Finding:
    """What a verification looked at, and the damage it found."""

    blocks: int = 0
    rows: int = 0
    checkpoints: int = 0
    erased: int = 0  # admin actions whose words were erased on request
    dropped: list[dict[str, Any]] = field(default_factory=list)  # parts of the history dropped as too old, as recorded
    unsealed: dict[Chain, Window] = field(default_factory=dict)
    damage: list[Damage] = field(default_factory=list)


# By a role that could not have dropped it: of before such records were refused (users/migrations/0009). Of a role that is no more
# it cannot be told, but whoever makes roles vanish could have written the record as the owner.
DROPS = """
SELECT a.id, b.n, a.after ->> 'ids', a.after ->> 'rows', a.after ->> 'from', a.after ->> 'until', EXISTS (
    SELECT FROM pg_roles r, pg_class owned WHERE r.rolname = a.db_role AND owned.oid = 'users_adminaction'::regclass
    AND NOT pg_has_role(r.oid, owned.relowner, 'MEMBER')
) AS by_others
FROM users_adminaction a
LEFT JOIN products_historyblock b ON b.chain = 'ACTIONS' AND a.id BETWEEN b.first_id AND b.last_id
WHERE a.action = 'history.dropped' ORDER BY a.id
"""
RANGE = r"\[[0-9]{1,18},[0-9]{1,18}\)"
RANGES = re.compile(rf"\{{(?:{RANGE}(?:,{RANGE})*+)?\}}")
# As products_history_leaf and products_record_leaf of migration 0008.
LEAF = {
    Chain.HISTORY: "sha256(record_send(ROW(id, at, user_id, change_id, actor_id, convert_to(source, 'UTF8'), "
    "convert_to(db_role, 'UTF8'), before, after, first)))",
    Chain.ACTIONS: "sha256(record_send(ROW(id, at, convert_to(action, 'UTF8'), actor_id, subject_id, "
    "convert_to(db_role, 'UTF8'), convert_to(before::text, 'UTF8'), convert_to(after::text, 'UTF8'), words_digest)))",
}
LINKS = """
SELECT n, rows, digest IS DISTINCT FROM sha256(record_send(ROW(
    convert_to(chain, 'UTF8'), n, first_id, last_id, convert_to(ids::text, 'UTF8'), rows, first_at, last_at, sealed_at,
    sha256(leaves), previous
))) OR length(leaves) <> 32 * rows OR NOT ids <@ int8range(first_id, last_id, '[]') AS changed,
    (n, first_id - 1, previous) IS DISTINCT FROM (
        coalesce(lag(n) OVER w, 0) + 1, coalesce(lag(last_id) OVER w, 0),
        coalesce(lag(digest) OVER w, decode(repeat('00', 32), 'hex'))
    ) AS unlinked
FROM products_historyblock WHERE chain = %s WINDOW w AS (ORDER BY n) ORDER BY n
"""
DIFFERENT = """
SELECT b.n FROM products_historyblock b CROSS JOIN LATERAL (
    SELECT string_agg(leaf, '' ORDER BY id) AS leaves
    FROM (SELECT id, {leaf} AS leaf FROM {table} WHERE id BETWEEN b.first_id AND b.last_id) found
) found
WHERE b.chain = %(chain)s AND b.n = ANY(%(blocks)s) AND found.leaves IS DISTINCT FROM b.leaves
AND NOT (found.leaves IS NULL AND b.ids <@ %(dropped)s::int8multirange)
"""
ROWS = """
WITH block AS (SELECT * FROM products_historyblock WHERE chain = %(chain)s AND n = %(n)s), sealed AS (
    SELECT id, substr(leaves, (32 * (row_number() OVER (ORDER BY id) - 1) + 1)::int, 32) AS leaf
    FROM (SELECT leaves, generate_series(lower(part), upper(part) - 1) AS id FROM block, unnest(block.ids) AS part) numbered
), found AS (
    SELECT id, {leaf} AS leaf FROM {table} WHERE id BETWEEN (SELECT first_id FROM block) AND (SELECT last_id FROM block)
), compared AS (
    SELECT id, CASE WHEN found.leaf IS NULL THEN 'MISSING' WHEN sealed.leaf IS NULL THEN 'ADDED'
        WHEN found.leaf <> sealed.leaf THEN 'CHANGED' END AS kind
    FROM sealed FULL JOIN found USING (id)
    WHERE NOT (found.leaf IS NULL AND id <@ %(dropped)s::int8multirange)
)
SELECT kind, (array_agg(id ORDER BY id))[1:%(named)s] FROM compared WHERE kind IS NOT NULL GROUP BY kind ORDER BY kind
"""
BEFORE_ALL = "SELECT id FROM {table} WHERE id < 1 ORDER BY id LIMIT %s"
# Words are not in the digest of their row, but their own digest is. They may be gone if a later erasure names their row; erasures
# that name none are of before they had to (users/migrations/0006), so of before any that does.
WORDS = """
WITH named AS (
    SELECT DISTINCT named::bigint AS id, e.id AS erasure FROM users_adminaction e,
        jsonb_path_query(e.after, '$.words[*] ? (@.type() == "number" && @ > 0 && @ < 9223372036854775807)') AS named
    WHERE e.action = 'user.erased'
), naming AS (
    SELECT min(id) AS first FROM users_adminaction WHERE action = 'user.erased' AND after IS NOT NULL
)
SELECT a.id, b.n FROM users_adminaction a
LEFT JOIN products_historyblock b ON b.chain = 'ACTIONS' AND a.id BETWEEN b.first_id AND b.last_id
WHERE (a.words IS NOT NULL AND a.words_digest IS DISTINCT FROM sha256(a.salt || convert_to(a.words::text, 'UTF8')))
OR (a.words IS NULL AND a.words_digest IS NOT NULL
    AND NOT EXISTS (SELECT FROM named WHERE named.id = a.id AND erasure > a.id)
    AND NOT EXISTS (SELECT FROM users_adminaction e, naming WHERE e.action = 'user.erased' AND e.after IS NULL AND e.at >= a.at
        AND e.id < coalesce(naming.first, e.id + 1)))
ORDER BY a.id LIMIT %s
"""


def verify(*, keys: Iterable[str], checkpoints: Iterable[Signed | None] = (), since: datetime | None = None) -> Finding:
    """Verify both chains and return what was found; rows only of the blocks that reach beyond `since`, links of all.

    `checkpoints` are those from outside of the database, None for what could not be read as one; `keys` are the public keys of
    the console. Without checkpoints, blocks cut off at the end and blocks all forged anew cannot be found.
    """
    finding = Finding(unsealed=unsealed())
    finding.damage += _drops(finding)
    dropped = ",".join(filter(None, (part["ids"][1:-1] for part in finding.dropped)))
    finding.erased = AdminAction.objects.filter(words__isnull=True, words_digest__isnull=False).count()
    for chain in Chain:
        finding.damage += _links(chain, finding)
        finding.damage += _rows(chain, since, f"{{{dropped}}}" if chain == Chain.HISTORY else "{}", finding)
    finding.damage += _words()
    finding.damage += _signed(list(checkpoints), set(keys), finding)
    return finding


def _drops(finding: Finding) -> Iterator[Damage]:
    """Note what was dropped, as recorded; yield the records that cannot be true, which excuse nothing."""
    with connection.cursor() as cursor:
        cursor.execute(DROPS)
        for number, block, ids, rows, starts, ends, by_others in cursor.fetchall():
            if by_others or None in (starts, ends) or rows != str(_size(ids or "")):
                yield Damage(Chain.ACTIONS, block, Kind.DROP, (number,))
            else:
                finding.dropped.append({"ids": ids, "rows": int(rows), "from": starts, "until": ends})


def _size(ids: str) -> int | None:
    """Return how many ids there are in a multirange as the database writes it, None when the text is none."""
    if not RANGES.fullmatch(ids):
        return None
    ends = [int(end) for end in re.findall("[0-9]+", ids)]
    return sum(ends[1::2]) - sum(ends[::2]) if ends == sorted(set(ends)) else None


def _links(chain: Chain, finding: Finding) -> Iterator[Damage]:
    with connection.cursor() as cursor:
        cursor.execute(LINKS, [chain])
        for n, _rows_of_it, changed, unlinked in cursor.fetchall():
            finding.blocks += 1
            if changed:
                yield Damage(chain, n, Kind.BLOCK)
            if unlinked:
                yield Damage(chain, n, Kind.LINK)


def _rows(chain: Chain, since: datetime | None, dropped: str, finding: Finding) -> Iterator[Damage]:
    """Yield the rows that differ from their blocks; blocks are compared as wholes first."""
    blocks = HistoryBlock.objects.filter(chain=chain).order_by("n")
    numbers = list((blocks.filter(last_at__gte=since) if since else blocks).values_list("n", "rows"))
    of = {"leaf": LEAF[chain], "table": TABLES[chain]}
    with connection.cursor() as cursor:
        for start in range(0, len(numbers), AT_A_TIME):
            part = numbers[start : start + AT_A_TIME]
            facts: dict[str, Any] = {"chain": chain, "blocks": [n for n, _size in part], "dropped": dropped, "named": NAMED}
            cursor.execute(DIFFERENT.format(**of), facts)
            for n in sorted(row[0] for row in cursor.fetchall()):
                cursor.execute(ROWS.format(**of), {**facts, "n": n})
                for kind, ids in cursor.fetchall():
                    yield Damage(chain, n, Kind(kind), tuple(ids))
            finding.rows += sum(size for _n, size in part)
        cursor.execute(BEFORE_ALL.format(**of), [NAMED])
        if before_all := tuple(row[0] for row in cursor.fetchall()):
            yield Damage(chain, None, Kind.ADDED, before_all)


def _words() -> Iterator[Damage]:
    with connection.cursor() as cursor:
        cursor.execute(WORDS, [NAMED])
        for number, block in cursor.fetchall():
            yield Damage(Chain.ACTIONS, block, Kind.CHANGED, (number,))


def _signed(checkpoints: list[Signed | None], keys: set[str], finding: Finding) -> Iterator[Damage]:
    """Yield what the checkpoints tell of that is not so: each stretch of them, as they were signed one after another.

    A restored database has other blocks than the checkpoints between the dump and the restore tell of. That is a stretch of its
    own, and whoever forges a block after the restore makes another: of the first such block alone nobody could tell.
    """
    told: dict[Chain, set[tuple[datetime, int, str]]] = {}
    for checkpoint in checkpoints:
        finding.checkpoints += 1
        if checkpoint is None or checkpoint.key not in keys or not checkpoint.is_genuine:
            yield Damage(None, None, Kind.SIGNATURE)
            continue
        at, heads = _told(checkpoint)
        for chain, block, digest in heads:
            told.setdefault(chain, set()).add((at, block, digest))
    for chain, heads_of_chain in told.items():
        yield from _stretches(chain, sorted(heads_of_chain))


def _stretches(chain: Chain, told: list[tuple[datetime, int, str]]) -> Iterator[Damage]:
    """Yield each stretch of what was told of a chain, (when, block, digest), that is not so."""
    blocks = list({block for _at, block, _digest in told})
    there = dict(HistoryBlock.objects.filter(chain=chain, n__any=blocks).values_list("n", "digest"))

    def wrong(head: tuple[datetime, int, str]) -> Kind | None:
        _at, block, digest = head
        if block not in there:
            return Kind.CUT_OFF
        return None if bytes(there[block]).hex() == digest else Kind.REPLACED

    stretches = [(kind, list(heads)) for kind, heads in groupby(told, wrong)]
    for kind in (Kind.CUT_OFF, Kind.REPLACED):
        found = [heads for wrong_kind, heads in stretches if wrong_kind == kind]
        rest = [head for heads in found[STRETCHES:] for head in heads]
        for heads in filter(None, [*found[:STRETCHES], rest]):
            numbers = [block for _at, block, _digest in heads]
            yield Damage(chain, min(numbers), kind, last=max(numbers), signed=(heads[0][0], heads[-1][0]))


def _told(checkpoint: Signed) -> tuple[datetime, list[tuple[Chain, int, str]]]:
    """Return when a checkpoint was signed, and of each chain the last block then and its digest."""
    told = json.loads(checkpoint.payload)
    heads = [(Chain(chain), int(head["block"]), str(head["digest"])) for chain, head in told["chains"].items()]
    return datetime.fromisoformat(told["at"]), heads
