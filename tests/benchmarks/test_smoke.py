"""The bench still measures everything; its figures are of no interest here."""

import json
import subprocess
import sys

import pytest

from benchmarks.__main__ import PARTS
from tests.processes import ROOT, environment

FIGURES = {
    "organisation": 1,
    "mail": 3,
    "everyone": 6,
    "some": 2,
    "listing": 14,
    "meanwhile": 8,
    "answers": 8,
    "evidence": 3,
    "rivals": 4,
}


@pytest.mark.slow
def test_the_bench_measures_every_row_of_its_table(tmp_path):
    told = tmp_path / "bench.json"
    asked = {"BENCH_USERS": "600", "BENCH_REPEAT": "1", "BENCH_ONLY": "", "BENCH_JSON": str(told)}

    done = subprocess.run(
        [sys.executable, "-m", "benchmarks"], cwd=ROOT, env=environment(**asked), capture_output=True, text=True, timeout=300
    )

    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(told.read_text())
    assert {part: len(figures) for part, figures in found["sections"].items()} == FIGURES
    assert FIGURES.keys() - {"organisation"} == set(PARTS)
    assert all(figure["work"] in done.stdout for figures in found["sections"].values() for figure in figures)


def test_a_part_that_nobody_knows_is_refused():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks"], cwd=ROOT, env=environment(BENCH_ONLY="nothing"), capture_output=True, text=True
    )

    assert done.returncode == 2
    assert "there is no part nothing" in done.stderr
