"""PyDAL over the tables of `tables.py`: never typed twice, never migrating, every value checked on its way.

PyDAL by itself alters values (booleans, microseconds, zones, strict mode), writes some of them into SQL unquoted and
refuses common names. Here every column has a type of its own, whose literal comes from the engine; every connection is
set up by the engine; a table or column is reached by its SQLAlchemy object, so no name is refused:

    db[Users].insert(email="a@b.example")            # plain PyDAL
    db(db[Users].email == "a@b.example").select()
"""

import contextlib
import datetime as dt
import itertools
import keyword
import re
import threading
from collections.abc import Mapping
from typing import Any, ClassVar

import pydal
import sqlalchemy as sa
from pydal._globals import THREAD_LOCAL
from pydal.adapters import adapters
from pydal.adapters.mysql import MySQL as MySQLAdapter
from pydal.adapters.postgres import PostgrePsyco
from pydal.adapters.sqlite import SQLite as SQLiteAdapter
from pydal.helpers.classes import RecordUpdater, SQLCustomType
from pydal.helpers.regex import REGEX_PYTHON_KEYWORDS
from pydal.objects import Expression, Field, LazySet, Query, Row, Rows, Table

from .engines.interface import Engine, quoted
from .errors import BadValue
from .expressions import FOLDS, INSTEAD
from .schema import default_of, has_default
from .types import BigInteger, ColumnType, Enum, Float, Id, Integer, String, Text

_numbers = itertools.count()
_TIMES = ("created_at", "updated_at")
_NAMES = re.compile(r"[a-zA-Z]\w*\Z", re.ASCII)


class _OurConnections:
    """Mixed into PyDAL's adapters: connections come from the engine, a unit of work opens itself with its first
    statement, and its end is checked."""

    check_active_connection = (
        False  # a lost connection shows at the first statement; no SELECT 1 is needed to tell
    )
    db: "DAL"
    _number: int

    def __new__(cls, *_: Any, **__: Any) -> Any:
        self = super().__new__(cls)
        # PyDAL finds a thread's connection by id(self), which a later adapter may get again
        self._number = next(_numbers)
        return self

    def _initialize_(self) -> None:
        self.folder = ""  # and no URI is read: the engine knows where to connect
        for name in ("lower", "upper", "ilike"):
            setattr(self.dialect, name, _refuse_folding)  # type: ignore[attr-defined]

    @property
    def _connection_uname_(self) -> str:
        return f"_dbservice_connection_{self._number}"

    @property
    def _cursors_uname_(self) -> str:
        return f"_dbservice_cursor_{self._number}"

    def connector(self) -> Any:
        engine = self.db._engine
        connection = engine.connect(statement_timeout=engine.limits.statement)
        self.db._connections[threading.get_ident()] = connection
        return connection

    def after_connection(self) -> None:
        pass  # the engine has set the session up; PyDAL's own words would wipe strict mode

    def adapt(self, value: Any) -> str:
        return quoted(_checked("a text", _ANY_TEXT, str(value)))

    def _config_json(self) -> None:
        pass

    def represent(self, obj: Any, field_type: Any) -> str:
        if field_type == "id" and obj is not None and not isinstance(obj, Expression):
            obj = _checked("id", _ID, obj)  # int() takes more than whole numbers
        text: str = super().represent(obj, field_type)  # type: ignore[misc]
        return text

    def _expand(self, expression: Any, field_type: Any = None, *args: Any, **kwargs: Any) -> str:
        if isinstance(expression, Expression) and isinstance(expression.type, _Typed):
            _sensible(expression, field_type)
        if isinstance(expression, Expression) and _operation(expression) in ("extract", "epoch"):
            raise TypeError("the engines do not take times apart alike: take it from the value in Python")
        if isinstance(expression, Query) and _operation(expression) == "belongs":
            _refuse_sql("belongs()", expression.second)
        text: str = super()._expand(expression, field_type, *args, **kwargs)  # type: ignore[misc]
        return text

    def expand_all(self, fields: Any, tables: Any) -> Any:
        for field in fields:
            _refuse_sql("select", field)
        return super().expand_all(fields, tables)  # type: ignore[misc]

    def _select_wcols(self, query: Any, fields: Any, *args: Any, **attributes: Any) -> Any:
        if attributes.get("orderby"):
            attributes["orderby"] = [self._ordered(each) for each in _each(attributes["orderby"])]
        for name in ("orderby", "groupby", "having"):
            for given in _each(attributes.get(name)):
                _refuse_sql(name, given)
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
        sql: str = super()._update(table, query, fields)  # type: ignore[misc]
        return sql

    def _computed(self, table: Any, field: Any, value: Any) -> Any:
        # the database would round, cut or convert, each engine in its own way: it only counts, and copies
        kind = field.type
        if isinstance(value, Field) and isinstance(kind, _Typed) and kind.same_as(value.type):
            return value
        if not isinstance(kind, _Typed) or not kind.is_whole or not kind.comparable_with(value.type):
            raise TypeError(f"{field.name}: an update computes whole numbers only; compute it in Python")
        sql = self._expand(value, kind, query_env={"current_scope": [table._tablename]})
        return Expression(self.db, self.db._engine.computed(kind.column_type, sql))

    def add(self, table: Any, columns: str, literals: str) -> int:
        """What PyDAL's `insert` does once its values are literals; the id of the new row."""
        self.execute(self.dialect.insert(table._rname, columns, literals))  # type: ignore[attr-defined]
        return int(self.lastrowid(table))  # type: ignore[attr-defined]

    def held_connection(self) -> Any:
        return getattr(THREAD_LOCAL, self._connection_uname_, None)

    def execute(self, command: str, *arguments: Any, **options: Any) -> Any:
        unit, engine = self.db._unit, self.db._engine
        if not unit.running:
            raise RuntimeError("PyDAL runs inside a unit of work only: give the function to `writes.run`")
        self.get_connection()  # type: ignore[attr-defined]
        cursor = self.cursor  # type: ignore[attr-defined]
        if not unit.begun:
            unit.begun = True
            if engine.begin_joins:
                return cursor.execute(f"{engine.begin};{command}", *arguments, **options)
            cursor.execute(engine.begin)
        return cursor.execute(command, *arguments, **options)


