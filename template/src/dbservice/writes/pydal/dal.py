"""PyDAL's DAL over the tables of a service."""

import contextlib
import datetime as dt
import keyword
import re
import threading
from typing import Any, ClassVar

import pydal
import sqlalchemy as sa
from pydal.helpers.regex import REGEX_PYTHON_KEYWORDS
from pydal.objects import Field, Row

from ...backends.interface import Backend
from ...schema import default_of, has_default
from ...types import Id
from .adapters import numbers
from .fields import ColumnField
from .rows import RecordUpdate, ValueRow, ValueRows
from .tables import MANAGED_TIMES, ServiceTable

_NAMES = re.compile(r"[a-zA-Z]\w*\Z", re.ASCII)


class _Unit(threading.local):
    """Whether this thread is inside a unit of work, and whether its transaction has begun."""

    running = False
    begun = False


class DAL(pydal.DAL):  # type: ignore[misc]
    """PyDAL's DAL over the tables of a service; one for the process, a connection for each thread that uses it.

    `db[Users]` is the PyDAL table of a table class, or of its SQLAlchemy table; `db.users` works too where PyDAL allows
    the name."""

    execution_handlers: ClassVar[
        list[Any]
    ] = []  # PyDAL's own keeps the last hundred statements, with their values

    Row, Rows = ValueRow, ValueRows
    record_operators: ClassVar[dict[str, Any]] = {**pydal.DAL.record_operators, "update_record": RecordUpdate}

    def __new__(cls, backend: Backend, metadata: sa.MetaData) -> "DAL":
        return object.__new__(cls)  # PyDAL's keeps every DAL alive in its thread

    def __init__(self, backend: Backend, metadata: sa.MetaData) -> None:
        self._backend, self._unit, self._db_uid = backend, _Unit(), f"dbservice-{next(numbers)}"
        self._mirrors: dict[str, ServiceTable] = {}
        self._connections: dict[int, Any] = {}
        super().__init__(
            f"{backend.adapter}://", migrate=False, migrate_enabled=False, attempts=1, pool_size=0
        )
        for table in metadata.sorted_tables:
            self._mirror(table)

    def _mirror(self, table: sa.Table) -> None:
        quote = self._adapter.dialect.quote
        names = {column.name: _field_name(column.name) for column in table.columns}
        fields = [self._field(column, names[column.name]) for column in table.columns]
        name = _free_name(table.name, DAL)
        if REGEX_PYTHON_KEYWORDS.match(name):  # Python 2's, too
            name = f"{name}_"
        mirrored = self.define_table(
            name if _NAMES.match(name) else f"t_{name}",
            *fields,
            rname=quote(table.name),
            table_class=ServiceTable,
        )
        mirrored._bind(table, names)
        self._mirrors[table.name] = mirrored

    def _field(self, column: sa.Column[Any], name: str) -> Field:
        rname = self._adapter.dialect.quote(column.name)
        if isinstance(column.type, Id):
            return Field(name, "id", rname=rname)
        about: dict[str, Any] = {}
        if column.name in MANAGED_TIMES:
            about["default"] = now
        elif has_default(column):
            about["default"] = lambda: default_of(column)
        if column.name == "updated_at":
            about["update"] = now
        return Field(
            name,
            ColumnField(column, self._backend),
            rname=rname,
            requires=[],
            notnull=not column.nullable,
            **about,
        )

    def __getitem__(self, key: Any) -> Any:
        key = getattr(key, "__table__", key)  # of a table class
        return self._mirrors[key.name] if isinstance(key, sa.Table) else super().__getitem__(key)

    def commit(self) -> None:
        raise RuntimeError("a unit of work commits by returning, and rolls back by raising")

    rollback = close = single_transaction = commit

    # --- for the worker threads

    def begin_unit(self) -> None:
        self._unit.running, self._unit.begun = True, False

    def end_unit(self, word: str) -> None:
        """COMMIT or ROLLBACK what the unit did, if it did anything. Raises the driver's exception."""
        self._unit.running = False
        if self._unit.begun:
            self._unit.begun = False
            cursor = self._adapter.cursor
            cursor.execute(word)
            # PostgreSQL answers COMMIT of a failed transaction with ROLLBACK, and calls it a success
            if getattr(cursor, "statusmessage", word) != word:
                raise RuntimeError(
                    "the unit of work went on after a statement had failed: nothing was stored"
                )

    def drop_connection(self) -> None:
        """Close this thread's connection, in whatever state; the next statement opens a new one."""
        self._unit.running = self._unit.begun = False
        connection = self._adapter.held_connection()
        if connection is not None:
            self._adapter.set_connection(None)
            self._connections.pop(threading.get_ident(), None)
            with contextlib.suppress(Exception):
                connection.close()

    def interrupt_connection(self, thread: int) -> None:
        """Make what another thread waits for on its connection fail."""
        connection = self._connections.get(thread)
        if connection is not None:
            with contextlib.suppress(Exception):
                self._backend.interrupt(connection)


def _field_name(column: str) -> str:
    if column in ("update_record", "delete_record") or REGEX_PYTHON_KEYWORDS.match(column):
        return f"{column}_"
    return _free_name(_free_name(column, ServiceTable), Row)


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _free_name(name: str, taken: type) -> str:
    kept = keyword.iskeyword(name) or hasattr(taken, name)
    return f"{name}_" if kept else str(name)
