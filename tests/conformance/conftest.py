"""Fixtures of the tests that run on every engine."""

import pytest

from dbservice.backends import backend_for
from dbservice.settings import Settings


@pytest.fixture
def empty(server_settings: Settings) -> Settings:
    """The settings of a database on a server, that holds the tables and no user."""
    connection = backend_for(server_settings).connect()
    for table in ("items", "users"):
        connection.cursor().execute(f"DELETE FROM {table}")
    connection.close()
    return server_settings
