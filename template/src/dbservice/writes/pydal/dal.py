"""PyDAL's DAL over the tables of a service."""

import contextlib
import datetime as dt
import keyword
import re
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pydal
import sqlalchemy as sa
from pydal.helpers.regex import REGEX_PYTHON_KEYWORDS
from pydal.objects import Field, Row

from ...backends.interface import Backend, ErrorKind
from ...errors import OutcomeUnknown
from ...schema import default_of, has_default
from ...types import Id
from ..transaction import Transaction
from .adapters import numbers
from .fields import ColumnField
from .rows import RecordUpdate, ValueRow, ValueRows
from .tables import MANAGED_TIMES, ServiceTable

_NAMES = re.compile(r"[a-zA-Z]\w*\Z", re.ASCII)


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
        self._backend, self._transaction = backend, Transaction()
        self._db_uid = f"dbservice-{next(numbers)}"
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

    @contextlib.contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo the block, and nothing else of the unit of work, if it raises; what it raises passes on.

            try:
                with db.savepoint():
                    db[Users].insert_row({"email": email})
            except Conflict:
                ...  # the unit of work goes on

        Savepoints nest. After a deadlock, a lost connection and whatever else ends the whole transaction, the unit of work
        runs again as a whole, as it does without savepoints."""
        transaction, execute = self._transaction, self._adapter.execute
        number = transaction.savepoints = transaction.savepoints + 1
        execute(f"SAVEPOINT savepoint_{number}")
        try:
            yield
            execute(f"RELEASE SAVEPOINT savepoint_{number}")
        except BaseException:
            if transaction.failure is None or not transaction.failure.is_final:
                transaction.failure = None
                with contextlib.suppress(Exception):  # which `execute` remembers: then nothing is stored
                    execute(f"ROLLBACK TO SAVEPOINT savepoint_{number}")
                    execute(f"RELEASE SAVEPOINT savepoint_{number}")
            raise

    def commit(self) -> None:
        raise RuntimeError("a unit of work commits by returning, and rolls back by raising")

    rollback = close = single_transaction = commit

    # --- for the worker threads

    def begin_unit(self) -> None:
        self._transaction.start()

    def commit_unit(self) -> None:
        """Store what the unit of work did, if it did anything. Raises OutcomeUnknown where nobody can say whether it is
        stored, what `execute` raises where it is not, and what a unit raises that went on after an error."""
        transaction = self._transaction
        transaction.check()
        transaction.running = False
        if not transaction.begun:
            return
        transaction.begun = False
        cursor = self._adapter.cursor
        try:
            cursor.execute("COMMIT")
        except BaseException as error:
            self.drop_connection()
            if self._backend.classify_error(error) in (ErrorKind.LOST, ErrorKind.TIMEOUT):
                raise OutcomeUnknown(
                    "The connection was lost during the commit; the write may have been stored: check before retrying."
                ) from error
            self._adapter.raise_problem(error)
            raise
        # PostgreSQL answers COMMIT of a failed transaction with ROLLBACK, and calls it a success
        if getattr(cursor, "statusmessage", "COMMIT") != "COMMIT":
            raise RuntimeError("the unit of work went on after a statement had failed: nothing was stored")

    def roll_back_unit(self) -> None:
        """Undo what the unit of work did. Raises nothing: a connection that cannot roll back is closed."""
        transaction = self._transaction
        transaction.running = False
        if transaction.begun:
            transaction.begun = False
            try:
                self._adapter.cursor.execute("ROLLBACK")
            except Exception:
                self.drop_connection()

    def drop_connection(self) -> None:
        """Close this thread's connection, in whatever state; the next statement opens a new one."""
        self._transaction.begun = False
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
