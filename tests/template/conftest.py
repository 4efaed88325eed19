"""The template as it lies here, and services stamped from it."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import copier
import pytest

ROOT = Path(__file__).parents[2]


Stamp = Callable[..., Path]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template as it lies here, uncommitted changes and all, but without the platform, which no answer changes."""
    folder = tmp_path_factory.mktemp("template")
    shutil.copy(ROOT / "copier.yml", folder)
    shutil.copytree(ROOT / "hooks", folder / "hooks")
    ignore = shutil.ignore_patterns("dbservice", ".*_cache", "__pycache__", ".venv")
    shutil.copytree(ROOT / "template", folder / "template", ignore=ignore)
    return folder


@pytest.fixture
def stamp(template: Path, tmp_path: Path) -> Stamp:
    def stamp(answers: dict[str, Any] | None = None, folder: str = "service", **options: Any) -> Path:
        options = {"defaults": True, "quiet": True, **options}
        copier.run_copy(str(template), tmp_path / folder, data=answers, **options)
        return tmp_path / folder

    return stamp


def run(*command: str | Path, cwd: Path) -> str:
    """What a command says, without a terminal; asserts that it succeeds."""
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
