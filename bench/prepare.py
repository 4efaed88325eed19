"""What a run needs before it starts: an environment for the hand-written servers, and the stamped service."""

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
EMPTY = BUILD / "empty"
TEMPLATE = BUILD / "template"
SERVICE = BUILD / "bench-svc"
ANSWERS = ROOT / "tests/answers/items_bench.yml"


def environment() -> Path:
    """The Python of `bench/.venv`, made if something changed."""
    requirements, constraints = HERE / "requirements.txt", ROOT / "template/src/dbservice/constraints.txt"
    python, stamp = HERE / ".venv/bin/python", HERE / ".venv/installed"
    wanted = sys.version + requirements.read_text() + constraints.read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        say("making bench/.venv")
        shutil.rmtree(HERE / ".venv", ignore_errors=True)
        uv, environ = bootstrap.find_uv(), bootstrap.environment()
        _run([uv, "venv", "--quiet", "--python", sys.executable, HERE / ".venv"], env=environ)
        words: list[str | Path] = [
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
        _run([uv, *words], env=environ)
        stamp.write_text(wanted)
    return python


def export() -> None:
    """The template as it is in the working tree, without its history, and a template of nothing."""
    shutil.rmtree(TEMPLATE, ignore_errors=True)
    shutil.rmtree(EMPTY, ignore_errors=True)
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
        raise Failed(f"git does not list the template's files: {listed.stderr.strip()}")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (TEMPLATE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, TEMPLATE / name)
    EMPTY.mkdir(parents=True)
    (EMPTY / "copier.yml").write_text("_subdirectory: template\n")
    (EMPTY / "template").mkdir()


def stamp() -> Path:
    """The benchmark's service, stamped from the working tree, with its environment; its folder."""
    say("stamping the service")
    if SERVICE.exists():
        for path in SERVICE.iterdir():
            if path.name != ".venv":  # make looks itself whether that one is still right
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    copy(TEMPLATE, SERVICE, ["--data-file", str(ANSWERS), "--overwrite"])
    _run(["make", "--no-print-directory", ".venv"], cwd=SERVICE, env=clean())
    return SERVICE


def copy(template: Path, folder: Path, options: Sequence[str] = ()) -> float:
    """`copier copy`; the seconds it took."""
    started = time.perf_counter()
    words = ["copy", "--quiet", "--defaults", *options, str(template), str(folder)]
    _run([sys.executable, "-m", "copier", *words], env=clean())
    return time.perf_counter() - started


def copies(rounds: int) -> dict[str, tuple[float, float]]:
    """For the template, one of the same files without a word in them, and one of nothing: the median of the seconds that
    a copy takes, and of the template's ratio to it, in turns."""
    templates = {"template": TEMPLATE, "same files": BUILD / "same-files", "empty": EMPTY}
    seconds: dict[str, list[float]] = {name: [] for name in templates}
    with tempfile.TemporaryDirectory() as folder:  # outside of any repository, as a new service is
        copy(TEMPLATE, Path(folder) / "service")
        _blank(Path(folder) / "service", templates["same files"])
        for number in range(rounds + 1):
            for name in list(templates)[:: 1 if number % 2 else -1]:
                took = copy(templates[name], Path(folder) / f"{name}-{number}")
                if number:  # the first round warms the disk's cache
                    seconds[name].append(took)
    ours = seconds["template"]
    return {
        name: (
            statistics.median(theirs),
            statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
        )
        for name, theirs in seconds.items()
    }


def _blank(service: Path, template: Path) -> None:
    """A template of the service's files, all empty, that asks nothing."""
    shutil.rmtree(template, ignore_errors=True)
    for path in service.rglob("*"):
        if path.is_file() and path.name != ".copier-answers.yml":
            copied = template / "template" / path.relative_to(service)
            copied.parent.mkdir(parents=True, exist_ok=True)
            copied.touch()
    shutil.copy2(EMPTY / "copier.yml", template)


def clean() -> dict[str, str]:
    """Our environment without what would lead a service, or libpq, to another database, or Python to compile anew."""
    lead = re.compile("DB_|MIGRATE_DB_|PG|PYTHON.|MAKE")
    return {name: value for name, value in os.environ.items() if not lead.match(name)}


def say(sentence: str) -> None:
    print(f"{sentence} ...", file=sys.stderr, flush=True)


def _run(command: Sequence[str | Path], *, cwd: Path = ROOT, env: Mapping[str, str]) -> None:
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))} failed:\n{done.stdout[-1000:]}{done.stderr[-3000:]}")
