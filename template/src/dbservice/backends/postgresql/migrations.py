"""Migrations on PostgreSQL: an advisory lock, short lock timeouts."""

import zlib
from contextlib import closing
from typing import Any

import psycopg2
import sqlalchemy as sa
from sqlalchemy import event

from ..interface import ErrorKind, Lock, Migrations
from . import concurrent_index as concurrent_index  # registers itself with Alembic

_LOCKS = 0x64627365
"""The first of the two keys of our advisory locks."""


class PostgreSQLMigrations(Migrations):
    drivername = "postgresql+psycopg2"

    def engine(self) -> sa.Engine:
        engine = super().engine()
        event.listen(engine, "connect", _set_lock_timeout)
        return engine

    def create_schema(self, connection: sa.Connection) -> None:
        # not IF NOT EXISTS, which needs the privilege even if the schema exists
        if not sa.inspect(connection).has_schema(self.backend.schema):
            connection.execute(sa.schema.CreateSchema(self.backend.schema))
        connection.commit()

    def new_lock(self, name: str) -> Lock:
        return _AdvisoryLock(self.backend.connect(statement_timeout=self.backend.limits.statement), name)

    def cancel(self, connection: Any) -> None:
        try:
            other = self.backend.connect()
        except psycopg2.Error as error:
            if self.backend.classify_error(self.backend.connect_error(error)) is ErrorKind.NO_SLOTS:
                connection.cancel()  # else avoided: it holds the GIL until the server answers
            return
        with closing(other), other.cursor() as cursor:
            cursor.execute("SELECT pg_cancel_backend(%s)", (connection.get_backend_pid(),))


class _AdvisoryLock(Lock):
    def __init__(self, connection: Any, name: str) -> None:
        self._connection, self._cursor = connection, connection.cursor()
        self._key = zlib.crc32(name.encode()) - 2**31
        self._cursor.execute("SET idle_session_timeout = 0")

    def acquire(self) -> bool:
        # not the blocking form, which deadlocks with CREATE INDEX CONCURRENTLY
        return self._answer("SELECT pg_try_advisory_lock(%s, %s)", _LOCKS, self._key)

    def is_held(self) -> bool:
        return self._answer(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted"
            " AND classid = %s AND objid = %s)",
            *(_LOCKS, self._key % 2**32),  # pg_locks shows them unsigned
        )

    def close(self) -> None:
        self._connection.close()

    def _answer(self, sql: str, *values: int) -> bool:
        self._cursor.execute(sql, values)
        return bool(self._cursor.fetchone()[0])


def _set_lock_timeout(connection: Any, _: Any) -> None:
    # sessions that need the table queue behind a migration that waits for it
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '3s'")
    connection.commit()
