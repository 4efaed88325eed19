"""The pytest plugin for the tests of a service: a test with the fixture `database` or `client` runs on SQLite and on the
service's own engine, on a real server that the plugin starts.

`[tool.dbservice]` in pyproject.toml names the service."""

import asyncio
import hashlib
import os
import tomllib
import traceback
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import closing, contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from .. import migrations
from ..accounts import commands as accounts
from ..backends import Backend
from ..http.middleware import error_hooks
from ..redaction import failed_statement
from ..service import Running, Service
from ..settings import Settings
from . import examples, servers
from .others import Others

_ENGINES = ("sqlite", "postgresql", "mariadb", "mysql")
_missing: dict[str, str] = {}
"""Engines without an available server, and the reason."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--engines",
        help=f"run on these engines ({', '.join(_ENGINES)}), instead of SQLite and the service's own",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "database" in metafunc.fixturenames:
        metafunc.parametrize("database", engines(metafunc.config), indirect=True, scope="session")


# With pytest-xdist, the workers share the servers of the main process, which reports missing servers at the end.


@cache
def _shared_servers() -> tuple[int, str]:
    return servers.share()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["servers"] = _shared_servers()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    _missing.update(getattr(node, "workeroutput", {}).get("missing", {}))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(
        _Backend()
    )  # after anyio's plugin, whose fixture of the same name has module scope
    if given := getattr(config, "workerinput", None):
        servers.use_shared(given["servers"])


def pytest_sessionfinish(session: pytest.Session) -> None:
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["missing"] = _missing


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for engine, sentence in _missing.items():
        terminalreporter.write_line(f"NOT TESTED on {engine}: {sentence}", red=True, bold=True)


_service_errors = pytest.StashKey[list[Exception]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    errors = item.stash[_service_errors] = []
    error_hooks.append(errors.append)
    try:
        return (yield)
    finally:
        error_hooks.remove(errors.append)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Show what the log leaves out: the unhandled exceptions of the service, as they were."""
    report = yield
    if report.failed:
        for error in item.stash.get(_service_errors, []):
            text = "".join(traceback.format_exception(error))
            if found := failed_statement(error):
                text += f"statement: {found.sql}\n"
            report.sections.append(("Unhandled exception in the service", text))
    return report


def about(folder: Path) -> dict[str, Any]:
    """`[tool.dbservice]` in the folder's pyproject.toml."""
    path = folder / "pyproject.toml"
    found: dict[str, Any] = tomllib.loads(path.read_text())["tool"]["dbservice"] if path.is_file() else {}
    return found


def engines(config: pytest.Config) -> list[str]:
    """The engines of this run: those of `--engines`, or SQLite and the service's own engine."""
    named = config.getoption("--engines")
    if named:
        if unknown := set(named.split(",")) - set(_ENGINES):
            raise pytest.UsageError(
                f"--engines: {', '.join(sorted(unknown))} is not one of {', '.join(_ENGINES)}"
            )
        return [str(name) for name in named.split(",")]
    own = about(config.rootpath).get("database", "sqlite")
    return ["sqlite"] if own == "sqlite" else ["sqlite", own]


def the_service(folder: Path) -> Service:
    """The service in `[tool.dbservice]` of the folder's pyproject.toml."""
    module, _, name = about(folder)["service"].partition(":")
    service: Service = getattr(import_module(module), name)
    return service


def tables() -> list[sa.Table]:
    """The tables of the service under test with a route that creates rows, `POST /v1/<table>`, referenced tables first."""
    service = the_service(Path.cwd())
    both = [*(each.__table__ for each in service.shared), *service.tables.sorted_tables]
    return [table for table in both if _has_route(service, "POST", table)]


def shared_tables() -> list[sa.Table]:
    """Those of other services with a route that lists rows, `GET /v1/<table>`."""
    service = the_service(Path.cwd())
    return [each.__table__ for each in service.shared if _has_route(service, "GET", each.__table__)]


def _has_route(service: Service, method: str, table: sa.Table) -> bool:
    routes = (route for router in service.routers for route in router.routes)
    return any(
        getattr(route, "path", "") == f"/v1/{table.name}"
        and method in (getattr(route, "methods", None) or ())
        for route in routes
    )


class _Backend:
    @pytest.fixture(scope="session")
    @classmethod
    def anyio_backend(cls) -> str:
        return "asyncio"


@pytest.fixture(scope="session")
def service(pytestconfig: pytest.Config) -> Service:
    """The service under test."""
    return the_service(pytestconfig.rootpath)


@pytest.fixture(scope="session")
def database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, service: Service
) -> Iterator[servers.Database]:
    """A new database of each engine, for the whole session. It has the tables of other services that `access.py` declares."""
    with fresh_database(request.param, tmp_path_factory.mktemp("sqlite"), request.config) as made:
        migrations.create_shared_tables(service, service.backend(Settings.load(made.environ())))
        yield made


def find_server(engine: str, config: pytest.Config) -> servers.Server:
    """The server of `engine` that all tests share.

    Skips the test if `--engines` excludes the engine or its server is not available. A missing server is also reported at
    the end of the session, and fails the test on CI."""
    if engine not in engines(config):
        pytest.skip(f"--engines excludes {engine}")
    try:
        return servers.find(engine)
    except servers.ServerNotFound as missing:
        skip_without(engine, missing)
        raise


def skip_without(server: str, missing: servers.ServerNotFound) -> None:
    """Skip the test, and report the missing server at the end of the session; on CI, fail."""
    _missing[server] = str(missing)
    if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
        pytest.fail(f"{server}: {missing}", pytrace=False)
    pytest.skip(f"{server}: {missing}")


