"""`python -m benchmarks`: seed the organisation, measure, print the table, write the JSON. Fails when a part of it does.

BENCH_USERS (1,000,000), BENCH_ONLY (parts, separated by commas), BENCH_REPEAT (3), BENCH_JSON (var/bench.json).
"""

import importlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROMISED = 1_000_000  # users; with fewer, no goal is missed
PARTS = ("mail", "everyone", "some", "listing", "meanwhile", "evidence", "rivals", "answers")  # answers change the history


@contextmanager
def throwaway_home() -> Iterator[Path]:
    """Yield a folder of this run; those of runs that were killed are removed."""
    # Not /tmp, which may be memory: what is written here has to reach a disk as a console's data does.
    above = Path("/var/tmp") if Path("/var/tmp").is_dir() else Path(tempfile.gettempdir())  # noqa: S108
    for folder in above.glob("admin-console-bench-[0-9]*"):
        if not Path(f"/proc/{folder.name.rpartition('-')[2]}").exists():
            shutil.rmtree(folder, ignore_errors=True)
    home = above / f"admin-console-bench-{os.getpid()}"
    home.mkdir()
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def set_up(home: Path) -> None:
    """Set Django up with the console's settings as `make run` has them, whatever the environment says."""
    for name in re.findall(r'env\.\w+\(\s*"([A-Z_]+)"', (ROOT / "admin_console" / "settings.py").read_text()):
        os.environ.pop(name, None)
        os.environ.pop(f"{name}_FILE", None)
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "admin_console.settings",
        "ADMIN_CONSOLE_HOME": str(home / "home"),
        "DATABASE_URL": "postgresql://console@/none?host=/nowhere",
        "DATABASE_OWNER_URL": "postgresql://console_owner@/none?host=/nowhere",
        "REDIS_URL": f"unix://{home}/valkey.sock",
        "EMAIL_HOST": "127.0.0.1",  # no mail server: nobody is written to
        "EMAIL_PORT": "9",
    }
    import django

    django.setup()


def main() -> int:
    """Measure the parts that were asked for; return the exit code."""
    users = int(os.environ.get("BENCH_USERS", "").replace(",", "").replace("_", "") or 1_000_000)
    repeat = int(os.environ.get("BENCH_REPEAT", "") or 3)
    wanted = [name for name in re.split(r"[\s,]+", os.environ.get("BENCH_ONLY", "")) if name] or list(PARTS)
    if unknown := set(wanted) - set(PARTS):
        print(f"BENCH_ONLY: there is no part {min(unknown)}; there are {', '.join(PARTS)}.", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped first
    with throwaway_home() as home:
        set_up(home)
        from benchmarks.bench import TEMPLATE, Bench, timed
        from benchmarks.organisation import make_organisation
        from benchmarks.report import Figure, table, write
        from benchmarks.servers import postgres_in
        from tests.processes import Broker

        path = Path(os.environ.get("BENCH_JSON", "") or ROOT / "var" / "bench.json")
        sections: dict[str, list[Figure]] = {}
        failed: dict[str, str] = {}
        with ExitStack() as stack:
            superuser = stack.enter_context(postgres_in(home))
            broker = Broker(home)
            stack.callback(broker.kill)
            broker.start()
            print(f"Seeding {users:,} users", flush=True)
            seeding = timed(lambda: make_organisation(superuser, TEMPLATE, users))
            sections["organisation"] = [
                Figure(
                    work=f"Seeding {users:,} users", ours=f"{seeding:.0f} s", value=seeding, goal="≤ 180 s", met=seeding <= 180
                )
            ]
            bench = Bench(home, superuser, broker, users, repeat, stack)
            for name in wanted:
                print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
                sections[name] = []
                try:
                    for figure in importlib.import_module(f"benchmarks.{name}").measure(bench):
                        sections[name].append(figure if users >= PROMISED else replace(figure, met=None))
                except Exception:
                    failed[name] = traceback.format_exc()
                    print(failed[name], file=sys.stderr, flush=True)
                write(path, users=users, seeding=seeding, sections=sections, failed=failed)  # what follows may be stopped
        print("\n" + table([figure for figures in sections.values() for figure in figures]))
        print(f"\nWritten to {path}." + "".join(f" Part {name} FAILED." for name in failed), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
