"""PostgreSQL 16: psycopg2 for writes and migrations, asyncpg for reads."""

import datetime as dt
import os
import socket
import ssl
import time
import uuid
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import asyncpg
import psycopg2
import sqlalchemy as sa
from psycopg2 import errorcodes
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.sql import operators
from sqlalchemy.sql.compiler import OPERATORS

from .. import types as t
from ..types import ColumnType
from .interface import Convert, Engine, Fault, PlainLike, quoted, read_url

_FAULTS = {
    errorcodes.UNIQUE_VIOLATION: Fault.DUPLICATE,
    errorcodes.FOREIGN_KEY_VIOLATION: Fault.REFERENCE,
    errorcodes.RESTRICT_VIOLATION: Fault.REFERENCE,
    errorcodes.NOT_NULL_VIOLATION: Fault.VALUE,
    errorcodes.CHECK_VIOLATION: Fault.VALUE,
    errorcodes.PROGRAM_LIMIT_EXCEEDED: Fault.VALUE,  # longer than its index takes
    errorcodes.SERIALIZATION_FAILURE: Fault.RETRY,
    errorcodes.DEADLOCK_DETECTED: Fault.RETRY,
    errorcodes.LOCK_NOT_AVAILABLE: Fault.RETRY,
    errorcodes.READ_ONLY_SQL_TRANSACTION: Fault.READ_ONLY,
    errorcodes.QUERY_CANCELED: Fault.TIMEOUT,
    errorcodes.INVALID_PASSWORD: Fault.DENIED,
    errorcodes.INVALID_AUTHORIZATION_SPECIFICATION: Fault.DENIED,
    errorcodes.INVALID_CATALOG_NAME: Fault.MISSING,
    errorcodes.CANNOT_CONNECT_NOW: Fault.STARTING,
    errorcodes.TOO_MANY_CONNECTIONS: Fault.STARTING,
    errorcodes.ADMIN_SHUTDOWN: Fault.LOST,
    errorcodes.CRASH_SHUTDOWN: Fault.LOST,
    errorcodes.IDLE_SESSION_TIMEOUT: Fault.LOST,
    errorcodes.IDLE_IN_TRANSACTION_SESSION_TIMEOUT: Fault.LOST,
}
# psycopg2 gives no SQLSTATE for an error of the connection attempt: only libpq's text
_CONNECTING = (
    ("password authentication failed", Fault.DENIED),
    ("no password supplied", Fault.DENIED),
    ("no pg_hba.conf entry", Fault.DENIED),
    ("role ", Fault.DENIED),
    ("database ", Fault.MISSING),
    ("server does not support SSL", Fault.OTHER),
    ("certificate", Fault.OTHER),
    ("root certificate file", Fault.OTHER),
)


