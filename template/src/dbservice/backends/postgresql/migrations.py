"""Migrations on PostgreSQL: one runner by an advisory lock, short lock timeouts."""

import zlib
from typing import Any

import sqlalchemy as sa

from ..interface import Lock, Migrations
from . import concurrent_index as concurrent_index  # registers itself with Alembic

_LOCKS = 0x64627365
"""The first of the two numbers of our advisory locks."""


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

    def new_lock(self, name: str) -> Lock:
        return _AdvisoryLock(self.backend.connect(statement_timeout=self.backend.limits.statement), name)

    def cancel(self, connection: Any) -> None:
        connection.cancel()


class _AdvisoryLock(Lock):
    def __init__(self, connection: Any, name: str) -> None:
        self._connection, self._cursor = connection, connection.cursor()
        self._number = zlib.crc32(name.encode()) - 2**31
        self._cursor.execute("SET idle_session_timeout = 0")

    def acquire(self) -> bool:
        # not the blocking form, which deadlocks with CREATE INDEX CONCURRENTLY
        return self._answer("SELECT pg_try_advisory_lock(%s, %s)", _LOCKS, self._number)

    def is_held(self) -> bool:
        return self._answer(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted"
            " AND classid = %s AND objid = %s)",
            *(_LOCKS, self._number % 2**32),  # where they are unsigned
        )

    def close(self) -> None:
        self._connection.close()

    def _answer(self, sql: str, *values: int) -> bool:
        self._cursor.execute(sql, values)
        return bool(self._cursor.fetchone()[0])


def _set_lock_timeout(connection: Any, _: Any) -> None:
    # a migration that waits for a table makes everybody behind it wait too
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '3s'")
    connection.commit()