@contextmanager
def fresh_database(engine: str, folder: Path, config: pytest.Config) -> Iterator[servers.Database]:
    """A new database of `engine`, dropped at the end; for SQLite, a file in `folder`."""
    if engine == "sqlite":
        yield servers.sqlite(folder)
        return
    server = find_server(engine, config)
    database = server.create_database()
    try:
        yield database
    finally:
        server.drop_database(database)


@pytest.fixture(scope="session")
def settings(service: Service, database: servers.Database) -> Settings:
    """The settings of the service on `database`: with its declared accounts, which its own grants create, so that a
    missing grant fails here. On the server of DB_TEST_URL, whose accounts may be in use, one account does everything."""
    return _settings_on(service, database)


def _settings_on(service: Service, database: servers.Database) -> Settings:
    own = Settings.load({**database.environ(), "DB_POOL_SIZE": "5", "DB_MAX_RETRIES": "0"})
    if service.backend(own).accounts is None or servers.is_external(database):
        return own
    admin = servers.find(database.engine).admin
    declared = accounts.declared(service, service.backend(own))
    runtime, migrate = declared.runtime, declared.migrate

    def password(account: str) -> str:  # all workers share the server, and the accounts of all its databases
        return hashlib.sha256(f"{admin.password} {account}".encode()).hexdigest()

    environ = {
        **database.environ(),
        "DB_POOL_SIZE": "5",
        "DB_MAX_RETRIES": "0",
        "DB_USER": runtime,
        "DB_PASS": password(runtime),
        "DB_SINGLE_ACCOUNT": "false",
        "ADMIN_DB_USER": admin.user,
        "ADMIN_DB_PASS": admin.password,
        "REPLICAS": "20",
    }
    if migrate:
        environ |= {"MIGRATE_DB_USER": migrate, "MIGRATE_DB_PASS": password(migrate)}
    settings = Settings.load(environ)
    accounts.apply(service, service.backend(settings), service.backend)
    return settings


@pytest.fixture(scope="session")
def migrated(service: Service, settings: Settings) -> Settings:
    """The settings, after the service's migrations have run."""
    if migrations.head(service) is not None:
        backend = service.backend(settings.for_migration())
        migrations.upgrade(service, backend)
        _grant_own_tables(service, backend)
    return settings


def _grant_own_tables(service: Service, backend: Backend) -> None:
    with closing(backend.connect()) as connection:
        accounts.after_migration(service, backend, connection)


@pytest.fixture(scope="session")
async def _started(service: Service, migrated: Settings) -> AsyncIterator[Running]:
    """The service, started once for all tests."""
    async with service.running(migrated) as started:
        yield started


@pytest.fixture(scope="session")
def others(service: Service, database: servers.Database) -> Iterator[Others]:
    """The services that own the tables of `access.py`. The tables are empty when a test begins that has `running` or `client`."""
    acting = Others(service.backend(Settings.load(database.environ())))
    examples.insert_of_others = acting.insert
    yield acting
    acting.close()


@pytest.fixture(scope="session")
def _cleaner(service: Service, migrated: Settings, others: Others) -> Iterator[Callable[[], None]]:
    """A function that deletes all rows of the service's tables, and of those of other services that it uses."""
    backend = service.backend(migrated)
    quote = backend.dialect().identifier_preparer.quote
    statements = []
    for table in reversed(service.tables.sorted_tables):
        for column in (c for c in table.columns for key in c.foreign_keys if key.column.table is table):
            statements.append(f"UPDATE {quote(table.name)} SET {quote(column.name)} = NULL")
        statements.append(f"DELETE FROM {quote(table.name)}")
    with closing(backend.connect()) as connection:
        cursor = connection.cursor()

        def clean() -> None:
            for statement in statements:
                cursor.execute(statement)
            others.delete_all([each.__table__ for each in service.shared])

        yield clean


@pytest.fixture
async def running(_started: Running, _cleaner: Callable[[], None]) -> AsyncIterator[Running]:
    """The service, started on the migrated database, with empty tables. All tests share it: a test that stops or changes
    it must start another one."""
    _cleaner()
    yield _started
    async with asyncio.timeout(60):  # for units of work and reads that the test left running
        while _started.reads.in_use or _started.writes.in_flight:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)


@pytest.fixture
async def client(service: Service, running: Running) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the running service, in the same process."""
    transport = httpx.ASGITransport(service.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as made:
        yield made


def migrations_are_complete(database: servers.Database) -> None:
    """Assert that the service's migrations upgrade, downgrade and upgrade again, and create exactly what `tables.py` declares."""
    service = the_service(Path.cwd())
    if migrations.head(service) is None:
        assert not service.tables.tables, (
            "tables.py has tables but no migration creates them: run `make revision`"
        )
        return
    engine = service.backend(_settings_on(service, database).for_migration())
    migrations.upgrade(service, engine)
    assert not migrations.differences(service, engine), "the migrations do not create what tables.py declares"
    migrations.downgrade(service, engine, "base")
    migrations.upgrade(service, engine)
    assert not migrations.differences(service, engine), "the second upgrade creates something else"
    _grant_own_tables(service, engine)


def revisions_are_safe() -> None:
    """Assert that no revision stops the writers of a table or breaks the version before, unless its file says why it may."""
    lines = migrations.check_revisions(the_service(Path.cwd()))
    assert not lines, "\n".join(lines)
