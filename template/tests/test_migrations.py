"""The migrations, on every engine: they upgrade, downgrade and upgrade again, and create exactly what `tables.py` declares."""

from dbservice.testing import migrations_are_complete, revisions_are_safe
from dbservice.testing.servers import Database


def test_migrations_are_complete(database: Database) -> None:
    migrations_are_complete(database)


def test_revisions_are_safe() -> None:
    revisions_are_safe()