@adapters.register_for("dbservice_postgresql:psycopg2")
class _PostgreSQL(_OurConnections, PostgrePsyco):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._last_insert = None
        super().__init__(*args, **kwargs)

    def add(self, table: Any, columns: str, literals: str) -> int:
        self.execute(self.dialect.insert(table._rname, columns, literals, table._id._rname))
        return int(self.cursor.fetchone()[0])

    def _ordered(self, given: Any) -> Any:
        """With NULL as the least of all values, as it is elsewhere."""
        if not isinstance(given, Expression):
            return given
        op = _operation(given)
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
class _MySQL(_OurConnections, MySQLAdapter):  # type: ignore[misc]
    def _initialize_(self) -> None:
        super()._initialize_()
        self.dialect.length = lambda text, query_env={}: f"CHAR_LENGTH({self.expand(text)})"  # not in bytes


@adapters.register_for("dbservice_sqlite:sqlite3")
class _SQLite(_OurConnections, SQLiteAdapter):  # type: ignore[misc]
    def after_connection(self) -> None:
        self._register_extract()
        self._register_regexp()

    def select(self, query: Any, fields: Any, attributes: Any) -> Any:
        # a unit of work holds SQLite's only lock already, and PyDAL's own begins a second transaction
        attributes.pop("for_update", None)
        return super(SQLiteAdapter, self).select(query, fields, attributes)

    def delete(self, table: Any, query: Any) -> Any:
        # PyDAL's own deletes row by row what the database's foreign keys look after
        return super(SQLiteAdapter, self).delete(table, query)


class _Typed(SQLCustomType):  # type: ignore[misc]
    """The type of one column: its literal and its Python value come from the engine."""

    def __init__(self, column: sa.Column[Any], engine: Engine) -> None:
        column_type = column.type
        assert isinstance(column_type, ColumnType)
        literal, name = engine.literal, column.name
        self.is_whole = isinstance(column_type, Integer | BigInteger)
        # drivers answer a sum of whole numbers as a decimal
        decode = engine.from_sync_driver(column_type) or (int if self.is_whole else None)

        def encoder(value: Any) -> str:
            return "NULL" if value is None else literal(column_type, _checked(name, column_type, value))

        def decoder(value: Any) -> Any:
            return value if value is None or decode is None else decode(value)

        super().__init__(type="dbservice", native="", encoder=encoder, decoder=decoder)
        self.column_type = column_type
        self.is_text = isinstance(column_type, String | Text | Enum)
        self.reckons: tuple[str, ...] = ("add",) if self.is_text else ()
        if self.is_whole or isinstance(column_type, Float):
            self.reckons = ("add", "sub", "mul") if self.is_whole else ("add", "sub", "mul", "div")

    def __eq__(self, other: object) -> bool:
        # PyDAL allows startswith(), contains() ... on what equals "string"
        return (self.is_text and other == "string") or self is other

    __hash__ = object.__hash__

    def startswith(self, text: str) -> bool:
        # PyDAL adds and subtracts what is a "decimal(", and writes `+` as || for all else
        return "sub" in self.reckons and text.startswith("decimal")

    def same_as(self, other: object) -> bool:
        return isinstance(other, _Typed) and repr(other.column_type) == repr(self.column_type)

    def comparable_with(self, other: object) -> bool:
        """Whether every engine compares the two as what they mean."""
        if isinstance(other, _Typed):
            both = {type(self.column_type), type(other.column_type)}
            return both <= _WHOLE or both <= _TEXT or self.same_as(other)
        return self.is_whole or other not in ("id", "integer", "bigint")


