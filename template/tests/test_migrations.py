"""The migrations, on every engine: they go up, down and up again, and build exactly what `tables.py` says."""

from typing import Any

from dbservice.testing import migrations_are_complete


def test_migrations_are_complete(database: Any) -> None:
    migrations_are_complete(database)
