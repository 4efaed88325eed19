"""Migrations on MySQL and MariaDB: a lock by GET_LOCK, or by a row on a Galera cluster."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from ...accounts.declared import lock_table
from ...schema import access_of
from ..interface import Lock, Migrations
from . import online as online  # registers itself with Alembic
from .dialect import mysql_only
from .galera import RowLock, catch_up, is_galera
from .row_views import views_of


class MySQLMigrations(Migrations):
    drivername = "mysql+pymysql"

    def engine(self) -> sa.Engine:
        engine = super().engine()
        event.listen(engine, "connect", self._set_up)
        return engine

    def new_lock(self, service: str) -> Lock:
        connection = self.backend.connect()
        try:
            if is_galera(connection):
                return RowLock(connection, lock_table(service))
        except BaseException:
            connection.close()
            raise
        connection.close()
        connection = self.backend.connect(statement_timeout=self.backend.limits.statement)
        return _NamedLock(connection, f"{self.backend.settings.db_name}.migrate {service}"[-64:])

    def create_row_view(self, table: sa.Table) -> list[str]:
        access = access_of(table)
        if access is None or not access.values:
            return []
        columns = ", ".join(f"`{each.name}`" for each in table.columns)
        types: Any = {each.name: each.type for each in table.columns}
        rows = " AND ".join(
            f"`{name}` = {self.backend.codec.literal(types[name], value)}"
            for name, value in access.values.items()
        )
        return [
            f"CREATE OR REPLACE VIEW `{view}` AS SELECT {columns} FROM `{table.name}` WHERE {rows} WITH CASCADED CHECK OPTION"
            for view in views_of(
                table.name, self.backend.application.replace("-", "_"), inserts=access.writes
            )
        ]

    def cancel(self, connection: Any) -> None:
        with closing(self.backend.connect()) as other, other.cursor() as cursor:
            cursor.execute(f"KILL QUERY {connection.thread_id()}")

    def lock_holders(self, tables: Sequence[str]) -> str:
        places = ", ".join(["%s"] * len(tables))
        with closing(self.backend.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT t.processlist_id, t.processlist_user, l.object_name FROM performance_schema.metadata_locks AS l"
                " JOIN performance_schema.threads AS t ON t.thread_id = l.owner_thread_id WHERE l.lock_status = 'GRANTED'"
                f" AND l.object_type = 'TABLE' AND l.object_schema = DATABASE() AND l.object_name IN ({places})"
                " AND t.processlist_id <> CONNECTION_ID()",
                tables,
            )
            return ", ".join(
                f"session {session} of {user} uses {table}" for session, user, table in cursor.fetchall()
            )

    def _set_up(self, connection: Any, _: Any) -> None:
        timeout = max(1, round(self.backend.limits.migration_lock))
        with connection.cursor() as cursor:
            cursor.execute(
                f"SET SESSION lock_wait_timeout={timeout}, innodb_lock_wait_timeout={timeout}"
                + mysql_only(", information_schema_stats_expiry=0")
            )
        if is_galera(connection):
            catch_up(connection, self.backend.settings.migrate_lock_timeout)


class _NamedLock(Lock):
    def __init__(self, connection: Any, name: str) -> None:
        self._connection, self._cursor, self._name = connection, connection.cursor(), name
        self._cursor.execute("SET SESSION wait_timeout = 31536000")  # the maximum, a year

    def acquire(self) -> bool:
        return bool(self._answer("SELECT GET_LOCK(%s, 0)"))

    def is_held(self) -> bool:
        return bool(self._answer("SELECT IS_USED_LOCK(%s) = CONNECTION_ID()"))

    def how_to_end_holder(self) -> str:
        session = self._answer("SELECT IS_USED_LOCK(%s)")
        return f"KILL {session}" if session else ""

    def close(self) -> None:
        self._connection.close()

    def _answer(self, sql: str) -> Any:
        self._cursor.execute(sql, (self._name,))
        return self._cursor.fetchone()[0]