class PostgreSQL(Engine):
    name = "postgresql"
    dialect = "postgresql+psycopg2"
    adapter = "dbservice_postgresql:psycopg2"
    begin_joins = True

    # --- connections

    def connect(self, *, statement_timeout: float | None = None, autocommit: bool = True) -> Any:
        s = self.settings
        options = {
            "timezone": "UTC",
            "search_path": _identifier(self.schema),
            "standard_conforming_strings": "on",
            "default_transaction_isolation": "read committed",
            "extra_float_digits": "1",  # with less, a double is not read as it was written
        }
        if statement_timeout:
            options["statement_timeout"] = str(int(statement_timeout * 1000))
        tls: dict[str, Any] = {"sslmode": s.db_ssl_mode}
        if s.db_ssl_mode == "verify-full":
            tls["sslrootcert"] = str(s.db_ssl_ca or "system")
        connection = psycopg2.connect(
            host=s.db_host,
            port=s.db_port,
            dbname=s.db_name,
            user=s.db_user,
            password=s.db_pass.get_secret_value(),
            connect_timeout=max(2, round(self.limits.connect)),
            application_name=self.application,
            client_encoding="UTF8",
            options=" ".join(f"-c {k}={_option(v)}" for k, v in options.items()),
            # a peer that vanished without a word is noticed within the limit of a statement
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
            tcp_user_timeout=int(self.limits.statement * 1000),
            **tls,
        )
        connection.autocommit = autocommit
        return connection

    def cut(self, connection: Any) -> None:
        with socket.socket(fileno=os.dup(connection.fileno())) as same:
            same.shutdown(socket.SHUT_RDWR)

    def sqlalchemy(self) -> sa.Engine:
        engine = super().sqlalchemy()
        sa.event.listen(engine, "connect", _impatient)
        return engine

    def prepare(self, connection: sa.Connection) -> None:
        # not IF NOT EXISTS, which asks for the right to create even where there is nothing to create
        if not sa.inspect(connection).has_schema(self.schema):
            connection.execute(sa.schema.CreateSchema(self.schema))
        connection.commit()

    @contextmanager
    def lock(self, name: str, timeout: float) -> Iterator[None]:
        # on its own connection, polled: the blocking form deadlocks with CREATE INDEX CONCURRENTLY
        connection = self.connect()
        try:
            cursor, deadline = connection.cursor(), time.monotonic() + timeout
            key = zlib.crc32(name.encode())
            while True:
                cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", (0x64627365, key - 2**31))
                if cursor.fetchone()[0]:
                    break
                if time.monotonic() > deadline:
                    raise TimeoutError
                time.sleep(0.2)
            yield
        finally:
            connection.close()

    def read_url(self) -> str:
        return read_url("postgresql", self.settings, self.settings.db_pass.get_secret_value())

    def read_options(self) -> dict[str, Any]:
        s = self.settings
        tls: Any = {"disable": False, "require": "require"}.get(s.db_ssl_mode)
        if s.db_ssl_mode == "verify-full":
            tls = ssl.create_default_context(cafile=str(s.db_ssl_ca) if s.db_ssl_ca else None)
        return {
            "min_size": 0,
            "max_size": s.reads,
            "timeout": self.limits.connect,
            "max_inactive_connection_lifetime": 0,
            "ssl": tls,
            "server_settings": {
                "application_name": self.application,
                "timezone": "UTC",
                "search_path": _identifier(self.schema),
                "statement_timeout": str(int(self.limits.statement * 1000)),
                "default_transaction_isolation": "read committed",
                "default_transaction_read_only": "on",
            },
        }

    def compiler(self) -> sa.Dialect:
        dialect: sa.Dialect = asyncpg_dialect()  # type: ignore[no-untyped-call]
        dialect.statement_compiler = _Compiler
        return dialect

    async def open_reader(self, raw: Any) -> None:
        pass  # `server_settings` have done it

    async def fetch(
        self, raw: Any, sql: str, arguments: Sequence[Any], limit: float
    ) -> Sequence[Sequence[Any]]:
        rows: Sequence[Sequence[Any]] = await raw.fetch(sql, *arguments, timeout=limit)
        return rows

    async def abort_reader(self, raw: Any) -> None:
        await raw.close()  # and first cancels the statement that the server may still be at

    # --- values

    def column_type(self, column: ColumnType, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        match column:
            case t.String() | t.Enum():
                return pg.VARCHAR(column.length, collation="C")
            case t.Text():
                return pg.TEXT(collation="C")
            case t.Numeric():
                return pg.NUMERIC(column.precision, column.scale)
            case t.JSON():
                return _Json()
            case t.Uuid():
                return pg.UUID(as_uuid=True)
        return _PLAIN[type(column)]

    def to_driver(self, column: ColumnType) -> Convert | None:
        match column:
            case t.Date() | t.Timestamp():
                return lambda value: value.isoformat()
            case t.JSON():
                return t.JSON.dumps
        return None

    def from_driver(self, column: ColumnType) -> Convert | None:
        match column:
            case t.JSON():
                return t.JSON.loads
            case t.Uuid():
                return _plain_uuid
            case t.Numeric(scale=0):
                return lambda value: Decimal(int(value))  # asyncpg gives 1E+4
            case t.Numeric() if column.kind is not Decimal:
                return column.kind
        return None

    def from_sync_driver(self, column: ColumnType) -> Convert | None:
        match column:
            case t.Uuid():
                return uuid.UUID
            case t.Numeric() if column.kind is not Decimal:
                return column.kind
            case t.Binary():
                return bytes
            case t.Timestamp():
                return _utc
        return None

    def literal(self, column: ColumnType, value: Any) -> str:
        match column:
            case t.Boolean():
                return "true" if value else "false"
            case t.Integer() | t.BigInteger() | t.Id():
                return str(value)
            case t.Numeric():
                return format(value, "f")
            case t.Float():
                return f"'{value!r}'::float8"
            case t.Date():
                return f"'{value.isoformat()}'::date"
            case t.Time():
                return f"'{value.isoformat()}'::time"
            case t.Timestamp():
                return f"'{value.isoformat()}'::timestamptz"
            case t.JSON():
                return f"{quoted(t.JSON.dumps(value))}::json"
            case t.Uuid():
                return f"'{value}'::uuid"
            case t.Binary():
                return f"'\\x{value.hex()}'::bytea"
        return quoted(value)

    # --- errors

    def fault(self, error: BaseException) -> Fault:
        code = getattr(error, "pgcode", None) or getattr(error, "sqlstate", None)
        if code in _FAULTS:
            return _FAULTS[code]
        if code:
            return {"08": Fault.LOST, "22": Fault.VALUE, "28": Fault.DENIED}.get(code[:2], Fault.OTHER)
        if isinstance(error, psycopg2.OperationalError):
            text = str(error)
            if "connection to server" in text or "could not" in text:
                for words, fault in _CONNECTING:
                    if f"FATAL:  {words}" in text or (fault is Fault.OTHER and words in text):
                        return fault
                if "the database system is" not in text and "FATAL" in text and "too many" not in text:
                    return Fault.DENIED
                return Fault.STARTING
            return Fault.LOST
        lost = OSError, psycopg2.InterfaceError, asyncpg.InterfaceError, asyncpg.InternalClientError
        if isinstance(error, lost):
            return Fault.LOST
        return Fault.OTHER

    def columns_of(self, error: BaseException) -> str:
        diagnostics = getattr(error, "diag", None)
        return (diagnostics.constraint_name or diagnostics.column_name or "") if diagnostics else ""


class _Json(sa.types.UserDefinedType[Any]):
    """JSON whose text is ours: SQLAlchemy's own type would write it a second time."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "JSON"

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Convert:
        return t.JSON.dumps  # psycopg2 has read it, and our type reads text


class _AsText(sa.types.UserDefinedType[Any]):
    """A date or timestamp whose parameters travel as text: asyncpg sends the first and the last that Python has as
    PostgreSQL's infinities, which equal no stored value."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        return self.name

    def bind_expression(self, bindvalue: sa.BindParameter[Any]) -> sa.ColumnElement[Any]:
        return sa.cast(sa.cast(bindvalue, pg.TEXT()), self)


class _Compiler(PlainLike, pg.base.PGCompiler):
    def order_by_clause(self, select: Any, **options: Any) -> str:
        """With NULL as the least of all values, as it is elsewhere."""
        clauses = [_null_is_least(each) for each in select._order_by_clauses]
        return f" ORDER BY {', '.join(self.process(each, **options) for each in clauses)}" if clauses else ""

    def _in_64_bits(self, binary: Any, operator: Any, **options: Any) -> str:
        """The others reckon with 64 bits, whatever the column has."""
        if isinstance(binary.left.type, t.Integer):
            binary = binary._clone()
            binary.left = sa.cast(binary.left, pg.BIGINT())
        return str(self._generate_generic_binary(binary, OPERATORS[operator], **options))

    visit_add_binary = visit_sub_binary = visit_mul_binary = _in_64_bits


def _null_is_least(clause: Any) -> Any:
    inner, modifiers = clause, set()
    while isinstance(inner, sa.sql.elements._label_reference) or getattr(inner, "modifier", None):
        modifiers.add(getattr(inner, "modifier", None))
        inner = inner.element
    if modifiers & {operators.nulls_first_op, operators.nulls_last_op}:
        return clause
    if isinstance(inner, sa.Column) and not inner.nullable:
        return clause  # so that its index serves
    return sa.nulls_last(clause) if operators.desc_op in modifiers else sa.nulls_first(clause)


_PLAIN: dict[type[ColumnType], sa.types.TypeEngine[Any]] = {
    t.Id: pg.BIGINT(),
    t.Integer: pg.INTEGER(),
    t.BigInteger: pg.BIGINT(),
    t.Boolean: pg.BOOLEAN(),
    t.Float: pg.DOUBLE_PRECISION(),
    t.Date: _AsText("DATE"),
    t.Time: pg.TIME(),
    t.Timestamp: _AsText("TIMESTAMP WITH TIME ZONE"),
    t.Binary: pg.BYTEA(),
}


def _impatient(connection: Any, _: Any) -> None:
    # a migration that waits for a table makes everybody behind it wait too
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '3s'")
    connection.commit()


def _plain_uuid(value: Any) -> uuid.UUID:
    return uuid.UUID(int=value.int)  # asyncpg gives a subclass of its own


def _utc(value: dt.datetime) -> dt.datetime:
    return value.astimezone(dt.UTC)


def _option(value: str) -> str:
    """A value inside libpq's `options`."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


t.register("postgresql", PostgreSQL.__new__(PostgreSQL))
