"""The pytest plugin of a service's tests: each test that asks for `database` or `client` runs on SQLite and on the
service's own engine, on a real server that the tests start themselves.

The service is the one that `[tool.dbservice]` in pyproject.toml names."""

import os
import tomllib
from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from .. import migrations
from ..service import Running, Service
from ..settings import Settings
from . import servers

_ENGINES = ("sqlite", "postgresql", "mariadb", "mysql")
_missing: dict[str, str] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--engines",
        help=f"run on these engines ({', '.join(_ENGINES)}), instead of SQLite and the service's own",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "database" in metafunc.fixturenames:
        metafunc.parametrize("database", _engines(metafunc.config), indirect=True, scope="session")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for engine, sentence in _missing.items():
        terminalreporter.write_line(f"NOT TESTED on {engine}: {sentence}", red=True, bold=True)


def _about(folder: Path) -> dict[str, Any]:
    path = folder / "pyproject.toml"
    about: dict[str, Any] = tomllib.loads(path.read_text())["tool"]["dbservice"] if path.is_file() else {}
    return about


def _engines(config: pytest.Config) -> list[str]:
    named = config.getoption("--engines")
    if named:
        if unknown := set(named.split(",")) - set(_ENGINES):
            raise pytest.UsageError(
                f"--engines: {', '.join(sorted(unknown))} is not one of {', '.join(_ENGINES)}"
            )
        return [str(name) for name in named.split(",")]
    own = _about(config.rootpath).get("database", "sqlite")
    return ["sqlite"] if own == "sqlite" else ["sqlite", own]


def the_service(folder: Path) -> Service:
    """The service that `[tool.dbservice]` of the folder's pyproject.toml names."""
    module, _, name = _about(folder)["service"].partition(":")
    service: Service = getattr(import_module(module), name)
    return service


def tables() -> list[sa.Table]:
    """The tables of the service under test that have a route `/v1/<table>`, parents first."""
    service = the_service(Path.cwd())
    paths = {getattr(route, "path", "") for router in service.routers for route in router.routes}
    return [table for table in service.tables.sorted_tables if f"/v1/{table.name}" in paths]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def service(pytestconfig: pytest.Config) -> Service:
    """The service under test."""
    return the_service(pytestconfig.rootpath)


@pytest.fixture(scope="session")
def database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[servers.Database]:
    """A fresh database of each engine, for the whole session."""
    with fresh_database(request.param, tmp_path_factory.mktemp("sqlite")) as made:
        yield made


class fresh_database:
    """A context with a new database of `engine`, dropped at its end. Skips the test, and says so at the end of the
    session, when the server cannot be had; on CI it fails."""

    def __init__(self, engine: str, folder: Path) -> None:
        self.engine, self.folder = engine, folder
        self.server: servers.Server | None = None

    def __enter__(self) -> servers.Database:
        if self.engine == "sqlite":
            self.database = servers.sqlite(self.folder)
            return self.database
        try:
            self.server = servers.find(self.engine)
        except servers.Missing as missing:
            _missing[self.engine] = str(missing)
            if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
                pytest.fail(f"{self.engine}: {missing}", pytrace=False)
            pytest.skip(f"{self.engine}: {missing}")
        self.database = self.server.create_database()
        return self.database

    def __exit__(self, *_: object) -> None:
        if self.server is not None:
            self.server.drop_database(self.database)


@pytest.fixture(scope="session")
def settings(database: servers.Database) -> Settings:
    """The settings of a service on that database."""
    return Settings.load({**database.environ(), "DB_POOL_SIZE": "5", "DB_MAX_RETRIES": "0"})


@pytest.fixture(scope="session")
def migrated(service: Service, settings: Settings) -> Settings:
    """The same, with the service's tables in it."""
    if migrations.head(service) is not None:
        migrations.upgrade(service, service.backend(settings))
    return settings


@pytest.fixture
async def running(service: Service, migrated: Settings) -> AsyncIterator[Running]:
    """The service, started on the migrated database, with empty tables."""
    engine = service.backend(migrated)
    connection = engine.connect()
    quote = engine.dialect().identifier_preparer.quote
    cursor = connection.cursor()
    for table in reversed(service.tables.sorted_tables):
        for column in (c for c in table.columns for key in c.foreign_keys if key.column.table is table):
            cursor.execute(f"UPDATE {quote(table.name)} SET {quote(column.name)} = NULL")
        cursor.execute(f"DELETE FROM {quote(table.name)}")
    connection.close()
    async with service.running(migrated) as started:
        yield started


@pytest.fixture
async def client(service: Service, running: Running) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the running service, in the same process."""
    transport = httpx.ASGITransport(service.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as made:
        yield made


def migrations_are_complete(database: servers.Database) -> None:
    """Assert that the service's migrations go up, down and up again, and build exactly what `tables.py` says."""
    service = the_service(Path.cwd())
    engine = service.backend(Settings.load(database.environ()))
    if migrations.head(service) is None:
        assert not service.tables.tables, (
            "tables.py has tables and no migration makes them: run `make revision`"
        )
        return
    migrations.upgrade(service, engine)
    assert not migrations.differences(service, engine), "the migrations do not build what tables.py says"
    migrations.migrate_to(service, engine, "base")
    migrations.upgrade(service, engine)
    assert not migrations.differences(service, engine), "the migrations build something else the second time"
