"""The migrations, on every engine: they go up, down and up again, and build exactly what `tables.py` says."""

from dbservice.testing import migrations_are_complete
from dbservice.testing.servers import Database


def test_migrations_are_complete(database: Database) -> None:
    migrations_are_complete(database)
