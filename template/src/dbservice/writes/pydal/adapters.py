"""PyDAL's adapters: connections and literals come from the backend, its errors are translated, SQL given as text is
refused."""

import itertools
import threading
from typing import Any

import sqlalchemy as sa
from pydal._globals import THREAD_LOCAL
from pydal.adapters import adapters
from pydal.adapters.mysql import MySQL
from pydal.adapters.postgres import PostgrePsyco
from pydal.adapters.sqlite import SQLite
from pydal.dialects import dialects
from pydal.helpers.classes import SQLALL
from pydal.helpers.methods import xorify
from pydal.objects import Expression, Field, Query

from ...backends.sql import quoted
from ...errors import Conflict
from ...redaction import remember_statement
from ...schema import is_secret
from ...types import ColumnType
from .checks import as_list, check_expression, operation
from .dialects import (
    REFUSED,
    SQL,
    GuardedSelect,
    LiteDialect,
    MariaDBDialect,
    PostgreSQLDialect,
    check_column,
    check_operand,
    check_operation,
)
from .fields import ANY_TEXT, ID, FieldType, Literal, checked
from .tables import ServiceTable

serial_numbers = itertools.count()


class AdapterMixin:
    """Mixed into PyDAL's adapters: connections come from the backend, the first statement of a unit of work begins its
    transaction, and what the driver raises is translated."""

    check_active_connection = False  # the first statement shows a lost connection: no SELECT 1 before it
    db: Any  # the DAL
    _number: int

    def __new__(cls, *_: Any, **__: Any) -> Any:
        self = super().__new__(cls)
        # PyDAL finds a thread's connection by id(self), which a later adapter may get again
        self._number = next(serial_numbers)
        return self

    def _initialize_(self) -> None:
        self.folder = ""  # and no URI is parsed: the backend knows where to connect

    @property
    def _connection_uname_(self) -> str:
        return f"_dbservice_connection_{self._number}"

    @property
    def _cursors_uname_(self) -> str:
        return f"_dbservice_cursor_{self._number}"

    def connector(self) -> Any:
        backend = self.db._backend
        connection, address = backend.connect_somewhere(backend.limits.statement, patient=True)
        self.db._connections[threading.get_ident()] = connection
        self.db._addresses[threading.get_ident()] = address
        return connection

    def after_connection(self) -> None:
        pass  # the backend has set the session up; PyDAL's own settings would turn strict mode off

    def adapt(self, value: Any) -> str:
        return quoted(checked("a text", ANY_TEXT, str(value)))

    def _config_json(self) -> None:
        pass

    def represent(self, obj: Any, field_type: Any) -> str:
        if isinstance(obj, Expression | Query):
            return self._expand(obj)
        if field_type == "id" and obj is not None:
            obj = checked("id", ID, obj)  # int() accepts more than integers
        text: str = super().represent(obj, field_type)  # type: ignore[misc]
        return text

    def _expand(
        self, expression: Any, field_type: Any = None, colnames: bool = False, query_env: Any = None
    ) -> str:
        if type(expression) is Field and field_type is None:  # PyDAL's way is long
            check_column(self.dialect, expression)  # type: ignore[attr-defined]
            return str(expression.longname) if colnames else SQL(expression.sqlsafe)
        if isinstance(expression, Expression | Query):
            if isinstance(expression, Expression) and operation(expression) in ("extract", "epoch"):
                raise TypeError("the engines extract parts of a time differently: compute it in Python")
            check_operation(self.dialect, expression)  # type: ignore[attr-defined]
            if isinstance(expression, Expression) and isinstance(expression.type, FieldType):
                check_expression(expression, field_type)
        else:
            check_operand(expression, field_type)
        text: str = super()._expand(expression, field_type, colnames, query_env or {})  # type: ignore[misc]
        return text if colnames else SQL(text)

    def expand_all(self, fields: Any, tables: Any) -> Any:
        for field in fields:
            if not isinstance(field, Expression | SQLALL):
                raise TypeError(f"select {REFUSED}")
        return super().expand_all(fields, tables)  # type: ignore[misc]

    def _select_wcols(self, query: Any, fields: Any, *args: Any, **attributes: Any) -> Any:
        if attributes.get("orderby"):
            attributes["orderby"] = [self._ordered(each) for each in as_list(attributes["orderby"])]
        for name in ("join", "left"):
            for given in as_list(attributes.get(name) or []):
                if not isinstance(given, ServiceTable | GuardedSelect) and operation(given) != "on":
                    raise TypeError(f"{name} takes tables and table.on(condition), not SQL")
        distinct = attributes.get("distinct")
        if distinct and distinct is not True:  # PyDAL writes it into the statement as it is
            attributes["distinct"] = self._expand(xorify(as_list(distinct)))
        return super()._select_wcols(query, fields, *args, **attributes)  # type: ignore[misc]

    def nested_select(self, query: Any, fields: Any, attributes: Any) -> Any:
        return GuardedSelect(self.db, query, fields, attributes)

    def _ordered(self, given: Any) -> Any:
        return given

    def _insert(self, table: Any, fields: Any) -> str:
        for field, value in fields:
            if isinstance(value, Expression | Query):
                raise TypeError(f"{field.name}: an insert takes values, not expressions")
        sql: str = super()._insert(table, fields)  # type: ignore[misc]
        return sql

    def _update(self, table: Any, query: Any, fields: Any) -> str:
        fields = [(f, self._computed(table, f, v) if isinstance(v, Expression) else v) for f, v in fields]
        sql: str = super()._update(table, table.of_service(query), fields)  # type: ignore[misc]
        return sql

    def _delete(self, table: Any, query: Any) -> str:
        table.check_write()
        sql: str = super()._delete(table, table.of_service(query))  # type: ignore[misc]
        return sql

    def _computed(self, table: Any, field: Any, value: Any) -> Any:
        # the engines round, truncate and convert differently: only integer arithmetic and copies are alike
        kind = field.type
        if isinstance(value, Field) and isinstance(kind, FieldType) and kind.same_as(value.type):
            return value
        if not isinstance(kind, FieldType) or not kind.is_integer or not kind.comparable_with(value.type):
            raise TypeError(f"{field.name}: an update computes integers only; compute it in Python")
        sql = self._expand(value, kind, query_env={"current_scope": [table._tablename]})
        return Expression(self.db, SQL(self.db._backend.codec.computed(kind.column_type, sql)))

    def insert_row(self, table: Any, columns: str, literals: str) -> int | None:
        """Insert a row whose values are literals, and return the id that the database generated, if it did."""
        self.execute(self.dialect.insert(table._rname, columns, literals))  # type: ignore[attr-defined]
        return int(self.lastrowid(table)) if table._identity is not None else None

    def literal_for(self, column: sa.Column[Any]) -> Literal:
        """What encodes the values of `column`: as literals, or those of a secret column apart from the statement."""
        backend, transaction = self.db._backend, self.db._transaction

        def secret(column_type: ColumnType, value: Any) -> str:
            found = backend.secret(column_type, value, len(transaction.secrets))
            if found is None:
                return str(backend.codec.literal(column_type, value))
            transaction.secrets.append(found[0])
            return str(found[1])

        return secret if is_secret(column) else backend.codec.literal

    def lastrowid(self, table: Any) -> Any:
        if (
            table._identity is None and not table._key
        ):  # of another service: access.py need not declare its key
            return None
        return super().lastrowid(table)  # type: ignore[misc]

    def held_connection(self) -> Any:
        return getattr(THREAD_LOCAL, self._connection_uname_, None)

    def execute(self, command: str, *arguments: Any, **options: Any) -> Any:
        """Send one statement, the first of a unit of work after BEGIN. Raises Conflict, BadValue or Unavailable for what
        the driver raises, and the driver's exception for all else."""
        transaction, backend = self.db._transaction, self.db._backend
        if transaction.failure is not None or not transaction.running:
            transaction.check()
        try:
            self.get_connection()  # type: ignore[attr-defined]
            cursor = self.traced_cursor()
            if self.db.health.failing is not None:
                transaction.written |= command.startswith(("INSERT", "UPDATE", "DELETE"))
            if not transaction.begun:
                transaction.begun = True
                begin = backend.begin_on(self.held_connection())
                if backend.pipeline_begin and not transaction.secrets:
                    return cursor.execute(f"{begin};{command}", *arguments, **options)
                cursor.execute(begin)
            if transaction.secrets:
                secrets, transaction.secrets = transaction.secrets, []
                backend.send_secrets(self.held_connection(), secrets)
            return cursor.execute(command, *arguments, **options)
        except BaseException as error:
            self.raise_problem(error, command)
            raise

    def traced_cursor(self) -> Any:
        """The thread's cursor, whose statements are spans if the service makes some."""
        cursor, tracing = self.cursor, self.db._tracing  # type: ignore[attr-defined]
        return cursor if tracing is None else tracing.cursor(cursor)

    def raise_problem(self, error: BaseException, command: str = "") -> None:
        """Remember that the driver raised `error`, and raise what it means to the unit of work, if it means anything."""
        remember_statement(error, self.db._backend, command)
        failure = self.db._transaction.fail(self.db._backend, error, self._inserted_into(command))
        self.db.health.failed(failure.kind, error)
        if failure.is_disconnected:
            self.db.drop_connection()
        if failure.make_problem:
            raise failure.make_problem() from error

    def iterselect(self, query: Any, fields: Any, attributes: Any) -> Any:
        self.db._transaction.check()
        try:
            self.get_connection()  # type: ignore[attr-defined]  # PyDAL takes its cursor before it executes
        except BaseException as error:
            self.raise_problem(error)
            raise
        return super().iterselect(query, fields, attributes)  # type: ignore[misc]

    def _inserted_into(self, command: str) -> sa.Table | None:
        # MySQL and MariaDB name the column that lacks a value, and not its table
        tables, names = self.db._service_tables.values(), self.db._adapter.dialect.insert_names
        found = (
            each
            for each in tables
            if command.startswith(f"INSERT INTO {names.get(each._rname, each._rname)}")
        )
        return next((each._source for each in found), None)


