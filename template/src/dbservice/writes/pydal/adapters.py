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
from pydal.objects import Expression, Field, Query

from ...backends.sql import quoted
from ...errors import Conflict
from ...redaction import remember_statement
from .checks import as_list, check_expression, operation, refuse_folding, refuse_sql
from .fields import ANY_TEXT, ID, FieldType, checked

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
        for name in ("lower", "upper", "ilike"):
            setattr(self.dialect, name, refuse_folding)  # type: ignore[attr-defined]

    @property
    def _connection_uname_(self) -> str:
        return f"_dbservice_connection_{self._number}"

    @property
    def _cursors_uname_(self) -> str:
        return f"_dbservice_cursor_{self._number}"

    def connector(self) -> Any:
        backend = self.db._backend
        connection = backend.connect(statement_timeout=backend.limits.statement)
        self.db._connections[threading.get_ident()] = connection
        return connection

    def after_connection(self) -> None:
        pass  # the backend has set the session up; PyDAL's own settings would turn strict mode off

    def adapt(self, value: Any) -> str:
        return quoted(checked("a text", ANY_TEXT, str(value)))

    def _config_json(self) -> None:
        pass

    def represent(self, obj: Any, field_type: Any) -> str:
        if field_type == "id" and obj is not None and not isinstance(obj, Expression):
            obj = checked("id", ID, obj)  # int() accepts more than integers
        text: str = super().represent(obj, field_type)  # type: ignore[misc]
        return text

    def _expand(self, expression: Any, field_type: Any = None, *args: Any, **kwargs: Any) -> str:
        if isinstance(expression, Expression) and isinstance(expression.type, FieldType):
            check_expression(expression, field_type)
        if isinstance(expression, Expression) and operation(expression) in ("extract", "epoch"):
            raise TypeError("the engines extract parts of a time differently: compute it in Python")
        if isinstance(expression, Query) and operation(expression) == "belongs":
            refuse_sql("belongs()", expression.second)
        text: str = super()._expand(expression, field_type, *args, **kwargs)  # type: ignore[misc]
        return text

    def expand_all(self, fields: Any, tables: Any) -> Any:
        for field in fields:
            refuse_sql("select", field)
        return super().expand_all(fields, tables)  # type: ignore[misc]

    def _select_wcols(self, query: Any, fields: Any, *args: Any, **attributes: Any) -> Any:
        if attributes.get("orderby"):
            attributes["orderby"] = [self._ordered(each) for each in as_list(attributes["orderby"])]
        for name in ("orderby", "groupby", "having"):
            for given in as_list(attributes.get(name)):
                refuse_sql(name, given)
        return super()._select_wcols(query, fields, *args, **attributes)  # type: ignore[misc]

    def _ordered(self, given: Any) -> Any:
        return given

    def _insert(self, table: Any, fields: Any) -> str:
        for field, value in fields:
            if isinstance(value, Expression):
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
        return Expression(self.db, self.db._backend.codec.computed(kind.column_type, sql))

    def insert_row(self, table: Any, columns: str, literals: str) -> int | None:
        """Insert a row whose values are literals, and return the id that the database generated, if it did."""
        self.execute(self.dialect.insert(table._rname, columns, literals))  # type: ignore[attr-defined]
        return int(self.lastrowid(table)) if table._identity is not None else None  # type: ignore[attr-defined]

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
            cursor = self.cursor  # type: ignore[attr-defined]
            if not transaction.begun:
                transaction.begun = True
                if backend.pipeline_begin:
                    return cursor.execute(f"{backend.begin};{command}", *arguments, **options)
                cursor.execute(backend.begin)
            return cursor.execute(command, *arguments, **options)
        except BaseException as error:
            self.raise_problem(error, command)
            raise

    def raise_problem(self, error: BaseException, command: str = "") -> None:
        """Remember that the driver raised `error`, and raise what it means to the unit of work, if it means anything."""
        remember_statement(error, self.db._backend, command)
        failure = self.db._transaction.fail(self.db._backend, error, self._inserted_into(command))
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
        tables = self.db._service_tables.values()
        found = (each for each in tables if command.startswith(f"INSERT INTO {each._rname}"))
        return next((each._source for each in found), None)


@adapters.register_for("dbservice_postgresql:psycopg2")
class PostgreSQLAdapter(AdapterMixin, PostgrePsyco):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._last_insert = None
        super().__init__(*args, **kwargs)

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
        return Expression(self.db, self._nulls_last if op == "invert" else self._nulls_first, given)

    def _nulls_first(self, given: Any, query_env: Any = None) -> str:
        return f"{self.expand(given, query_env=query_env or {})} NULLS FIRST"

    def _nulls_last(self, given: Any, query_env: Any = None) -> str:
        return f"{self.expand(given, query_env=query_env or {})} NULLS LAST"


@adapters.register_for("dbservice_mysql:pymysql")
class MySQLAdapter(AdapterMixin, MySQL):  # type: ignore[misc]
    def _initialize_(self) -> None:
        super()._initialize_()
        self.dialect.length = lambda text, query_env={}: f"CHAR_LENGTH({self.expand(text)})"  # not in bytes

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
