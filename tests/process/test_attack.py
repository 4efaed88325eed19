"""`make attack` in its short form: hostile clients and bad days, against a stamped service."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROBES = "smuggling,endless,protocol-errors,sigterm,raw-sql,values,secrets"
"""Those whose result does not depend on how busy the machine is."""


@pytest.mark.parametrize("engine", ["postgresql"])
def test_a_stamped_service_stands(engine: str) -> None:
    path = os.pathsep.join(str(ROOT / each) for each in ("template/src", "attack", "."))
    done = subprocess.run(
        [sys.executable, ROOT / "attack/run.py", "--short", "--only", PROBES, "--engines", engine],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]


def test_make_passes_arguments_to_the_attack() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "attack", "ARGS=--short"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1].strip() == "attack/attack --short"
