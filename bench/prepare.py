"""Set-up of a run: the environment of the hand-written servers, the stamped service, and the timing of `copier copy`."""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import bootstrap
from load import HERE, Failed

ROOT = HERE.parent
BUILD = ROOT / "build" / "bench"
BLANK = BUILD / "blank"
TEMPLATE = BUILD / "template"
SERVICE = BUILD / "bench-svc"
ANSWERS = ROOT / "tests/answers/items_bench.yml"


def environment() -> Path:
    """The Python of `bench/.venv`, which is created again when its requirements have changed."""
    requirements, constraints = HERE / "requirements.txt", ROOT / "template/src/dbservice/constraints.txt"
    python, stamp = HERE / ".venv/bin/python", HERE / ".venv/installed"
    wanted = sys.version + requirements.read_text() + constraints.read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        progress("creating bench/.venv")
        shutil.rmtree(HERE / ".venv", ignore_errors=True)
        uv, environ = bootstrap.find_uv(), bootstrap.environment()
        _run([uv, "venv", "--quiet", "--python", sys.executable, HERE / ".venv"], env=environ)
        arguments: list[str | Path] = [
            "pip",
            "install",
            "--quiet",
            "--python",
            python,
            "-r",
            requirements,
            "-c",
            constraints,
        ]
        _run([uv, *arguments], env=environ)
        stamp.write_text(wanted)
    return python


def export() -> None:
    """Copy the template from the working tree, without its history."""
    shutil.rmtree(TEMPLATE, ignore_errors=True)
    listed = subprocess.run(
        [
            "git",
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
            "copier.yml",
            "hooks",
            "template",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        raise Failed(f"git cannot list the template's files: {listed.stderr.strip()}")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (TEMPLATE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, TEMPLATE / name)


def stamp() -> Path:
    """Stamp the benchmark's service from the working tree, create its environment, and return its folder."""
    progress("stamping the service")
    if SERVICE.exists():
        for path in SERVICE.iterdir():
            if path.name != ".venv":  # `make .venv` updates it
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    copy(TEMPLATE, SERVICE, ["--data-file", str(ANSWERS), "--overwrite"])
    _run(["make", "--no-print-directory", ".venv"], cwd=SERVICE, env=clean_environment())
    return SERVICE


def copy(template: Path, folder: Path, options: Sequence[str] = ()) -> float:
    """Run `copier copy`; returns the seconds it took."""
    started = time.perf_counter()
    arguments = ["copy", "--quiet", "--defaults", *options, str(template), str(folder)]
    _run([sys.executable, "-m", "copier", *arguments], env=clean_environment())
    return time.perf_counter() - started


def copies(rounds: int) -> tuple[float, float, float]:
    """Copy the template, and one of the same files, all empty, that asks nothing, alternately; `rounds` times each.

    Returns the median seconds of both, and the median of the rounds' ratios."""
    ours: list[float] = []
    blank: list[float] = []
    with tempfile.TemporaryDirectory() as folder:  # outside of any git repository, as a new service is
        copy(TEMPLATE, Path(folder) / "service")
        _blank(Path(folder) / "service")
        for number in range(rounds + 1):
            for template, seconds in ((TEMPLATE, ours), (BLANK, blank))[:: -1 if number % 2 else 1]:
                seconds.append(copy(template, Path(folder) / f"{template.name}-{number}"))
    ours, blank = ours[1:], blank[1:]  # the first round fills the page cache
    ratios = [a / b for a, b in zip(ours, blank, strict=True)]
    return statistics.median(ours), statistics.median(blank), statistics.median(ratios)


def _blank(service: Path) -> None:
    """Create the template of the service's files, all empty, without questions."""
    shutil.rmtree(BLANK, ignore_errors=True)
    for path in service.rglob("*"):
        if path.is_file():
            copied = BLANK / "template" / path.relative_to(service)
            copied.parent.mkdir(parents=True, exist_ok=True)
            copied.touch()
    (BLANK / "copier.yml").write_text("_subdirectory: template\n")


def clean_environment() -> dict[str, str]:
    """This process's environment without the variables that configure a service, libpq, Python or make."""
    removed = re.compile("DB_|MIGRATE_DB_|PG|PYTHON.|MAKE")
    return {name: value for name, value in os.environ.items() if not removed.match(name)}


def progress(step: str) -> None:
    print(f"{step} ...", file=sys.stderr, flush=True)


def _run(command: Sequence[str | Path], *, cwd: Path = ROOT, env: Mapping[str, str]) -> None:
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))} failed:\n{done.stdout[-1000:]}{done.stderr[-3000:]}")
