"""Migrations on PostgreSQL: one runner by an advisory lock, short lock timeouts."""

import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from ..interface import Migrations
from . import concurrent_index as concurrent_index  # registers itself with Alembic


class PostgreSQLMigrations(Migrations):
    drivername = "postgresql+psycopg2"

    def engine(self) -> sa.Engine:
        engine = super().engine()
        sa.event.listen(engine, "connect", _set_lock_timeout)
        return engine

    def create_schema(self, connection: sa.Connection) -> None:
        # not IF NOT EXISTS, which asks for the right to create even where there is nothing to create
        if not sa.inspect(connection).has_schema(self.backend.schema):
            connection.execute(sa.schema.CreateSchema(self.backend.schema))
        connection.commit()

    @contextmanager
    def lock(self, name: str, timeout: float) -> Iterator[None]:
        # on its own connection, polled: the blocking form deadlocks with CREATE INDEX CONCURRENTLY
        connection = self.backend.connect()
        try:
            cursor, deadline = connection.cursor(), time.monotonic() + timeout
            key = zlib.crc32(name.encode())
            while True:
                cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", (0x64627365, key - 2**31))
                if cursor.fetchone()[0]:
                    break
                if time.monotonic() > deadline:
                    raise TimeoutError
                time.sleep(0.2)
            yield
        finally:
            connection.close()


def _set_lock_timeout(connection: Any, _: Any) -> None:
    # a migration that waits for a table makes everybody behind it wait too
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '3s'")
    connection.commit()
