"""The template as it lies here, and services stamped from it."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import copier
import pytest
from copier._jinja_ext import SandboxedEnvironment
from jinja2.bccache import Bucket, BytecodeCache

ROOT = Path(__file__).parents[2]


Stamp = Callable[..., Path]


class _CompiledTemplates(BytecodeCache):
    """What Jinja has compiled, by file and content."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], CodeType] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._known.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        assert bucket.code
        self._known[bucket.key, bucket.checksum] = bucket.code


@pytest.fixture(scope="session", autouse=True)
def _compile_templates_once() -> Iterator[None]:
    """Copier compiles the macros of the form anew for each question of each copy: most of the time that a copy takes."""
    cache = _CompiledTemplates()
    with pytest.MonkeyPatch.context() as patched:
        kept = property(lambda environment: cache, lambda environment, given: None)
        patched.setattr(SandboxedEnvironment, "bytecode_cache", kept, raising=False)
        yield


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
