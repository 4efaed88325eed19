"""A small service in a folder of its own, with tables, migrations and a command line, made of the few files that a
stamped one has."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa

from dbservice import Service, migrations
from dbservice.engines import Engine
from dbservice.settings import Settings
from dbservice.testing import plugin, servers

T = TypeVar("T")
PLATFORM = Path(__file__).parents[1] / "template" / "src"

_TABLES = """
from dbservice.schema import *
from dbservice.types import *
from sqlalchemy import MetaData

class Table(Table, metadata=MetaData()): ...
"""
_SERVICE = """
from dbservice import Limits, Service

from . import tables

service = Service(name="tiny", description="A tiny service.", tables=tables{options})
app = service.app
"""
_MAIN = """
from dbservice.cli import main

from .service import service

if __name__ == "__main__":
    raise SystemExit(main(service))
"""
_ENV = """
from dbservice.migrations import run
from tiny.service import service

run(service)
"""


class Tiny:
    """The service on `database`. `tables` says anew what it owns, as one writes it in tables.py."""

    def __init__(self, folder: Path, database: servers.Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.database, self._monkeypatch = folder, database, monkeypatch
        self.package = folder / "src" / "tiny"
        self.versions = folder / "migrations" / "versions"
        self.package.mkdir(parents=True)
        self.versions.mkdir(parents=True)
        (self.package / "__init__.py").write_text("")
        (self.package / "__main__.py").write_text(_MAIN)
        (folder / "migrations" / "env.py").write_text(_ENV)
        (folder / "ruff.toml").write_text((PLATFORM.parent / "ruff.toml").read_text())
        self.options: dict[str, Any] = {}
        self.tables("")

    def tables(self, source: str) -> Service:
        """The service whose tables are these, on disk and in this process."""
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        (self.package / "service.py").write_text(_SERVICE.format(options=options))
        (self.package / "tables.py").write_text(_TABLES + source)
        namespace: dict[str, Any] = {}
        exec(compile(_TABLES + source, "tables.py", "exec"), namespace)
        self.classes = namespace  # which nothing else keeps
        self.use(namespace["Table"].__metadata__)
        return self.service

    def use(self, metadata: sa.MetaData) -> Service:
        """The service that owns `metadata`, in this process only."""
        self.service = Service("tiny", metadata, root=self.folder, **self.options)
        module: Any = ModuleType("tiny.service")
        module.service = self.service
        self._monkeypatch.setitem(sys.modules, "tiny", ModuleType("tiny"))
        self._monkeypatch.setitem(sys.modules, "tiny.service", module)
        return self.service

    @property
    def environ(self) -> dict[str, str]:
        return {**self.database.environ(), "DB_POOL_SIZE": "2", "DB_MAX_RETRIES": "0"}

    @property
    def engine(self) -> Engine:
        return self.service.engine(Settings.load(self.environ))

    def differences(self) -> list[str]:
        return migrations.differences(self.service, self.engine)

    def revise(self, message: str = "change") -> str:
        """The text of the revision that it needs; empty when it needs none."""
        path = migrations.revise(self.service, message)
        return path.read_text() if path else ""

    def upgrade(self) -> None:
        migrations.upgrade(self.service, self.engine)

    def move(self, revision: str) -> None:
        migrations.move(self.service, self.engine, revision)

    def start(self, *arguments: str, **environ: str) -> "subprocess.Popen[str]":
        """A command of the service, in a process of its own, that knows nothing of this one's environment."""
        return subprocess.Popen(
            [sys.executable, "-m", "tiny", *arguments],
            cwd=self.folder,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": f"{self.folder / 'src'}:{PLATFORM}",
                "PYTHONDONTWRITEBYTECODE": "1",
                **self.environ,
                **environ,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **environ: str) -> tuple[int, str, str]:
        """Its exit code and what it wrote on standard output and standard error."""
        process = self.start(*arguments, **environ)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err


def engines_of(metafunc: pytest.Metafunc) -> list[str]:
    """The engines of this run, and of them those that the test is about."""
    engines = plugin._engines(metafunc.config)
    return [each for each in engines if each in getattr(metafunc.function, "engines", engines)]


def only(*engines: str) -> Callable[[T], T]:
    """For a test that is about these engines."""

    def mark(test: T) -> T:
        test.engines = engines  # type: ignore[attr-defined]
        return test

    return mark
