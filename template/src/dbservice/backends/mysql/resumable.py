"""Alembic on MySQL and MariaDB, which cannot roll back DDL: an interrupted revision continues where it stopped.

Each statement of the running revision is recorded in a journal table, which is dropped on completion. Statements that it
records as done are skipped. Only what this revision did itself counts: a table of the same name that another service owns
is still an error."""

import hashlib
import logging
import re
from collections import Counter
from typing import Any

import sqlalchemy as sa
from alembic.ddl.mysql import MySQLImpl
from sqlalchemy import exc

from ...errors import StartupError
from ..interface import UNCHECKED
from ..online import OnlineImpl
from .ddl import drop_covered_indexes, drop_foreign_key_index, drop_needed_index

logger = logging.getLogger("alembic.runtime.migration")

_ALREADY_APPLIED = {
    *(1050, 1051),  # the table exists, does not exist
    *(1060, 1061, 1091),  # the column or the index exists, does not exist
    *(1826, 3822, 3821, 3940),  # the constraint exists, does not exist
}

_NEEDED_IN_FOREIGN_KEY = 1553


class ResumableMySQLImpl(OnlineImpl, MySQLImpl):
    """Alembic's MySQL with a journal of the running revision."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # by statement, whether it is recorded as done; None: the journal has not been read yet
        self._recorded: dict[str, bool] | None = None
        self._executed: Counter[str] = Counter()

    def _exec(
        self,
        construct: Any,
        execution_options: Any = None,
        multiparams: Any = None,
        params: Any = None,
    ) -> Any:
        def execute() -> Any:
            try:
                return self.run(construct, execution_options, multiparams, params or {})
            except exc.DBAPIError as error:
                if not self._drop_needed_index(construct, error):
                    raise

        if self.as_sql or self.connection is None:
            return execute()
        if getattr(getattr(construct, "table", None), "name", None) == self.version_table:
            return self._finish(execute)
        is_ddl = isinstance(construct, sa.schema.ExecutableDDLElement)
        compiled = (sa.text(construct) if isinstance(construct, str) else construct).compile(
            dialect=self.dialect
        )
        text, values = str(compiled), None if is_ddl else compiled.params
        key = hashlib.sha256(repr((text, values, multiparams, params)).encode()).hexdigest()
        self._executed[key] += 1  # a revision may contain the same statement twice
        key = f"{key[:50]} {self._executed[key]}"
        done = self._journal().get(key)
        if done:
            return None
        self._write("REPLACE INTO {} VALUES (%s, %s, 0)", key, text.replace("%%", "%"))
        try:
            result = self._execute_again(execute, started=done is not None)
            self.check_rows(construct)
        except (exc.DBAPIError, StartupError) as error:
            if not getattr(error, "connection_invalidated", False):
                self._write("ROLLBACK")
                self._write("DELETE FROM {} WHERE id = %s", key)
                self._write("COMMIT")
            raise
        self._write("UPDATE {} SET done = 1 WHERE id = %s", key)
        if is_ddl or re.match(r"\s*(ALTER|CREATE|DROP|RENAME|TRUNCATE)\b", text, re.IGNORECASE):
            self._write("COMMIT")
        self._journal()[key] = True
        return result

    def run(self, construct: Any, execution_options: Any, multiparams: Any, params: Any) -> Any:
        """Execute a statement of a revision."""
        return super()._exec(construct, execution_options, multiparams, params)

    def check_rows(self, construct: Any) -> None:
        """Check what the server did not check when it executed `construct`. Raises sqlalchemy.exc.DBAPIError."""

    def _execute_again(self, execute: Any, *, started: bool) -> Any:
        """Execute a statement that an earlier run may have `started`: one that was killed before it recorded the result."""
        try:
            return execute()
        except exc.DBAPIError as error:
            if error.connection_invalidated or not started or _code(error) not in _ALREADY_APPLIED:
                raise
            return None

    def _finish(self, execute: Any) -> Any:
        """Drop the journal and execute the last statement of the revision, which changes the version table."""
        for text in self._removed_statements():
            logger.warning("stays executed, although the revision does not contain it any more: %s", text)
        if self._recorded is not None:
            self._write("DELETE FROM {}")
        result = execute()
        if self._recorded is not None:
            self._write("DROP TABLE {}")  # commits both
        self._recorded = None
        self._executed.clear()
        return result

    def _removed_statements(self) -> list[str]:
        """What an earlier run of the revision executed and this one did not contain."""
        executed = {
            f"{key[:50]} {number + 1}" for key, count in self._executed.items() for number in range(count)
        }
        if all(key in executed for key in self._journal()):
            return []
        rows = self._write("SELECT id, statement FROM {} WHERE done = 1")
        return [" ".join(row.statement.split()) for row in rows if row.id not in executed]

    def alter_column(
        self, table_name: str, column_name: str, *, name: str | None = None, **change: Any
    ) -> None:
        if name is not None:  # Alembic's CHANGE needs the whole definition of the column
            table, old, new = map(self.dialect.identifier_preparer.quote, (table_name, column_name, name))
            self._exec(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")
        super().alter_column(table_name, name or column_name, **change)

    def create_index(self, index: sa.Index, **options: Any) -> None:
        super().create_index(index, **options)
        self._drop_covered_indexes(index.table)

    def add_constraint(self, const: Any, **options: Any) -> None:
        super().add_constraint(const, **options)
        if isinstance(const, sa.UniqueConstraint):
            self._drop_covered_indexes(const.table)

    def drop_constraint(self, const: Any, **options: Any) -> None:
        super().drop_constraint(const, **options)
        if isinstance(const, sa.ForeignKeyConstraint) and not self.as_sql and self.connection is not None:
            drop_foreign_key_index(self.connection, const.table.name, str(const.name))

    def correct_for_autogen_constraints(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        conn_unique_constraints: Any,
        conn_indexes: Any,
        metadata_unique_constraints: Any,
        metadata_indexes: Any,
    ) -> None:
        """Ignore the index that the server creates for a foreign key, with its name."""
        declared = {index.name for index in metadata_indexes}
        for index in list(conn_indexes):
            keys = {key.name for key in index.table.foreign_key_constraints}
            if index.name in keys - declared and not index.unique:
                conn_indexes.remove(index)

    def _drop_needed_index(self, construct: Any, error: exc.DBAPIError) -> bool:
        """Whether `error` was that a foreign key needs the index that `construct` drops, which is then dropped."""
        element = getattr(construct, "element", None)
        if not isinstance(element, sa.Index | sa.UniqueConstraint) or self.connection is None:
            return False
        if _code(error) != _NEEDED_IN_FOREIGN_KEY or element.table is None:
            return False
        return drop_needed_index(self.connection, element.table.name, str(element.name))

    def _drop_covered_indexes(self, table: sa.Table | None) -> None:
        if not self.as_sql and self.connection is not None and table is not None:
            drop_covered_indexes(self.connection, table.name)

    def is_interrupted(self) -> bool:
        """Whether the journal records statements of a revision that is not complete. Drops an empty journal."""
        assert self.connection is not None
        self.connection.rollback()
        if not sa.inspect(self.connection).has_table(self.journal_table):
            return False
        if self._write("SELECT count(*) FROM {}").scalar():
            return True
        self._write("DROP TABLE {}")
        self.connection.commit()
        return False

    def _journal(self) -> dict[str, bool]:
        if self._recorded is None:
            self._write(
                "CREATE TABLE IF NOT EXISTS {} (id VARCHAR(64) NOT NULL PRIMARY KEY, statement LONGTEXT NOT NULL,"
                " done TINYINT NOT NULL) CHARACTER SET utf8mb4"
            )
            self._recorded = {row.id: bool(row.done) for row in self._write("SELECT id, done FROM {}")}
        return self._recorded

    def _write(self, sql: str, *values: str) -> sa.CursorResult[Any]:
        assert self.connection is not None
        return self.connection.exec_driver_sql(sql.format(self.journal), values, execution_options=UNCHECKED)


def _code(error: exc.DBAPIError) -> Any:
    return error.orig.args[0] if error.orig and error.orig.args else None