_ID, _ANY_TEXT = Id(), Text()
_WHOLE = {Integer, BigInteger}
_TEXT = {String, Text, Enum}


def _checked(name: str, column_type: ColumnType, value: Any) -> Any:
    try:
        return column_type.check(value)
    except ValueError as error:
        raise BadValue(name, str(error)) from None


def _operation(expression: Any) -> str:
    """The name of what PyDAL does with the parts of an expression; empty for a column."""
    return getattr(expression.op, "__name__", "")


def _refuse_folding(*_: Any, **__: Any) -> str:
    raise TypeError(f"{FOLDS}, or say case_sensitive=True")


def _each(given: Any) -> Any:
    return given if isinstance(given, list | tuple) else [given]


def _refuse_sql(name: str, given: Any) -> None:
    # PyDAL takes a string for SQL, which may well have come with a request
    if isinstance(given, str) and given != "<random>":
        raise TypeError(f"{name} takes columns, values or a nested_select(), not SQL")


def _sensible(expression: Any, beside: Any) -> None:
    """Raise TypeError for what some engine would answer with a wrong value."""
    kind = expression.type
    op = _operation(expression)
    if op == "aggregate" and expression.second == "AVG" and not isinstance(kind.column_type, Float):
        raise TypeError(f"avg() of {kind.column_type!r}: {INSTEAD['avg']}")
    if op in ("add", "sub", "mul", "div", "mod") and op not in kind.reckons:
        raise TypeError(f"the engines do not reckon alike with {kind.column_type!r}: compute it in Python")
    if beside == "string" and not kind.is_text:
        raise TypeError(f"{kind.column_type!r} is not text")
    if isinstance(beside, _Typed) and not beside.comparable_with(kind):
        raise TypeError(f"{beside.column_type!r} and {kind.column_type!r} do not mix")


