"""The organisation's colour in emails, made readable where it would not be."""

LIGHT_PAPER, DARK_PAPER = "#ffffff", "#1e232b"  # of templates/emails/frame.html
ENOUGH = 4.5  # the contrast that WCAG asks of text


def readable(colour: str, paper: str) -> str:
    """Return the colour, as much darker or lighter as makes it readable on the paper. Both are written #rrggbb."""
    towards = (0, 0, 0) if _luminance(_parts(paper)) > 0.5 else (255, 255, 255)
    parts = _parts(colour)
    for step in range(21):
        mixed = tuple(round(part + (end - part) * step / 20) for part, end in zip(parts, towards, strict=True))
        if contrast(mixed, _parts(paper)) >= ENOUGH:
            break
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """Return the contrast of two colours, from 1 to 21."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _parts(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


def _luminance(parts: tuple[int, ...]) -> float:
    red, green, blue = ((part / 255 / 12.92) if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
