"""PyDAL's DAL for the tables of a service."""

import contextlib
import datetime as dt
import keyword
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, LiteralString

import pydal
import sqlalchemy as sa
from pydal.helpers.regex import REGEX_PYTHON_KEYWORDS
from pydal.objects import Expression, Field, Query, Row, Table

from ...addresses import Address
from ...backends.interface import Backend, ErrorKind
from ...errors import BadValue, OutcomeUnknown
from ...redaction import remember_statement
from ...schema import access_of, default_of, has_default, is_managed
from ...types import Id
from ..health import WriteHealth
from ..lane import Lane
from ..transaction import Transaction
from .adapters import serial_numbers
from .dialects import REFUSED
from .fields import FieldType
from .rows import ExactRow, ExactRows, StrictRecordUpdater
from .tables import ServiceTable

if TYPE_CHECKING:
    from ...tracing import Tracing

_NAMES = re.compile(r"[a-zA-Z]\w*\Z", re.ASCII)


class DAL(pydal.DAL):  # type: ignore[misc]
    """PyDAL's DAL for the tables of a service: one for the process, with a connection for each thread that uses it.

    `db[Users]` is the PyDAL table of a table class or of its SQLAlchemy table; `db.users` works too where PyDAL allows the
    name."""

    # PyDAL's default keeps the last hundred statements, with their values
    execution_handlers: ClassVar[list[Any]] = []

    Row, Rows = ExactRow, ExactRows
    record_operators: ClassVar[dict[str, Any]] = {
        **pydal.DAL.record_operators,
        "update_record": StrictRecordUpdater,
    }

    def __new__(cls, backend: Backend, tables: Iterable[sa.Table]) -> "DAL":
        return object.__new__(cls)  # PyDAL keeps every DAL alive in its thread

    def __init__(self, backend: Backend, tables: Iterable[sa.Table]) -> None:
        self._backend, self._transaction = backend, Transaction()
        self.health, self.lane = WriteHealth(backend), Lane()
        self._tracing: Tracing | None = None
        self._on_retry: Callable[[ErrorKind], None] = lambda kind: None
        """Told of each attempt that is about to be run again, on its thread."""
        self._db_uid = f"dbservice-{next(serial_numbers)}"
        self._service_tables: dict[str, ServiceTable] = {}
        self._connections: dict[int, Any] = {}
        self._addresses: dict[int, Address] = {}
        self.answered = float("-inf")
        """When a unit of work last ended well, by `time.monotonic`."""
        super().__init__(
            f"{backend.adapter}://", migrate=False, migrate_enabled=False, attempts=1, pool_size=0
        )
        for table in tables:
            self._define(table)

    def _define(self, table: sa.Table) -> None:
        quote = self._adapter.dialect.quote
        names = {column.name: _field_name(column.name) for column in table.columns}
        fields = [self._field(column, names[column.name]) for column in table.columns]
        name = _free_name(table.name, DAL)
        if REGEX_PYTHON_KEYWORDS.match(name):  # those of Python 2, too
            name = f"{name}_"
        # without an id that the database generates, PyDAL needs to be told the key
        identity = any(isinstance(column.type, Id) for column in table.columns)
        keyed = {} if identity else {"primarykey": [names[each.name] for each in table.primary_key.columns]}
        access = access_of(table)
        row_view = self._backend.row_view(table.name) if access is not None and access.values else ""
        defined: ServiceTable = super().define_table(  # pyright: ignore[reportAssignmentType]
            name if _NAMES.match(name) else f"t_{name}",
            *fields,
            rname=quote(row_view or table.name),
            table_class=ServiceTable,
            **keyed,
        )
        defined._bind(table, names, only_rows=not row_view)
        if row_view:
            self._adapter.dialect.insert_names = self._adapter.dialect.insert_names | {
                quote(row_view): quote(self._backend.insert_view(table.name))
            }
        self._adapter.dialect.column_names |= {field._rname for field in fields}
        self._service_tables[table.name] = defined

    def _field(self, column: sa.Column[Any], name: str) -> Field:
        rname = self._adapter.dialect.quote(column.name)
        if isinstance(column.type, Id):
            return Field(name, "id", rname=rname)
        options: dict[str, Any] = {}
        if is_managed(column):
            options["default"] = now
        elif has_default(column):
            options["default"] = lambda: default_of(column)
        if is_managed(column) and column.name == "updated_at":
            options["update"] = now
        return Field(
            name,
            FieldType(column, self._backend, self._adapter.literal_for(column)),  # pyright: ignore[reportArgumentType]
            rname=rname,
            requires=[],
            notnull=not column.nullable,
            **options,
        )

    def __getitem__(self, key: Any) -> Any:
        key = getattr(key, "__table__", key)  # of a table class
        if not isinstance(key, sa.Table):
            return super().__getitem__(key)
        found = self._service_tables.get(key.name)
        if found is None or found._source is not key:
            raise TypeError(
                f"the service declares no table {key.name}: its own ones belong into tables.py, those of other services into"
                " access.py"
            )
        return found

    def where(self, query: Any = None, ignore_common_filters: Any = None) -> Any:
        if query is not None and not isinstance(query, Query | Expression | Table):
            raise TypeError(f"db(...) {REFUSED}")
        return super().where(query, ignore_common_filters)

    def executesql(
        self,
        query: LiteralString,
        placeholders: Sequence[Any] | Mapping[str, Any] | None = None,
        *arguments: Any,
        **options: Any,
    ) -> Any:
        """Run one statement of SQL as it is, and return its rows; a constant text, and a placeholder for each value:

            db.executesql("UPDATE users SET note = %(note)s WHERE id = %(id)s", {"note": note, "id": user_id})

        On SQLite placeholders are `:name` and `?`, elsewhere `%(name)s` and `%s`. Values are str, int, float, Decimal, bool,
        bytes, date, time, datetime, UUID or None. Raises TypeError for others and for more than one statement, BadValue for
        what no column holds, and what other statements raise."""
        if type(query) is not str:
            raise TypeError("executesql() takes a text")
        try:
            sql, values = self._backend.raw_statement(query, placeholders)
        except ValueError as error:
            raise BadValue("a placeholder", str(error)) from None
        return super().executesql(sql, values, *arguments, **options)

    def define_table(self, *_: Any, **__: Any) -> Any:
        raise TypeError("tables are declared in tables.py")

    @contextlib.contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo the block if it raises, and nothing else of the unit of work; the exception passes on.

            try:
                with db.savepoint():
                    db[Users].insert_row({"email": email})
            except Conflict:
                ...  # the unit of work goes on

        Savepoints nest. Errors that end the whole transaction (a deadlock, a lost connection) make the unit of work run
        again, as they do without savepoints."""
        transaction, execute = self._transaction, self._adapter.execute
        number = transaction.savepoints = transaction.savepoints + 1
        execute(f"SAVEPOINT savepoint_{number}")
        try:
            yield
            execute(f"RELEASE SAVEPOINT savepoint_{number}")
        except BaseException:
            if transaction.failure is None or not transaction.failure.is_final:
                transaction.failure = None
                with contextlib.suppress(Exception):  # remembered by `execute`: the unit cannot commit
                    execute(f"ROLLBACK TO SAVEPOINT savepoint_{number}")
                    execute(f"RELEASE SAVEPOINT savepoint_{number}")
            raise

    def commit(self) -> None:
        raise RuntimeError("a unit of work commits by returning and rolls back by raising")

    rollback = close = single_transaction = commit  # pyright: ignore[reportAssignmentType]

    # --- for the worker threads

    def begin_unit(self) -> None:
        hosts = self._backend.hosts
        if (
            hosts.several
            and (address := self._addresses.get(threading.get_ident()))
            and not hosts.is_best(address)
        ):
            self.drop_connection()  # a server that comes before this one works again
        self._transaction.running = True
        self._transaction.secrets.clear()  # of a statement that was never sent

    def commit_unit(self) -> None:
        """COMMIT, if the unit of work has sent a statement. Raises OutcomeUnknown when the connection is lost meanwhile,
        what `execute` raises when nothing was stored, RuntimeError when the unit went on after an error."""
        transaction = self._transaction
        if transaction.failure is not None:
            raise transaction.failure.refusal()
        transaction.running = False
        if not transaction.begun:
            return
        transaction.begun = False
        cursor = self._adapter.traced_cursor()
        try:
            cursor.execute("COMMIT")
        except BaseException as error:
            self.drop_connection()
            remember_statement(error, self._backend, "COMMIT")
            if self._backend.classify_error(error) in (
                ErrorKind.LOST,
                ErrorKind.NOT_IN_CLUSTER,
                ErrorKind.TIMEOUT,
            ):
                raise OutcomeUnknown(
                    "The connection was lost during the commit; the write may have been stored: check before retrying."
                ) from error
            self._adapter.raise_problem(error, "COMMIT")
            raise
        # PostgreSQL reports success for the COMMIT of a failed transaction, as "ROLLBACK"
        if getattr(cursor, "statusmessage", "COMMIT") != "COMMIT":
            raise RuntimeError("the unit of work went on after a statement had failed: nothing was stored")
        if transaction.written:
            transaction.written = False
            self.health.succeeded()

    def roll_back_unit(self) -> None:
        """ROLLBACK, if the unit of work has sent a statement. Raises nothing: on an error the connection is closed."""
        transaction = self._transaction
        transaction.running = transaction.written = False
        if transaction.begun:
            transaction.begun = False
            try:
                self._adapter.traced_cursor().execute("ROLLBACK")
            except Exception:
                self.drop_connection()

    def drop_connection(self) -> None:
        """Close this thread's connection, in any state; the next unit of work opens a new one."""
        self._transaction.begun = False
        connection = self._adapter.held_connection()
        if connection is not None:
            self._adapter.set_connection(None)
            self._connections.pop(threading.get_ident(), None)
            self._addresses.pop(threading.get_ident(), None)
            with contextlib.suppress(Exception):
                connection.close()

    def interrupt_connection(self, thread: int) -> None:
        """Make the statement fail that another thread waits for."""
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
