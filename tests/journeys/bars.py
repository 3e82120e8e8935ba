"""A font of bars: every letter is the same solid box, so that a text looks and measures the same on every machine."""

import struct
from functools import cache

EM, ADVANCE, HEIGHT, ASCENT, DESCENT = 1_000, 540, 520, 930, 240
LETTERS = [*range(0x21, 0x7F), *range(0xA1, 0x180), *range(0x2010, 0x2060), *range(0x2190, 0x2200), 0x2212]
SPACES = [0x20, 0xA0, 0x202F]
BAR, SPACE = 1, 2


@cache
def font_of_bars() -> bytes:
    """Return the font as a TrueType file, made here: nothing is fetched, and none is in the repository."""
    bar = struct.pack(">5hHH", 1, 0, 0, ADVANCE, HEIGHT, 3, 0)  # one contour of four points, and no instructions
    bar += struct.pack(">4B4h4h", 1, 1, 1, 1, 0, 0, ADVANCE, 0, 0, HEIGHT, 0, -HEIGHT)  # each point from the one before
    bar += b"\0" * (-len(bar) % 4)
    glyphs = dict.fromkeys(LETTERS, BAR) | dict.fromkeys(SPACES, SPACE)
    groups = b"".join(struct.pack(">3I", code, code, glyph) for code, glyph in sorted(glyphs.items()))
    tables = {
        b"OS/2": struct.pack(">HhHHH86x", 4, ADVANCE, 400, 5, 0),
        b"cmap": struct.pack(">HHHHI", 0, 1, 3, 10, 12) + struct.pack(">HHIII", 12, 0, 16 + len(groups), 0, len(glyphs)) + groups,
        b"glyf": bar + bar,
        b"head": struct.pack(
            ">IIIIHHQQ4hHHhhh", 0x10000, 0x10000, 0, 0x5F0F3CF5, 0, EM, 0, 0, 0, 0, ADVANCE, HEIGHT, 0, 8, 2, 1, 0
        ),
        b"hhea": struct.pack(">I3hH11hH", 0x10000, ASCENT, -DESCENT, 0, ADVANCE, 0, 0, ADVANCE, 1, *[0] * 7, 3),
        b"hmtx": struct.pack(">HhHhHh", ADVANCE, 0, ADVANCE, 0, ADVANCE // 2, 0),
        b"loca": struct.pack(">4I", 0, len(bar), 2 * len(bar), 2 * len(bar)),
        b"maxp": struct.pack(">I14H", 0x10000, 3, 4, 1, 0, 0, 1, *[0] * 8),
        b"name": struct.pack(">HHH", 0, 0, 6),
        b"post": struct.pack(">IIhhIIIII", 0x30000, 0, -100, 50, 0, 0, 0, 0, 0),
    }
    where, heads, bodies = 12 + 16 * len(tables), b"", b""
    for tag, body in tables.items():
        heads += struct.pack(">4sIII", tag, 0, where + len(bodies), len(body))
        bodies += body + b"\0" * (-len(body) % 4)
    return struct.pack(">IHHHH", 0x10000, len(tables), 128, 3, 32) + heads + bodies
