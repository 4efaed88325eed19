"""The benchmark's own arithmetic, its gates, and its message when `wrk` is missing; `make bench` does the measuring."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "bench"


def python(*arguments: str, path: str = os.defpath) -> "subprocess.CompletedProcess[str]":
    folders = [BENCH, ROOT / "template/src", ROOT / "template/scripts"]
    environ = {**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    return subprocess.run([sys.executable, *arguments], env=environ, capture_output=True, text=True)


def test_without_wrk_the_message_names_the_package(tmp_path: Path) -> None:
    done = python(str(BENCH / "run.py"), path=str(tmp_path))
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("bench: wrk, ") and done.stderr.count("\n") == 1


def test_a_gate_is_the_median_of_the_rounds_ratios() -> None:
    done = python(
        "-c",
        "from load import Sample; from report import GATES, gates\n"
        "rps = lambda *values: [Sample(value, 1, 1, 0, 1, 1, 1, 0) for value in values]\n"
        "samples = {('get', 64, 'S'): rps(300, 90, 55), ('get', 64, 'L1'): rps(100, 100, 50)}\n"
        "assert GATES[0].value(samples, 'S') == 1.1 and GATES[1].value(samples, 'S') is None\n"
        "print(gates(samples, ['S'], (1.3, 1.0, 1.3)))",
    )
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.count("PASS") == 2 and done.stdout.count("FAIL") == 1
    )  # CPU passes too; the copy does not
    assert done.stdout.endswith("False\n")


@pytest.mark.parametrize(
    ("ratio", "strict", "verdict", "status"),
    [(1.2, True, "PASS", 0), (1.21, True, "FAIL", 1), (1.21, False, "FAIL", 0)],
)
def test_the_copy_has_a_gate_which_needs_no_wrk(
    ratio: float, strict: bool, verdict: str, status: int, tmp_path: Path
) -> None:
    done = python(
        "-c",
        "import pathlib, sys, prepare, run\n"
        "prepare.BUILD = prepare.TEMPLATE = pathlib.Path(sys.argv.pop(1))\n"
        "prepare.export = lambda: None\n"
        f"prepare.copies = lambda rounds: (0.6 * {ratio}, 0.6, {ratio})\n"
        "sys.exit(run.main())",
        *(str(tmp_path / "build"), "--only", "copy"),
        *(["--strict"] if strict else []),
        path=str(tmp_path),
    )
    assert done.returncode == status, done.stderr
    lines = [line for line in done.stdout.splitlines() if "copier copy" in line]
    assert len(lines) == 1 and lines[0].endswith(f"| {verdict} |")
    assert "| <= 1.2 x the same files, all empty, 0.60 s |" in lines[0]


def test_a_copy_is_compared_with_one_of_the_same_files_that_are_all_empty(tmp_path: Path) -> None:
    done = python(
        "-c",
        "import pathlib, sys, prepare\n"
        "build = pathlib.Path(sys.argv[1])\n"
        "prepare.TEMPLATE, prepare.BLANK = build / 'template', build / 'blank'\n"
        "prepare.export()\n"
        "ours, blank, ratio = prepare.copies(1)\n"
        "assert ratio == ours / blank\n"
        "prepare.copy(prepare.TEMPLATE, build / 'service')\n"
        "prepare.copy(prepare.BLANK, build / 'empty')",
        str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    files = {
        folder: {
            path.relative_to(tmp_path / folder): path.stat().st_size
            for path in (tmp_path / folder).rglob("*")
            if path.is_file()
        }
        for folder in ("service", "empty")
    }
    assert files["service"].keys() == files["empty"].keys() and len(files["service"]) > 50
    assert set(files["empty"].values()) == {0}


def test_make_passes_arguments_to_the_benchmark() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "bench", "ARGS=--strict"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1].strip() == "bench/bench --strict"
