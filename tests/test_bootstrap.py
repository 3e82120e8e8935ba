"""bin/bootstrap: the environment in use stays whole until another one is; with a Python that only pretends to install."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import ROOT, wait_until

PRETENDS = """#!/bin/sh
case "$*" in
    -V) echo "Python 3.13.0" ;;
    "-m venv "*)
        mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo "command = venv $PWD/$3" >"$3/pyvenv.cfg"
        echo "#!$PWD/$3/bin/python" >"$3/bin/celery" ;;
    "-m pip "*)
        case "$PIP" in
            fails) exit 1 ;;
            dies) kill -9 $PPID ;;
            waits) while [ ! -e go ]; do sleep 0.02; done ;;
        esac ;;
esac
"""

Bootstrap = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the folder of a console with nothing in it but what bin/bootstrap reads."""
    (tmp_path / "bin").mkdir()
    shutil.copy(ROOT / "bin" / "bootstrap", tmp_path / "bin")
    for lock in ("requirements.lock", "requirements-dev.lock"):
        (tmp_path / lock).write_text("celery==5.7\n")
    (tmp_path / "python").write_text(PRETENDS)
    (tmp_path / "python").chmod(0o755)
    return tmp_path


@pytest.fixture
def bootstrap(root: Path) -> Bootstrap:
    """Return what starts bin/bootstrap, with a pip that does as it is told."""

    def start(pip: str = "") -> "subprocess.Popen[str]":
        known = {"PATH": "/usr/bin:/bin", "PYTHON": str(root / "python"), "PIP": pip}
        return subprocess.Popen([root / "bin" / "bootstrap"], env=known, stderr=subprocess.PIPE, text=True)

    return start


@pytest.mark.parametrize("pip", ["fails", "dies"])
def test_what_is_in_use_stays_until_all_is_installed_beside_it(root: Path, bootstrap: Bootstrap, pip: str) -> None:
    assert bootstrap("").wait(10) == 0
    used = root / ".venv" / "used"
    used.touch()
    assert bootstrap("fails").wait(10) == 0  # for nothing is to be installed
    (root / "requirements.lock").write_text("celery==5.8\n")
    (root / "requirements-dev.lock").write_text("celery==5.8\n")

    assert bootstrap(pip).wait(10) != 0
    assert used.exists()

    assert bootstrap("").wait(10) == 0
    assert not used.exists()
    assert (root / ".venv" / "bin" / "celery").read_text() == f"#!{root}/.venv/bin/python\n"
    assert (root / ".venv" / "pyvenv.cfg").read_text() == f"command = venv {root}/.venv\n"
    assert [path.name for path in root.glob(".venv*")] == [".venv"]


def test_two_at_once_install_once(root: Path, bootstrap: Bootstrap) -> None:
    first = bootstrap("waits")
    wait_until((root / ".venv.new").exists, 10, "the installation")
    second = bootstrap("waits")
    assert second.stderr
    assert second.stderr.readline() == "Waiting for another installation.\n"
    (root / "go").touch()

    assert (first.communicate(timeout=10)[1], first.returncode) == (
        "Installing the packages of requirements.lock with Python 3.13.0.\n",
        0,
    )
    assert (second.communicate(timeout=10)[1], second.returncode) == ("", 0)
