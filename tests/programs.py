"""Programs of the machine that a few tests need beside the servers of the engines."""

import os
import shutil
import sys
from typing import NoReturn

import pytest


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
