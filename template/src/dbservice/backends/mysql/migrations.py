"""Migrations on MySQL and MariaDB: one runner by GET_LOCK."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..interface import Migrations
from . import resumable as resumable  # registers itself with Alembic


class MySQLMigrations(Migrations):
    drivername = "mysql+pymysql"

    @contextmanager
    def lock(self, name: str, timeout: float) -> Iterator[None]:
        connection = self.backend.connect()
        try:
            cursor = connection.cursor()
            cursor.execute(
                "SELECT GET_LOCK(%s, %s)", (f"{self.backend.settings.db_name}.{name}"[-64:], int(timeout))
            )
            if cursor.fetchone()[0] != 1:
                raise TimeoutError
            yield
        finally:
            connection.close()
