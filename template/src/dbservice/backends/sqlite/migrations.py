"""Migrations on SQLite: a file lock, ids that are never used twice, foreign keys checked before each commit."""

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from ..interface import Lock, Migrations
from ..sql import escape_colons
from .batch import convert_value, explain_conversion_error


class SQLiteMigrations(Migrations):
    drivername = "sqlite+pysqlite"

    def engine(self) -> sa.Engine:
        engine = super().engine()
        _escape_checks(engine.dialect)
        # the driver's own transactions leave DDL outside (SQLAlchemy's documentation of pysqlite)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        event.listen(engine, "connect", _set_up_connection)
        # nobody queues behind it, so that it may wait for as long as for another migration
        patience = int(max(self.backend.limits.connect, self.backend.settings.migrate_lock_timeout) * 1000)
        event.listen(
            engine, "connect", lambda connection, _: connection.execute(f"PRAGMA busy_timeout={patience}")
        )
        event.listen(engine, "begin", _save_sequences)
        event.listen(engine, "commit", _restore_sequences)
        event.listen(engine, "commit", _check_foreign_keys)
        event.listen(engine, "handle_error", explain_conversion_error)
        return engine

    def new_lock(self, service: str) -> Lock:
        return _FileLock(Path(f"{self.backend.settings.db_name}.lock"))

    def cancel(self, connection: Any) -> None:
        connection.interrupt()


class _FileLock(Lock):
    def __init__(self, path: Path) -> None:
        self._path, self._file = path, path.open("a")

    def acquire(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if not self.is_held():  # the file was removed: others lock another one
            self._file.close()
            self._file = self._path.open("a")
            return self.acquire()
        return True

    def is_held(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self._path.stat())
        except FileNotFoundError:
            return False

    def close(self) -> None:
        self._file.close()


def _escape_checks(dialect: sa.Dialect) -> None:
    """Reflect the text of a CHECK as `sa.text` expects it, so that Alembic can write it into the copy of a table."""
    read = dialect.get_check_constraints

    def get_check_constraints(*arguments: Any, **options: Any) -> Any:
        found = read(*arguments, **options)
        return [{**each, "sqltext": escape_colons(each["sqltext"])} for each in found]

    dialect.get_check_constraints = get_check_constraints  # type: ignore[method-assign]


def _set_up_connection(connection: Any, _: Any) -> None:
    # a table is dropped once its copy exists, which must not act on foreign keys to it
    connection.execute("PRAGMA foreign_keys=OFF")
    connection.create_function("dbservice_converted", 4, convert_value, deterministic=True)


def _save_sequences(connection: sa.Connection) -> None:
    connection.info["sequences"] = _sequences(connection)


def _restore_sequences(connection: sa.Connection) -> None:
    """Let the copy of a table not reuse an id that the table has given."""
    used = _sequences(connection)
    for table, last in connection.info.pop("sequences", {}).items():
        if used.get(table, 0) < last and sa.inspect(connection).has_table(table):
            connection.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
            connection.exec_driver_sql("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, last))


def _check_foreign_keys(connection: sa.Connection) -> None:
    if broken := connection.exec_driver_sql("PRAGMA foreign_key_check").fetchone():
        raise sqlite3.IntegrityError(
            f"FOREIGN KEY constraint failed: row {broken[1]} of {broken[0]} refers to a row of {broken[2]} that does not exist"
        )


def _sequences(connection: sa.Connection) -> dict[str, int]:
    """By table, the highest id that it has ever given."""
    sql = "SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'"
    if not connection.exec_driver_sql(sql).fetchone():
        return {}
    rows = connection.exec_driver_sql("SELECT name, seq FROM sqlite_sequence")
    return {name: last for name, last in rows}