class MirroredTable(Table):  # type: ignore[misc]
    """A PyDAL table over one of ours. `insert` and friends are PyDAL's; `add`, `get`, `change` and `remove` speak of
    whole rows, by the names of the columns, whatever PyDAL thinks of those."""

    _source: sa.Table
    _fields_by_column: dict[str, str]

    def add(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Insert one row and answer all of it, by column, as a read would, without asking the database again: the
        defaults and the times are set here. Raises BadValue, TypeError for a name that is no column."""
        if not values.keys() <= self._written.keys():
            self._refuse(values.keys() - self._written.keys())
        now, literal = dt.datetime.now(dt.UTC), self._db._engine.literal
        row: dict[str, Any] = {}
        literals: list[str] = []
        for name, column in self._written.items():
            if name in values:
                value = values[name]
            elif name in _TIMES:
                value = now
            else:
                value = default_of(column) if has_default(column) else None
            if isinstance(value, Expression):
                raise TypeError(f"{name}: an insert takes values, not expressions")
            if value is not None:
                value = _checked(name, column.type, value)
                literals.append(literal(column.type, value))
            elif column.nullable:
                literals.append("NULL")
            else:
                raise BadValue(name, "must not be null")
            row[name] = value
        row["id"] = self._db._adapter.add(self, self._columns, ",".join(literals))
        return row

    def get(self, row_id: int) -> dict[str, Any] | None:
        """The row with this id, by column, or None."""
        rows = self._db(self.id == row_id).select(*self, cacheable=True)
        return {column: rows[0][field] for column, field in self._fields_by_column.items()} if rows else None

    def change(self, row_id: int, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """Change what `values` names and move `updated_at`; the whole row as it is now, or None if there is none."""
        names = self._fields_by_column
        if unknown := values.keys() - names.keys():
            self._refuse(unknown)
        for name, value in values.items():
            if value is None and not self._source.columns[name].nullable:
                raise BadValue(name, "must not be null")
        changed = self._db(self.id == row_id).update(
            **{names[column]: value for column, value in values.items()}
        )
        return self.get(row_id) if changed else None

    def remove(self, row_id: int) -> bool:
        """Delete the row; whether there was one."""
        return bool(self._db(self.id == row_id).delete())

    def drop(self, *_: Any, **__: Any) -> None:
        raise TypeError("only migrations change the schema; for rows there is delete()")

    truncate = create_index = drop_index = drop

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, int):  # PyDAL's looks for the id as a string
            return self._db(self.id == int(key)).select().first()
        return super().__getitem__(key)

    def column(self, name: str) -> Field:
        """The PyDAL field of the column `name`."""
        return self._field_of[name]

    def _bind(self, source: sa.Table, names: dict[str, str]) -> None:
        self._source, self._fields_by_column = source, names
        self._field_of = {column: self[field] for column, field in names.items()}
        self._written: dict[str, Any] = {
            column.name: column for column in source.columns if column.name != "id"
        }
        self._columns = ",".join(self._field_of[name]._rname for name in self._written)

    def _fields_and_values_for_insert(self, values: Mapping[str, Any]) -> Any:
        self._refuse_unwritable(values)
        return super()._fields_and_values_for_insert(values)

    def _fields_and_values_for_update(self, values: Mapping[str, Any]) -> Any:
        self._refuse_unwritable(values)
        return super()._fields_and_values_for_update(values)

    def _refuse_unwritable(self, values: Mapping[str, Any]) -> None:
        self._refuse(values.keys() - set(self.fields))  # PyDAL drops an unknown name without a word
        if "id" in values:
            raise TypeError(f"{self._source.name}: the database gives ids, and they never change")

    def _refuse(self, unknown: Any) -> None:
        if unknown:
            raise TypeError(f"{self._source.name} has no column {', '.join(sorted(unknown))}")


class _Updater(RecordUpdater):  # type: ignore[misc]
    """`row.update_record(...)`, which by itself drops an unknown name without a word."""

    def __call__(self, **values: Any) -> Any:
        table = self.db[self.tablename]
        table._refuse(values.keys() - set(table.fields))
        return super().__call__(**values)


class _Row(Row):  # type: ignore[misc]
    """A row that answers its values as they are: PyDAL makes floats of decimals and leaves out what JSON has no word for."""

    def as_dict(self, datetime_to_str: bool = False, custom_types: Any = None) -> dict[str, Any]:
        if datetime_to_str:
            raise TypeError(_LOSSY)
        values = {name: value for name, value in dict(self).items() if not callable(value)}
        return {
            name: value.as_dict() if isinstance(value, Row) else value
            for name, value in values.items()
            if not isinstance(value, LazySet)
        }

    def as_json(self, *_: Any, **__: Any) -> str:
        raise TypeError(_LOSSY)

    as_xml = as_json


class _Rows(Rows):  # type: ignore[misc]
    def as_json(self, *_: Any, **__: Any) -> str:
        raise TypeError(_LOSSY)

    as_xml = as_csv = xml = export_to_csv_file = as_json
    __str__ = Rows.__repr__


_LOSSY = "PyDAL's own text alters decimals and times: answer a Row of the service"


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

    Row, Rows = _Row, _Rows
    record_operators: ClassVar[dict[str, Any]] = {**pydal.DAL.record_operators, "update_record": _Updater}

    def __new__(cls, engine: Engine, metadata: sa.MetaData) -> "DAL":
        return object.__new__(cls)  # PyDAL's keeps every DAL alive in its thread

    def __init__(self, engine: Engine, metadata: sa.MetaData) -> None:
        self._engine, self._unit, self._db_uid = engine, _Unit(), f"dbservice-{next(_numbers)}"
        self._mirrors: dict[str, MirroredTable] = {}
        self._connections: dict[int, Any] = {}
        super().__init__(
            f"{engine.adapter}://", migrate=False, migrate_enabled=False, attempts=1, pool_size=0
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
            table_class=MirroredTable,
        )
        mirrored._bind(table, names)
        self._mirrors[table.name] = mirrored

    def _field(self, column: sa.Column[Any], name: str) -> Field:
        rname = self._adapter.dialect.quote(column.name)
        if isinstance(column.type, Id):
            return Field(name, "id", rname=rname)
        about: dict[str, Any] = {}
        if column.name in _TIMES:
            about["default"] = _now
        elif has_default(column):
            about["default"] = lambda: default_of(column)
        if column.name == "updated_at":
            about["update"] = _now
        return Field(
            name, _Typed(column, self._engine), rname=rname, requires=[], notnull=not column.nullable, **about
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

    def cut_connection(self, thread: int) -> None:
        """Make what another thread waits for on its connection fail."""
        connection = self._connections.get(thread)
        if connection is not None:
            with contextlib.suppress(Exception):
                self._engine.cut(connection)


def _field_name(column: str) -> str:
    if column in ("update_record", "delete_record") or REGEX_PYTHON_KEYWORDS.match(column):
        return f"{column}_"
    return _free_name(_free_name(column, MirroredTable), Row)


def _free_name(name: str, taken: type) -> str:
    kept = keyword.iskeyword(name) or hasattr(taken, name)
    return f"{name}_" if kept else str(name)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
