"""MySQL 8.0 and MariaDB 10.11 (one server or a Galera cluster): PyMySQL for writes and migrations, aiomysql for reads.

Which of the two answers is found out at run time; the few words in which they differ are marked."""

import asyncio
import datetime as dt
import re
import socket
import ssl
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import aiomysql
import pymysql
import sqlalchemy as sa
from pymysql.constants import CLIENT, CR, ER
from sqlalchemy.dialects import mysql as my

from .. import types as t
from ..types import ColumnType
from . import mysql_migrations as mysql_migrations  # it makes itself known to Alembic
from .interface import Convert, Engine, Fault, PlainLike, quoted, read_url

_FAULTS = {
    ER.DUP_ENTRY: Fault.DUPLICATE,
    ER.NO_REFERENCED_ROW: Fault.REFERENCE,
    ER.NO_REFERENCED_ROW_2: Fault.REFERENCE,
    ER.ROW_IS_REFERENCED: Fault.REFERENCE,
    ER.ROW_IS_REFERENCED_2: Fault.REFERENCE,
    ER.BAD_NULL_ERROR: Fault.VALUE,
    ER.NO_DEFAULT_FOR_FIELD: Fault.VALUE,
    ER.DATA_TOO_LONG: Fault.VALUE,
    ER.WARN_DATA_OUT_OF_RANGE: Fault.VALUE,
    ER.WARN_DATA_TRUNCATED: Fault.VALUE,
    ER.TRUNCATED_WRONG_VALUE: Fault.VALUE,
    1690: Fault.VALUE,  # DATA_OUT_OF_RANGE
    1366: Fault.VALUE,  # TRUNCATED_WRONG_VALUE_FOR_FIELD
    3819: Fault.VALUE,  # CHECK on MySQL
    4025: Fault.VALUE,  # CHECK on MariaDB
    ER.LOCK_DEADLOCK: Fault.RETRY,  # also Galera's certification
    ER.LOCK_WAIT_TIMEOUT: Fault.RETRY,
    1290: Fault.READ_ONLY,  # the server runs with --read-only
    1792: Fault.READ_ONLY,  # the transaction is
    1836: Fault.READ_ONLY,  # the server is
    1317: Fault.TIMEOUT,  # somebody ended the statement
    3024: Fault.TIMEOUT,  # max_execution_time on MySQL
    1969: Fault.TIMEOUT,  # max_statement_time on MariaDB
    ER.ACCESS_DENIED_ERROR: Fault.DENIED,
    ER.DBACCESS_DENIED_ERROR: Fault.MISSING,  # what an account that may not see every database is told
    1698: Fault.DENIED,
    ER.BAD_DB_ERROR: Fault.MISSING,
    ER.CON_COUNT_ERROR: Fault.STARTING,
    1203: Fault.STARTING,  # the account has as many connections as it may have
    1226: Fault.STARTING,
    1180: Fault.LOST,  # an error in the middle of COMMIT: nobody can say whether it is stored
    1047: Fault.LOST,  # a Galera node that is not in the cluster
    1053: Fault.LOST,  # server shutdown in progress
    1927: Fault.LOST,  # connection was killed
    3159: Fault.OTHER,  # the server wants TLS
    CR.CR_CONN_HOST_ERROR: Fault.STARTING,
    CR.CR_CONNECTION_ERROR: Fault.STARTING,
    CR.CR_SERVER_GONE_ERROR: Fault.LOST,
    CR.CR_SERVER_LOST: Fault.LOST,
}
# NO_BACKSLASH_ESCAPES: a quote is doubled and that is all there is to escaping
_SQL_MODE = (
    "STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,"
    "NO_BACKSLASH_ESCAPES,ONLY_FULL_GROUP_BY"
)


def _mysql_only(words: str) -> str:
    return f"/*!80000 {words} */"  # MariaDB passes over versions from 50700 to 99999


def _mariadb_only(words: str) -> str:
    return f"/*M!100100 {words} */"


