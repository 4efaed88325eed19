"""Migrations on PostgreSQL: an advisory lock, short lock timeouts. Decision 20."""

import zlib
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import psycopg2
import sqlalchemy as sa
from sqlalchemy import event

from ...errors import StartupError
from ..interface import ErrorKind, Lock, Migrations
from . import online as online  # registers itself with Alembic
from .session import identifier, session_settings, set_config

_LOCKS = 0x64627365
"""The first of the two keys of our advisory locks."""

_HELD = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = %s AND objid = %s"


class PostgreSQLMigrations(Migrations):
    drivername = "postgresql+psycopg2"

    def engine(self) -> sa.Engine:
        engine = super().engine()
        event.listen(engine, "connect", self._set_lock_timeout)
        event.listen(engine, "begin", self._set_up_transaction)
        return engine

    def create_schema(self, connection: sa.Connection) -> None:
        # not IF NOT EXISTS, which needs the privilege even if the schema exists
        if not sa.inspect(connection).has_schema(self.backend.schema):
            connection.execute(sa.schema.CreateSchema(self.backend.schema))
        connection.commit()

    def new_lock(self, service: str) -> Lock:
        return _AdvisoryLock(self.backend.connect(), f"migrate {service}", self.backend.limits.statement)

    def cancel(self, connection: Any) -> None:
        if connection.begin:
            connection.cancel()  # the pooler made the process number up, and knows whose statement it is
            return
        try:
            other = self.backend.connect()
        except psycopg2.Error as error:
            if self.backend.classify_error(self.backend.connect_error(error)) is ErrorKind.NO_SLOTS:
                connection.cancel()  # else avoided: it holds the GIL until the server answers
            return
        with closing(other), other.cursor() as cursor:
            cursor.execute("SELECT pg_cancel_backend(%s)", (connection.get_backend_pid(),))

    def lock_holders(self, tables: Sequence[str]) -> str:
        with closing(self.backend.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT DISTINCT l.pid, coalesce(a.usename, ''), l.relation::regclass::text FROM pg_locks AS l"
                " JOIN pg_stat_activity AS a ON a.pid = l.pid WHERE l.granted AND l.pid <> pg_backend_pid()"
                " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                " AND l.relation IN (SELECT oid FROM pg_class WHERE relname = ANY (%s)"
                " AND relnamespace = current_schema()::regnamespace)",
                (list(tables),),
            )
            return ", ".join(
                f"session {pid} of {user} uses {table}" for pid, user, table in cursor.fetchall()
            )

    def _set_up_transaction(self, connection: sa.Connection) -> None:
        driver: Any = connection.connection.dbapi_connection
        if driver.autocommit:
            if driver.begin and "qualified" not in connection.info:  # `online` names the schema
                self._check_search_path(driver)
                connection.info.pop("is lock_timeout", None)  # this may be another session
            return
        with driver.cursor() as cursor:  # PgBouncer may run it in another session than the one before
            cursor.execute(set_config(session_settings(self.backend.schema) | self._lock_timeout, local=True))

    @property
    def _lock_timeout(self) -> dict[str, str]:
        # sessions that need the table queue behind a migration that waits for it
        return {"lock_timeout": f"{int(self.backend.limits.migration_lock * 1000)}ms"}

    def _set_lock_timeout(self, connection: Any, record: Any) -> None:
        if (
            connection.begin
        ):  # of a pooler, which may give the session to another client after each transaction
            return
        with connection.cursor() as cursor:
            cursor.execute(set_config(self._lock_timeout))
        connection.commit()
        patience = max(self.backend.limits.migration_lock, self.backend.settings.migrate_lock_timeout)
        record.info.update(self._lock_timeout, patience=f"{int(patience * 1000)}ms")

    def _check_search_path(self, driver: Any) -> None:
        """Before a statement that runs in no transaction, such as CREATE INDEX CONCURRENTLY."""
        schema = self.backend.schema
        with driver.cursor() as cursor:
            cursor.execute("SELECT current_schema()")
            if cursor.fetchone()[0] == schema:
                return
        user = self.backend.settings.db_user
        raise StartupError(
            "A statement that runs in no transaction would not find the service's schema, because a pooler keeps no settings"
            f" outside of one: let `migrate` reach the server itself, or ALTER ROLE {identifier(user)} SET search_path ="
            f" {identifier(schema)}."
        )


class _AdvisoryLock(Lock):
    """An advisory lock of a transaction, which stays open. One of a session would be lost behind a PgBouncer that gives the
    session to another client after each transaction, or held for ever."""

    def __init__(self, connection: Any, name: str, statement_timeout: float) -> None:
        self._connection, self._cursor = connection, connection.cursor()
        self._key = zlib.crc32(name.encode()) - 2**31
        self._begin = (
            f"BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = {int(statement_timeout * 1000)};"
            " SELECT set_config(name, '0', true) FROM pg_settings WHERE name IN"
            " ('idle_session_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout');"
        )

    def acquire(self) -> bool:
        # not the blocking form, which deadlocks with CREATE INDEX CONCURRENTLY
        if self._answer(f"{self._begin} SELECT pg_try_advisory_xact_lock(%s, %s)", _LOCKS, self._key):
            return True
        self._cursor.execute("ROLLBACK")
        return False

    def is_held(self) -> bool:
        return bool(self._answer(f"SELECT EXISTS ({_HELD} AND pid = pg_backend_pid())", *self._where))

    def how_to_end_holder(self) -> str:
        pid = self._answer(
            f"SELECT ({_HELD} AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
            *self._where,
        )
        return f"SELECT pg_terminate_backend({pid})" if pid else ""

    def close(self) -> None:
        self._connection.close()

    @property
    def _where(self) -> tuple[int, int]:
        return _LOCKS, self._key % 2**32  # pg_locks shows them unsigned

    def _answer(self, sql: str, *values: int) -> Any:
        self._cursor.execute(sql, values)
        return self._cursor.fetchone()[0]