@adapters.register_for("dbservice_postgresql:psycopg2")
class PostgreSQLAdapter(AdapterMixin, PostgrePsyco):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._last_insert = None
        super().__init__(*args, **kwargs)

    def execute(self, command: str, *arguments: Any, **options: Any) -> Any:
        if command.find(";", 0, -1) >= 0:  # psycopg2 would send several statements
            self.db._backend.lexer.check_single(command)
        return super().execute(command, *arguments, **options)

    def _select_aux(self, sql: str, fields: Any, attributes: Any, colnames: Any) -> Any:
        if (
            self.db._transaction.secrets
        ):  # PyDAL's cache knows a statement by its text, and they are not in it
            attributes = {**attributes, "cache": None}
        return super()._select_aux(sql, fields, attributes, colnames)

    def _cached_select(self, cache: Any, sql: str, fields: Any, attributes: Any, colnames: Any) -> Any:
        if self.db._transaction.secrets:
            return self._select_aux(sql, fields, attributes, colnames)
        return super()._cached_select(cache, sql, fields, attributes, colnames)

    def insert_row(self, table: Any, columns: str, literals: str) -> int | None:
        if table._identity is None:
            return super().insert_row(table, columns, literals)
        self.execute(self.dialect.insert(table._rname, columns, literals, table._id._rname))
        return int(self.cursor.fetchone()[0])

    def _ordered(self, given: Any) -> Any:
        """With NULL below all values, as the other engines sort it."""
        if not isinstance(given, Expression):
            return given
        op = operation(given)
        if op == "comma":
            return Expression(
                self.db, self.dialect.comma, self._ordered(given.first), self._ordered(given.second)
            )
        if isinstance(given, Field) and (given.notnull or given.type == "id"):
            return given
        return Expression(
            self.db, self.dialect.nulls_last if op == "invert" else self.dialect.nulls_first, given
        )


