"""A small service in a folder of its own, with tables, migrations and a command line, made of the few files that a
stamped one has."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from dbservice import Service, cli, migrations
from dbservice.backends import Backend
from dbservice.service import Running
from dbservice.settings import VARIABLES, Settings
from dbservice.testing import servers

from .faults import wait_until
from .sample_service import client_of, routes

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

service = Service(name="demo", description="A demo service.", tables=tables{options})
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
from demo.service import service

run(service)
"""


_REVISIONS: dict[str, tuple[str, str]] = {}
"""Name and text of the revisions that were written, by what they were written from."""


class CliService:
    """The service on `database`. `tables` says anew what it owns, as one writes it in tables.py."""

    def __init__(self, folder: Path, database: servers.Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.database, self._monkeypatch = folder, database, monkeypatch
        self.package = folder / "src" / "demo"
        self.versions = folder / "migrations" / "versions"
        self.package.mkdir(parents=True)
        self.versions.mkdir(parents=True)
        (self.package / "__init__.py").write_text("")
        (self.package / "__main__.py").write_text(_MAIN)
        (folder / "migrations" / "env.py").write_text(_ENV)
        (folder / "ruff.toml").write_text((PLATFORM.parent / "ruff.toml").read_text())
        self.options: dict[str, Any] = {}
        self.variables: dict[str, str] = {}  # of its environment, beside those of its database
        self._source: str | None = None  # of tables.py, where it is known
        self.tables("")

    def tables(self, source: str) -> Service:
        """The service whose tables are these, on disk and in this process."""
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        (self.package / "service.py").write_text(_SERVICE.format(options=options))
        (self.package / "tables.py").write_text(_TABLES + source)
        namespace: dict[str, Any] = {}
        exec(compile(_TABLES + source, "tables.py", "exec"), namespace)
        self.use(namespace["Table"].__metadata__)
        self.classes = namespace  # rows and bodies look table classes up, and nothing else keeps them
        self._source = source
        return self.service

    def use(self, metadata: sa.MetaData) -> Service:
        """The service that owns `metadata`, in this process only."""
        self._source = None
        self.service = Service("demo", metadata, root=self.folder, **self.options)
        module: Any = ModuleType("demo.service")
        module.service = self.service
        self._monkeypatch.setitem(sys.modules, "demo", ModuleType("demo"))
        self._monkeypatch.setitem(sys.modules, "demo.service", module)
        return self.service

    @property
    def environ(self) -> dict[str, str]:
        own = {"DB_POOL_SIZE": "2", "DB_MAX_RETRIES": "0", "SHUTDOWN_DELAY": "0"}
        return {**self.database.environ(), **own, **self.variables}

    @property
    def backend(self) -> Backend:
        return self.service.backend(Settings.load(self.environ))

    def differences(self) -> list[str]:
        return migrations.differences(self.service, self.backend)

    def revision(self, message: str = "change", *, again: bool = False) -> str:
        """The text of the revision that it needs; empty when it needs none.

        It depends on tables.py and the revisions so far, and on no database: what was written for one engine is not
        worked out for the next, unless `again` says so, for the sake of what is logged."""
        before = sorted((path.name, path.read_text()) for path in self.versions.glob("*.py"))
        key = repr((message, self._source, self.options, before))
        if self._source is None or again or key not in _REVISIONS:
            path = migrations.revision(self.service, message)
            _REVISIONS[key] = (path.name, path.read_text()) if path else ("", "")
        name, text = _REVISIONS[key]
        if name:
            (self.versions / name).write_text(text)
        return text

    def upgrade(self) -> None:
        migrations.upgrade(self.service, self.backend)

    def migrate_to(self, revision: str) -> None:
        """As the command line's `migrate --to`."""
        applied = migrations.is_applied(self.service, self.backend, revision)
        (migrations.downgrade if applied else migrations.upgrade)(self.service, self.backend, revision)

    def start(self, *arguments: str, **environ: str) -> "subprocess.Popen[str]":
        """A command of the service, in a process of its own, that knows nothing of this one's environment."""
        return subprocess.Popen(
            [sys.executable, "-m", "demo", *arguments],
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

    def migrate_at_once(self, count: int, ports: Sequence[int] = ()) -> list[tuple[int, str, str]]:
        """`migrate` in so many processes at once, or in TEST_MIGRATE_PROCESSES of them, which go round through these ports;
        what `run` answers, of each."""
        count = int(os.environ.get("TEST_MIGRATE_PROCESSES", count))
        processes = []
        for number in range(count):
            to = {"DB_PORT": str(ports[number % len(ports)])} if ports else {}
            processes.append(self.start("migrate", MIGRATE_LOCK_TIMEOUT="300", **to))
        said = [process.communicate(timeout=300) for process in processes]
        return [(process.returncode, *each) for process, each in zip(processes, said, strict=True)]

    @staticmethod
    def wait_for(revision: Path, process: "subprocess.Popen[str]") -> None:
        """Wait until the process has come to `wait_for_test()` in a revision."""
        wait_until(lambda: revision.with_suffix(".reached").exists() or process.poll() is not None)

    def run(self, *arguments: str, **environ: str) -> tuple[int, str, str]:
        """Its exit code and what it wrote on standard output and standard error."""
        process = self.start(*arguments, **environ)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err


class CommandLine:
    """The command line of the service in this process, which is much faster than `CliService.run` and answers the same."""

    def __init__(
        self, cli_service: CliService, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.cli_service, self.monkeypatch, self.capsys = cli_service, monkeypatch, capsys

    def __call__(self, *arguments: str, **environ: str) -> tuple[int, str, str]:
        handlers, terminate = logging.getLogger().handlers[:], signal.getsignal(signal.SIGTERM)
        with self.monkeypatch.context() as patched:
            for name in {*VARIABLES, *(f"{name}_FILE" for name in VARIABLES)}:
                patched.delenv(name, raising=False)
            for name, value in {**self.cli_service.environ, **environ}.items():
                patched.setenv(name, value)
            self.capsys.readouterr()
            try:
                code = cli.main(self.cli_service.service, arguments)
            finally:
                logging.getLogger().handlers = handlers
                signal.signal(signal.SIGTERM, terminate)
        return code, *self.capsys.readouterr()


USERS_WITH_PASSWORD = """
class Users(Table, name="users"): email = Column(String(20)); password = Column(String(40), nullable=True, secret=True)
"""


@asynccontextmanager
async def served_cli_service(
    cli_service: CliService, tables: str
) -> AsyncIterator[tuple[httpx.AsyncClient, Running]]:
    """A client of the service, which has these tables and the routes of a stamped service, migrated and running."""
    service = cli_service.tables(tables)
    cli_service.revision("first")
    cli_service.upgrade()
    service.routers = [routes(table) for table in service.tables.sorted_tables]
    async with service.running(Settings.load(cli_service.environ)) as running, client_of(running) as client:
        yield client, running