class MySQL(Engine):
    name = "mysql"
    dialect = "mysql+pymysql"
    adapter = "dbservice_mysql:pymysql"
    begin = "START TRANSACTION"
    # Galera: a node outside the cluster still answers SELECT 1. A single server names no provider.
    health_statement = "SHOW GLOBAL STATUS WHERE Variable_name IN ('wsrep_ready', 'wsrep_provider_name')"

    # --- connections

    def _session(self, statement_timeout: float | None) -> list[str]:
        words = (
            f"SET SESSION sql_mode='{_SQL_MODE}', time_zone='+00:00', innodb_lock_wait_timeout={_LOCK_WAIT}"
        )
        words += f", lock_wait_timeout={_LOCK_WAIT}"
        # what is computed compares and sorts as what is stored
        words += _mysql_only(", collation_connection=utf8mb4_0900_bin")
        words += _mariadb_only(", collation_connection=utf8mb4_nopad_bin")
        words += (
            ", max_sort_length=16384"  # MariaDB sorts by so many bytes; 1024 are less than a long string has
        )
        if statement_timeout:
            words += _mysql_only(f", max_execution_time={int(statement_timeout * 1000)}")
            words += _mariadb_only(f", max_statement_time={statement_timeout}")
        return [words, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"]

    def connect(self, *, statement_timeout: float | None = None, autocommit: bool = True) -> Any:
        s = self.settings
        tls = self._tls()
        socket_timeout = statement_timeout + self.limits.connect if statement_timeout else None
        connection = pymysql.connect(
            host=s.db_host,
            port=s.db_port,
            user=s.db_user,
            password=_password(s.db_pass.get_secret_value()),
            database=s.db_name,
            charset="utf8mb4",
            connect_timeout=self.limits.connect,
            read_timeout=self.limits.connect,  # of the greeting, for which a server of another kind waits, too
            write_timeout=socket_timeout,
            client_flag=CLIENT.FOUND_ROWS,  # else an UPDATE that changes nothing counts 0
            program_name=self.application,
            autocommit=autocommit,
            ssl=tls,
            ssl_disabled=tls is None,
        )
        connection._read_timeout = socket_timeout  # type: ignore[attr-defined]
        with connection.cursor() as cursor:
            if tls:
                cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
                _must_be_encrypted(cursor.fetchone())
            for statement in self._session(statement_timeout):
                cursor.execute(statement)
        return connection

    def cut(self, connection: Any) -> None:
        connection._sock.shutdown(socket.SHUT_RDWR)

    def _tls(self) -> ssl.SSLContext | None:
        s = self.settings
        if s.db_ssl_mode == "disable":
            return None
        context = ssl.create_default_context(cafile=str(s.db_ssl_ca) if s.db_ssl_ca else None)
        if s.db_ssl_mode == "require":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    @contextmanager
    def lock(self, name: str, timeout: float) -> Iterator[None]:
        connection = self.connect()
        try:
            cursor = connection.cursor()
            cursor.execute("SELECT GET_LOCK(%s, %s)", (f"{self.settings.db_name}.{name}"[-64:], int(timeout)))
            if cursor.fetchone()[0] != 1:
                raise TimeoutError
            yield
        finally:
            connection.close()

    def read_url(self) -> str:
        return read_url("mysql", self.settings, _password(self.settings.db_pass.get_secret_value()))

    def read_options(self) -> dict[str, Any]:
        options: dict[str, Any] = {
            "min_size": 0,
            "max_size": self.settings.reads,
            "connect_timeout": self.limits.connect,
            "charset": "utf8mb4",
            "program_name": self.application,
            "init_command": "SET SESSION TRANSACTION READ ONLY",
        }
        return options | ({"ssl": tls} if (tls := self._tls()) else {})

    def compiler(self) -> sa.Dialect:
        dialect: sa.Dialect = my.dialect(paramstyle="format")
        dialect.statement_compiler = _Compiler
        dialect._backslash_escapes = False  # type: ignore[attr-defined]
        return dialect

    async def open_reader(self, raw: Any) -> None:
        if self.settings.db_ssl_mode != "disable":
            _must_be_encrypted(
                (await self.fetch(raw, "SHOW STATUS LIKE 'Ssl_cipher'", (), self.limits.connect))[0]
            )
        for statement in self._session(self.limits.statement):
            await self.fetch(raw, statement, (), self.limits.connect)

    async def fetch(
        self, raw: Any, sql: str, arguments: Sequence[Any], limit: float
    ) -> Sequence[Sequence[Any]]:
        async with asyncio.timeout(limit):
            cursor = await raw.cursor(_Cursor)
            await cursor.execute(sql, tuple(arguments))
            rows: Sequence[Sequence[Any]] = await cursor.fetchall()
        return rows

    async def abort_reader(self, raw: Any) -> None:
        try:
            if raw._close_reason:  # cancelled in the middle of a statement, with which the server would go on
                session = raw.thread_id()
                await raw.ping()  # connects anew, as before
                await self.fetch(raw, f"KILL {session}", (), self.limits.connect)
                gone = f"SELECT 1 FROM information_schema.processlist WHERE id = {session}"
                # until it is gone it counts as a connection, and nothing but asking tells
                while await self.fetch(raw, gone, (), self.limits.connect):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        finally:
            raw.close()

    # --- values

    def to_driver(self, column: ColumnType) -> Convert | None:
        match column:
            case t.Timestamp():
                return lambda value: value.replace(tzinfo=None)
            case t.JSON():
                return t.JSON.dumps
            case t.Uuid():
                return lambda value: value.hex
            case t.Binary():
                return _Bytes
        return None

    def from_driver(self, column: ColumnType) -> Convert | None:
        match column:
            case t.Boolean():
                return bool
            case t.Numeric() if column.kind is not Decimal:
                return column.kind
            case t.Date():
                return _date
            case t.Time():
                return _time_of_day
            case t.Timestamp():
                return _timestamp
            case t.JSON():
                return t.JSON.loads
            case t.Uuid():
                return uuid.UUID
        return None

    def column_type(self, column: ColumnType, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        # by code point and without padding, which each server calls by another name
        collation = "utf8mb4_nopad_bin" if getattr(dialect, "is_mariadb", False) else "utf8mb4_0900_bin"
        match column:
            case t.String() | t.Enum():
                return my.VARCHAR(column.length, charset="utf8mb4", collation=collation)
            case t.Text() | t.JSON():
                return my.LONGTEXT(charset="utf8mb4", collation=collation)
            case t.Numeric():
                return my.DECIMAL(column.precision, column.scale)
        return _PLAIN[type(column)]

    def literal(self, column: ColumnType, value: Any) -> str:
        match column:
            case t.Boolean():
                return "1" if value else "0"
            case t.Integer() | t.BigInteger() | t.Id():
                return str(value)
            case t.Numeric():
                return format(value, "f")
            case t.Float():
                return (
                    text if "e" in (text := repr(value)) else f"{text}e0"
                )  # without an exponent it is a DECIMAL
            case t.Date():
                return f"'{value.isoformat()}'"
            case t.Time():
                return f"'{value.isoformat('microseconds')}'"
            case t.Timestamp():
                return f"'{value.replace(tzinfo=None).isoformat(' ', 'microseconds')}'"
            case t.JSON():
                return quoted(t.JSON.dumps(value))
            case t.Uuid():
                return f"'{value.hex}'"
            case t.Binary():
                return f"x'{value.hex()}'"
        return quoted(value)

    def default(self, column: ColumnType, value: Any) -> str:
        # MySQL prints a default's quotes with backslashes, and then cannot read them in a session without those
        text = t.JSON.dumps(value) if isinstance(column, t.JSON) else value
        if isinstance(text, str) and not re.fullmatch(r"[ -&(-\[\]-~]*", text):
            return f"CONVERT(x'{text.encode().hex()}' USING utf8mb4)"
        return self.literal(column, value)

    # --- errors

    def fault(self, error: BaseException) -> Fault:
        code = error.args[0] if error.args and isinstance(error.args[0], int) else None
        if isinstance(error, pymysql.err.MySQLError):
            refused = isinstance(error.__cause__, ssl.SSLError) or "certificate" in str(error).lower()
            if code == CR.CR_CONN_HOST_ERROR and refused:
                return Fault.OTHER
            if code in _FAULTS:
                return _FAULTS[code]
            if isinstance(error, pymysql.err.DataError):
                return Fault.VALUE
            return Fault.LOST if isinstance(error, pymysql.err.InterfaceError) or code == 0 else Fault.OTHER
        if isinstance(error, OSError | EOFError):
            return Fault.LOST
        # aiomysql raises a bare RuntimeError when the connection is closed under it
        return Fault.LOST if isinstance(error, RuntimeError) and "losed" in str(error) else Fault.OTHER

    def columns_of(self, error: BaseException) -> str:
        text = str(error.args[1]) if len(error.args) > 1 else ""
        # at its end: before that stands the value, which may say so too
        if found := re.search(r"for key '([^']*)'\Z", text):
            return found[1].rpartition(".")[2]
        if found := re.search(r"CONSTRAINT `([^`]*)`", text) or re.search(
            r"Column '([^']*)' cannot be null", text
        ):
            return found[1]
        return ""

    def healthy(self, answer: Any) -> bool:
        status = {str(name).lower(): value for name, value in answer}
        return not status.get("wsrep_provider_name") or status.get("wsrep_ready") == "ON"


_LOCK_WAIT = 5
"""Seconds a statement waits for a row or a table; the server's own default is a day or a year."""

_PLAIN: dict[type[ColumnType], sa.types.TypeEngine[Any]] = {
    t.Id: my.BIGINT(),
    t.Integer: my.INTEGER(),
    t.BigInteger: my.BIGINT(),
    t.Boolean: my.TINYINT(1),
    t.Float: my.DOUBLE(asdecimal=False),
    t.Date: my.DATE(),
    t.Time: my.TIME(fsp=6),
    t.Timestamp: my.DATETIME(fsp=6),
    t.Uuid: my.CHAR(32, charset="ascii", collation="ascii_bin"),
    t.Binary: my.LONGBLOB(),
}


class _Compiler(PlainLike, my.base.MySQLCompiler):
    # in a session without backslash escapes MySQL has none in LIKE either; MariaDB has, and takes one character only:
    # one that no text here can hold
    no_escape = _mariadb_only(" ESCAPE x'00'")

    def visit_nulls_first_op_unary_modifier(self, unary: Any, operator: Any, **options: Any) -> str:
        return f"{self._bare(unary, **options)} IS NOT NULL, {self.process(unary.element, **options)}"

    def visit_nulls_last_op_unary_modifier(self, unary: Any, operator: Any, **options: Any) -> str:
        return f"{self._bare(unary, **options)} IS NULL, {self.process(unary.element, **options)}"

    def _bare(self, clause: Any, **options: Any) -> str:
        while isinstance(clause, sa.UnaryExpression) and clause.modifier is not None:
            clause = clause.element
        return str(self.process(clause, **options))


# What the server has computed from parameters it answers as text.


def _date(value: dt.date | str) -> dt.date:
    return dt.date.fromisoformat(value) if isinstance(value, str) else value


def _time_of_day(value: dt.timedelta | dt.time | str) -> dt.time:
    if isinstance(value, str):
        return dt.time.fromisoformat(value)
    return value if isinstance(value, dt.time) else (dt.datetime.min + value).time()  # SQLAlchemy has done it


def _timestamp(value: dt.datetime | str) -> dt.datetime:
    value = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
    return value.replace(tzinfo=dt.UTC)


class _Bytes:
    """Bytes on their way through aiomysql, whose own way of writing them is not PyMySQL's any more."""

    def __init__(self, value: bytes) -> None:
        self.value = value

    def __bytes__(self) -> bytes:  # what SQLAlchemy gives PyMySQL
        return self.value


pymysql.converters.encoders[_Bytes] = lambda value, mapping=None: f"x'{value.value.hex()}'"


class _Cursor(aiomysql.Cursor):  # type: ignore[misc]
    """aiomysql's cursor, which by itself asks for warnings and logs them, and with them what columns hold."""

    async def _show_warnings(self, conn: Any) -> None:
        pass


class _Connection(aiomysql.Connection):  # type: ignore[misc]
    """aiomysql's connection, which by itself sends the password in plain text to who offers no TLS."""

    async def _request_authentication(self) -> None:
        if self._ssl_context and not self.server_capabilities & CLIENT.SSL:
            raise _no_tls()
        await super()._request_authentication()


aiomysql.connection.Connection = _Connection  # what its pool makes


def _no_tls() -> Exception:
    return pymysql.err.OperationalError(3159, "the server offers no TLS, and DB_SSL_MODE asks for it")


def _password(password: str) -> str:
    """Both drivers encode a `str` as latin-1; this makes it the UTF-8 the server knows."""
    return password.encode().decode("latin-1")


def _must_be_encrypted(status: Sequence[Any] | None) -> None:
    if not status or not status[1]:
        raise _no_tls()


t.register("mysql", MySQL.__new__(MySQL))
t.register("mariadb", MySQL.__new__(MySQL))
