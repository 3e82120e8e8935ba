#!/usr/bin/env python3
# ruff: noqa: UP017, UP031  (this runs on older Pythons than the console)
"""Verify an evidence pack of the entitlement history, offline: `python3 verify.py PACK.zip [--key HEX]`.

Needs Python 3.9 or newer and nothing else; asks no database and no network. What it checks:

1. the manifest is signed (Ed25519), and each file of the pack is the one that the manifest names (SHA-256);
2. each row gives the very digest that was sealed for it, in the block that the manifest says;
3. the blocks follow one another without a gap, from the first one on;
4. they lead to a checkpoint that is signed by the same key.

Whose key it is, no pack can prove: compare it with the one your organisation gave you, or name that one by --key.
Ends with 0 when all holds, with 1 when something does not, and says what.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import struct
import sys
import zipfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

# Ed25519, verification only (RFC 8032). Points are (X, Y, Z, T) with x = X/Z, y = Y/Z, xy = T/Z.
Point = tuple[int, int, int, int]
P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def _x_of(y: int, odd: int) -> int:
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if (x * x - square) % P or (not x and odd):
        raise ValueError("not a point")
    return P - x if x & 1 != odd else x


def _point(data: bytes) -> Point:
    y = int.from_bytes(data, "little")
    odd, y = y >> 255, y & (2**255 - 1)
    if len(data) != 32 or y >= P:
        raise ValueError("not a point")
    x = _x_of(y, odd)
    return x, y, 1, x * y % P


def _add(one: Point, other: Point) -> Point:
    a = (one[1] - one[0]) * (other[1] - other[0]) % P
    b = (one[1] + one[0]) * (other[1] + other[0]) % P
    c, d = 2 * one[3] * other[3] * D % P, 2 * one[2] * other[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _times(point: Point, factor: int) -> Point:
    result = (0, 1, 1, 0)
    while factor:
        if factor & 1:
            result = _add(result, point)
        point, factor = _add(point, point), factor >> 1
    return result


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE_X = _x_of(BASE_Y, 0)
BASE = (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)


def is_signed(key: str, signature: str, text: bytes) -> bool:
    """Return whether the signature is of these bytes by this key; key and signature are hexadecimal digits."""
    try:
        public, signed = bytes.fromhex(key), bytes.fromhex(signature)
        if len(signed) != 64:
            return False
        point, commitment = _point(public), _point(signed[:32])
    except ValueError:
        return False
    s = int.from_bytes(signed[32:], "little")
    if s >= ORDER:
        return False
    challenge = int.from_bytes(hashlib.sha512(signed[:32] + public + text).digest(), "little") % ORDER
    left, right = _times(BASE, s), _add(commitment, _times(point, challenge))
    return not ((left[0] * right[2] - right[0] * left[2]) % P or (left[1] * right[2] - right[1] * left[2]) % P)


# What PostgreSQL's record_send() writes: the number of values, and of each its type, its length (-1: none) and its bytes.
BYTEA, INT8, INT4, MOMENT, INT4S = 17, 20, 23, 1184, 1007
EPOCH = datetime(2000, 1, 1, tzinfo=timezone.utc)


def _record(*values: tuple[int, Any]) -> bytes:
    told = [struct.pack(">i", len(values))]
    for kind, value in values:
        data = None if value is None else _SENT[kind](value)
        told.append(struct.pack(">Ii", kind, -1 if data is None else len(data)) + (data or b""))
    return b"".join(told)


def _moment(text: str) -> bytes:
    passed = datetime.fromisoformat(text) - EPOCH
    return struct.pack(">q", (passed.days * 86400 + passed.seconds) * 1000000 + passed.microseconds)


def _integers(values: Sequence[int]) -> bytes:
    shape = struct.pack(">iiI", 1, 0, INT4) + struct.pack(">ii", len(values), 1) if values else struct.pack(">iiI", 0, 0, INT4)
    return shape + b"".join(struct.pack(">ii", 4, value) for value in values)


_SENT: dict[int, Any] = {
    BYTEA: lambda value: value if isinstance(value, bytes) else value.encode(),
    INT8: lambda value: struct.pack(">q", value),
    INT4: lambda value: struct.pack(">i", value),
    MOMENT: _moment,
    INT4S: _integers,
}


def leaf(row: dict[str, Any]) -> bytes:
    """Return the digest that a row of the history has in its block."""
    return hashlib.sha256(
        _record(
            (INT8, row["id"]),
            (MOMENT, row["at"]),
            (INT4, row["user"]),
            (INT8, row["change"]),
            (INT4, row["actor"]),
            (BYTEA, row["source"]),
            (BYTEA, row["db_role"]),
            (INT4S, row["before"]),
            (INT4S, row["after"]),
            (INT4S, row["first"]),
        )
    ).digest()


def block_digest(block: dict[str, Any]) -> str:
    """Return the digest of a block; that of the block before is a part of it."""
    return hashlib.sha256(
        _record(
            (BYTEA, "HISTORY"),
            (INT4, block["n"]),
            (INT8, block["first_id"]),
            (INT8, block["last_id"]),
            (BYTEA, block["ids"]),
            (INT4, block["rows"]),
            (MOMENT, block["first_at"]),
            (MOMENT, block["last_at"]),
            (MOMENT, block["sealed_at"]),
            (BYTEA, bytes.fromhex(block["leaves"])),
            (BYTEA, bytes.fromhex(block["previous"])),
        )
    ).hexdigest()


class Ids:
    """Which ids a block holds, and the place of each in it."""

    def __init__(self, text: str) -> None:
        self.firsts: list[int] = []
        self.lasts: list[int] = []
        self.places: list[int] = []
        place = 0
        for first, last in re.findall(r"\[(\d+),(\d+)\)", text):
            self.firsts.append(int(first))
            self.lasts.append(int(last))
            self.places.append(place)
            place += int(last) - int(first)

    def place(self, number: int) -> int | None:
        """Return how many rows are before this one in the block, None when it is not in there."""
        at = bisect_right(self.firsts, number) - 1
        return self.places[at] + number - self.firsts[at] if at >= 0 and number < self.lasts[at] else None


class Pack:
    """A pack, what is wrong with it, and what was looked at."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive, self.rows, self.unsealed = archive, 0, 0
        self.wrong: list[str] = []
        self.text = archive.read("manifest.json")
        self.manifest = json.loads(self.text)
        self.key = self.manifest["key"]

    def verify(self) -> None:
        """Check everything; what does not hold is in `wrong` afterwards."""
        if not is_signed(self.key, self.archive.read("manifest.sig").decode().strip(), self.text):
            self.wrong.append("manifest.json is not signed by the key that it names")
        named = set(self.manifest["files"]) | {"manifest.json", "manifest.sig"}
        names = self.archive.namelist()
        self.wrong += ["%s is in the pack and not in the manifest" % name for name in set(names) - named]
        self.wrong += ["%s is in the pack more than once" % name for name in set(names) if names.count(name) > 1]
        for name, digest in self.manifest["files"].items():
            if name not in names:
                self.wrong.append("%s is missing" % name)
            elif self._digest(name) != digest:
                self.wrong.append("%s is not the file that was signed" % name)
        if self.wrong:
            return
        blocks = [json.loads(line) for line in self._lines("blocks.jsonl")]
        self._chain(blocks)
        self._rows({block["n"]: block for block in blocks})
        if self.rows != self.manifest["rows"]:
            self.wrong.append("there are %s rows; the manifest tells of %s" % (self.rows, self.manifest["rows"]))

    def _digest(self, name: str) -> str:
        found = hashlib.sha256()
        with self.archive.open(name) as file:
            for part in iter(lambda: file.read(1 << 20), b""):
                found.update(part)
        return found.hexdigest()

    def _lines(self, name: str) -> Iterator[bytes]:
        with self.archive.open(name) as file:
            for line in file:
                if line.strip():
                    yield line

    def _chain(self, blocks: list[dict[str, Any]]) -> None:
        previous, last = "00" * 32, 0
        for number, block in enumerate(blocks, 1):
            if block_digest(block) != block["digest"]:
                self.wrong.append("block %s was changed" % block["n"])
            if (block["n"], block["previous"], block["first_id"]) != (number, previous, last + 1):
                self.wrong.append("block %s does not follow the one before it" % block["n"])
            previous, last = block["digest"], block["last_id"]
        self.signed = 0  # up to which block a checkpoint vouches
        for line in self._lines("checkpoints.jsonl"):
            point = json.loads(line)
            if point["key"] != self.key or not is_signed(point["key"], point["signature"], point["payload"].encode()):
                self.wrong.append("a checkpoint is not signed by the key of the pack")
                continue
            head = json.loads(point["payload"])["chains"].get("HISTORY")
            if head and (head["block"] > len(blocks) or blocks[head["block"] - 1]["digest"] != head["digest"]):
                self.wrong.append("a signed checkpoint tells of another block %s" % head["block"])
            elif head:
                self.signed = max(self.signed, head["block"])
        if len(blocks) > self.signed:
            self.wrong.append("no signed checkpoint tells of the blocks after %s" % self.signed)

    def _rows(self, blocks: dict[int, dict[str, Any]]) -> None:
        order = sorted(blocks)
        lasts = [blocks[n]["last_id"] for n in order]
        opened: tuple[int, Ids, bytes] | None = None
        before = 0
        for name in sorted(name for name in self.manifest["files"] if name.startswith("history") and name.endswith(".jsonl")):
            for line in self._lines(name):
                row = json.loads(line)
                self.rows += 1
                if row["id"] <= before:
                    self.wrong.append("row %s is told twice or out of order" % row["id"])
                before = row["id"]
                at = bisect_right(lasts, row["id"] - 1)
                if at == len(order):
                    self.unsealed += 1
                    continue
                if opened is None or opened[0] != order[at]:
                    opened = order[at], Ids(blocks[order[at]]["ids"]), self._leaves(blocks[order[at]])
                place = opened[1].place(row["id"])
                if place is None or opened[2][32 * place : 32 * place + 32] != leaf(row):
                    self.wrong.append("row %s is not the one that was sealed in block %s" % (row["id"], opened[0]))

    def _leaves(self, block: dict[str, Any]) -> bytes:
        name = "blocks/%s.leaves" % block["n"]
        leaves = self.archive.read(name) if name in self.manifest["files"] else b""
        if hashlib.sha256(leaves).hexdigest() != block["leaves"]:
            self.wrong.append("the digests of the rows of block %s are not those that were sealed" % block["n"])
        return leaves


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify a pack, say what was found, and return the exit code."""
    parser = argparse.ArgumentParser(description="Verify an evidence pack, offline.")
    parser.add_argument("pack", help="the .zip file")
    parser.add_argument("--key", help="the public key that it has to be signed by, in hexadecimal digits")
    asked = parser.parse_args(arguments)
    try:
        with zipfile.ZipFile(asked.pack) as archive:
            pack = Pack(archive)
            pack.verify()
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, struct.error) as error:
        print("NOT VERIFIED: this is no whole evidence pack (%s: %s)." % (type(error).__name__, error))
        return 1
    if asked.key and asked.key.lower() != pack.key:
        pack.wrong.insert(0, "the pack is signed by another key than the one named")
    print("Key: %s%s" % (pack.key, "" if asked.key else " (compare it with the one your organisation gave you)"))
    print("Rows: %s, made at %s; asked for: %s" % (pack.rows, pack.manifest["made_at"], pack.manifest["asked"]))
    if pack.unsealed:
        print("Not sealed yet when the pack was made, so only signed as a part of it: %s rows." % pack.unsealed)
    for line in pack.wrong[:100]:
        print("WRONG: %s" % line)
    if len(pack.wrong) > 100:
        print("WRONG: and %s more" % (len(pack.wrong) - 100))
    print("NOT VERIFIED" if pack.wrong else "VERIFIED")
    return 1 if pack.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