@adapters.register_for("dbservice_mysql:pymysql")
class MySQLAdapter(AdapterMixin, MySQL):  # type: ignore[misc]
    def delete(self, table: Any, query: Any) -> Any:
        """Delete rows that reference each other, too: InnoDB checks each row as it goes, other engines the statement."""
        references = table._self_references
        try:
            return super().delete(table, query)
        except Conflict:
            if not references or not hasattr(table, "_id"):  # PyDAL has none for a key of several columns
                raise
        self.db._transaction.failure = None  # the server has undone this statement and no other
        keys = [row[table._id.name] for row in self.db(query).select(table._id, for_update=True)]
        these = table._id.belongs(keys)
        self.update(table, these, [(field, None) for field in references])
        return super().delete(table, these)


@adapters.register_for("dbservice_sqlite:sqlite3")
class SQLiteAdapter(AdapterMixin, SQLite):  # type: ignore[misc]
    def after_connection(self) -> None:
        self._register_extract()
        self._register_regexp()

    def select(self, query: Any, fields: Any, attributes: Any) -> Any:
        # a unit of work holds SQLite's write lock already, and PyDAL would begin a second transaction
        attributes.pop("for_update", None)
        return super(SQLite, self).select(query, fields, attributes)

    def delete(self, table: Any, query: Any) -> Any:
        # PyDAL cascades in Python what the foreign keys of the database cascade
        return super(SQLite, self).delete(table, query)


dialects.register_for(PostgreSQLAdapter)(PostgreSQLDialect)
dialects.register_for(MySQLAdapter)(MariaDBDialect)
dialects.register_for(SQLiteAdapter)(LiteDialect)
