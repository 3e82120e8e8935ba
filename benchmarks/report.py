"""What was measured: one figure beside its yardstick and its goal, printed as a table and written as JSON."""

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the table. `value` is what the goal speaks of: a ratio, a time, a count."""

    work: str
    goal: str
    value: float | None  # None: the goal is words, `met` says whether they hold
    met: bool | None  # None: nothing is promised, or too small a run to tell
    ours: str = ""
    yardstick: str = ""
    details: dict[str, Any] = field(default_factory=dict)


def at_most(value: float, limit: float, unit: str = "") -> dict[str, Any]:
    """Return the part of a Figure that says: no more than this."""
    return {"value": value, "goal": f"≤ {limit:g}{unit}", "met": value <= limit}


def at_least(value: float, limit: float, unit: str = "") -> dict[str, Any]:
    """Return the part of a Figure that says: no less than this."""
    return {"value": value, "goal": f"≥ {limit:,g}{unit}", "met": value >= limit}


def seconds(measured: Sequence[float] | float) -> str:
    """Return a time, or the median of several, as it is read."""
    value = measured if isinstance(measured, int | float) else median(measured)
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1e3:.1f} ms" if value >= 1e-3 else f"{value * 1e6:.1f} µs"


def percentile(measured: Iterable[float], share: float) -> float:
    """Return the value that `share` of the measured ones do not exceed."""
    ordered = sorted(measured)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_at_the_end": round(os.getloadavg()[0], 2),
    }


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as a table of Markdown, which a terminal shows well too."""
    rows = [("work", "ours", "yardstick", "figure", "goal", "met")]
    rows += [
        (
            figure.work,
            figure.ours,
            figure.yardstick,
            "" if figure.value is None else f"{figure.value:,.3g}" if figure.value < 1000 else f"{figure.value:,.0f}",
            figure.goal,
            {True: "yes", False: "NO", None: "–"}[figure.met],
        )
        for figure in figures
    ]
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def write(path: Path, *, users: int, seeding: float, sections: dict[str, list[Figure]], failed: dict[str, str]) -> None:
    """Write everything measured as JSON."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "users": users,
        "seeding_seconds": round(seeding, 1),
        "machine": machine(),
        "sections": {name: [asdict(figure) for figure in figures] for name, figures in sections.items()},
        "failed": failed,
    }
    path.write_text(json.dumps(told, indent=1, ensure_ascii=False, default=str) + "\n")
