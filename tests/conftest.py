"""Tests of the platform where it lies: the sample service on every engine, on real servers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dbservice.service import Service
from dbservice.settings import Settings
from dbservice.testing import servers
from dbservice.testing.plugin import fresh_database

from .faults import prepared, shared_server
from .sample_service import sample_service


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """The sample service."""
    return sample_service(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="session")
def migrated(service: Service, settings: Settings) -> Settings:
    """The settings of a database that holds the sample service's tables."""
    engine = service.backend(settings).migrations.engine()
    service.tables.create_all(engine)
    engine.dispose()
    return settings


@pytest.fixture(scope="module", params=sorted(servers.ENGINES))
def server(request: pytest.FixtureRequest) -> servers.Server:
    """The server of each engine that is one: all tests share it."""
    return shared_server(request)


@pytest.fixture(scope="module")
def place(server: servers.Server) -> Iterator[Settings]:
    """A database on it that holds the sample service's tables, for what SQLite cannot show."""
    with prepared(server) as settings:
        yield settings


@pytest.fixture
def private_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[servers.Database]:
    """A new, empty database of the engine that the test is parametrized with (`indirect`)."""
    with fresh_database(request.param, tmp_path) as made:
        yield made
