"""Tests of the platform where it lies: the sample service on every engine, on real servers.

`unit/` needs no server, `conformance/` holds on every engine, `process/` runs real processes and stops real servers,
`template/` stamps services."""

import logging
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from dbservice import logs
from dbservice.service import Service
from dbservice.settings import Settings
from dbservice.testing import plugin, servers
from dbservice.testing.plugin import fresh_database
from dbservice.testing.servers.redis import Redis

from .cli_service import CliService, CommandLine
from .openapi import load_document
from .sample_service import create_tables, sample_database, sample_service


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long and mostly waits comes first: parallel workers do the rest meanwhile, and none is left with it."""
    long = ("tests/template/test_stamped", "tests/template/test_image", "tests/process/")
    items.sort(key=lambda item: not item.nodeid.startswith(long))


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """What a parallel worker sends home is UTF-8; what a test logs or compares is any text."""
    return _encodable((yield))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`@pytest.mark.engines(...)` names the engines that a test is about; without it, it is about all."""
    if "private_database" in metafunc.fixturenames:
        marked = metafunc.definition.get_closest_marker("engines")
        chosen = plugin.engines(metafunc.config)
        engines = [engine for engine in chosen if marked is None or engine in marked.args]
        metafunc.parametrize("private_database", engines, indirect=True)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """The sample service."""
    return sample_service(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="session")
def migrated(settings: Settings) -> Settings:
    """The settings of a database that holds the sample service's tables."""
    create_tables(settings)
    return settings


@pytest.fixture(scope="session")
def owner_settings(database: servers.Database) -> Settings:
    """The settings of the account that owns `database`, for tables that the sample service does not declare."""
    return Settings.load({**database.environ(), "DB_POOL_SIZE": "5", "DB_MAX_RETRIES": "0"})


@pytest.fixture(scope="session")
def cache_server() -> Iterator[Redis]:
    """A Redis. A test that stops it must start it again."""
    try:
        server = Redis()
    except servers.ServerNotFound as missing:
        plugin.skip_without("redis", missing)
        raise
    with server:
        yield server


@pytest.fixture(scope="module", params=sorted(servers.ENGINES))
def server(request: pytest.FixtureRequest) -> servers.Server:
    """The server of each engine that is one: all tests share it."""
    return plugin.find_server(request.param, request.config)


@pytest.fixture(scope="session", params=sorted(servers.ENGINES))
def _own_server(request: pytest.FixtureRequest) -> Iterator[servers.Server]:
    plugin.find_server(request.param, request.config)  # skips what cannot be had
    try:
        server = servers.own(request.param)
    except servers.ServerNotFound as missing:  # DB_TEST_URL names one, which is nobody's to stop
        pytest.skip(str(missing))
    with server:
        yield server


@pytest.fixture
def own_server(_own_server: servers.Server) -> servers.Server:
    """A server of each engine that a test may stop, kill and configure; its settings are as they were afterwards."""
    _own_server.start()
    return _own_server


@pytest.fixture(scope="module")
def server_settings(server: servers.Server) -> Iterator[Settings]:
    """A database on it that holds the sample service's tables, for what SQLite cannot show."""
    with sample_database(server) as settings:
        yield settings


@pytest.fixture
def private_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[servers.Database]:
    """A new, empty database."""
    with fresh_database(request.param, tmp_path, request.config) as made:
        yield made


@pytest.fixture
def cli_service(
    private_database: servers.Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> CliService:
    """A service with a command line and migrations, without tables yet."""
    return CliService(tmp_path / "demo", private_database, monkeypatch)


@pytest.fixture
def run(
    cli_service: CliService, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    """Runs a command of that service."""
    return CommandLine(cli_service, monkeypatch, capsys)


@pytest.fixture(scope="session")
def document() -> dict[str, Any]:
    """The OpenAPI document of the sample service."""
    return load_document()


@pytest.fixture
def all_logs(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> Iterator[pytest.LogCaptureFixture]:
    """What every logger says, as talkative as the settings can make them."""
    before = {name: logging.getLogger(name).level for name in {*logs.QUIET, *logs.UVICORN, ""}}
    handlers = logging.getLogger().handlers[:]
    name = str(tmp_path / "x.db")
    logs.configure(Settings.load({"DB_TYPE": "sqlite", "DB_NAME": name, "LOG_LEVEL": "debug"}))
    caplog.handler.setLevel(0)
    yield caplog
    logging.getLogger().handlers = handlers
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(False)


def _encodable(value: Any) -> Any:
    match value:
        case str():
            return value.encode(errors="backslashreplace").decode()
        case dict():
            return {key: _encodable(each) for key, each in value.items()}
        case list() | tuple():
            return type(value)(_encodable(each) for each in value)
    return value
