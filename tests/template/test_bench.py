"""The benchmark's own arithmetic, and what it says where `wrk` is missing; its numbers are for `make bench`."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "bench"


def python(*words: str, path: str = os.defpath) -> "subprocess.CompletedProcess[str]":
    rooms = [BENCH, ROOT / "template/src", ROOT / "template/scripts"]
    environ = {**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(map(str, rooms))}
    return subprocess.run([sys.executable, *words], env=environ, capture_output=True, text=True)


def test_without_wrk_it_says_what_to_install(tmp_path: Path) -> None:
    said = python(str(BENCH / "run.py"), path=str(tmp_path))
    assert said.returncode == 1 and said.stdout == ""
    assert said.stderr.startswith("bench: wrk, ") and said.stderr.count("\n") == 1


def test_a_gate_is_the_median_of_the_ratios_of_all_rounds() -> None:
    said = python(
        "-c",
        "from load import Sample; from report import GATES, gates\n"
        "rps = lambda *values: [Sample(value, 1, 1, 0, 1, 1, 1, 0) for value in values]\n"
        "samples = {('get', 64, 'S'): rps(300, 90, 55), ('get', 64, 'L1'): rps(100, 100, 50)}\n"
        "assert GATES[0].value(samples, 'S') == 1.1 and GATES[1].value(samples, 'S') is None\n"
        "print(gates(samples, ['S'], {'template': (1.3, 1), 'same files': (1.1, 1.18), 'empty': (1, 1.3)}))",
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.count("PASS") == 2 and said.stdout.count("FAIL") == 1  # CPU too; not the copy
    assert said.stdout.endswith("False\n")
