"""SQLite 3, for development and tests: the standard library's sqlite3 for writes, aiosqlite for reads.

SQLite keeps neither decimals nor times. Decimals of up to 18 digits are whole numbers of their last place, longer ones
text that sorts as they do; times are ISO text."""

import asyncio
import datetime as dt
import fcntl
import os
import sqlite3
import struct
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import pysqlite

from .. import types as t
from ..types import ColumnType
from . import sqlite_migrations
from .interface import Convert, Engine, Fault, quoted

_DIGITS = 18
"""A decimal of so many digits fits into SQLite's 64-bit integer."""
_WIDTH = 80
"""Digits of a longer one: as many for every column, so that a sum compares with what it is the sum of."""


class SQLite(Engine):
    name = "sqlite"
    dialect = "sqlite+pysqlite"
    adapter = "dbservice_sqlite:sqlite3"
    begin = "BEGIN IMMEDIATE"  # waits for the lock; a plain BEGIN fails at the first write instead

    # --- connections

    def connect(self, *, statement_timeout: float | None = None, autocommit: bool = True) -> Any:
        path = Path(self.settings.db_name)
        if path.is_dir() or not path.parent.is_dir():
            raise sqlite3.OperationalError("unable to open database file")
        connection = sqlite3.connect(
            path,
            timeout=self.limits.connect,
            isolation_level=None,
            check_same_thread=False,
            factory=_Connection,
        )
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA case_sensitive_like=ON")  # as LIKE is elsewhere
        return connection

    def cut(self, connection: Any) -> None:
        connection.interrupt()

    def sqlalchemy(self) -> sa.Engine:
        engine = super().sqlalchemy()
        # the driver's own transactions leave DDL outside (SQLAlchemy's documentation of pysqlite)
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        sqlite_migrations.prepare(engine)
        return engine

    @contextmanager
    def lock(self, name: str, timeout: float) -> Iterator[None]:
        path = Path(f"{self.settings.db_name}.lock")
        deadline = time.monotonic() + timeout
        with path.open("a") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise TimeoutError from None
                    time.sleep(0.05)
            yield

    @property
    def writers(self) -> int:
        return 1  # SQLite has one writer at a time

    def read_url(self) -> str:
        # quoted twice: once for the file: URI, once for `databases`
        return "sqlite:///" + quote("file:" + quote(os.path.abspath(self.settings.db_name))) + "?mode=ro"

    def read_options(self) -> dict[str, Any]:
        return {
            "uri": True,
            "timeout": self.limits.connect,
            "check_same_thread": False,
            "factory": _Connection,
        }

    def compiler(self) -> sa.Dialect:
        return pysqlite.dialect(paramstyle="qmark")

    async def open_reader(self, raw: Any) -> None:
        await raw.execute("PRAGMA case_sensitive_like=ON")  # as LIKE is elsewhere

    async def fetch(
        self, raw: Any, sql: str, arguments: Sequence[Any], limit: float
    ) -> Sequence[Sequence[Any]]:
        async with asyncio.timeout(limit):
            rows: Sequence[Sequence[Any]] = await raw.execute_fetchall(sql, tuple(arguments))
        return rows

    async def abort_reader(self, raw: Any) -> None:
        await raw.interrupt()

    # --- values

    def to_driver(self, column: ColumnType) -> Convert | None:
        match column:
            case t.Boolean():
                return int
            case t.Numeric():
                return lambda value: _decimal_to_sqlite(column, value)
            case t.Date():
                return dt.date.isoformat
            case t.Time():
                return lambda value: value.isoformat("microseconds")
            case t.Timestamp():
                return _timestamp
            case t.JSON():
                return t.JSON.dumps
            case t.Uuid():
                return lambda value: value.hex
        return None

    def from_driver(self, column: ColumnType) -> Convert | None:
        match column:
            case t.Integer() | t.BigInteger():
                return lambda value: _minor_units(value) if isinstance(value, str) else value  # a large sum
            case t.Boolean():
                return bool
            case t.Numeric():
                return lambda value: _decimal_from_sqlite(column, value)
            case t.Float():
                return float
            case t.Date():
                return dt.date.fromisoformat
            case t.Time():
                return dt.time.fromisoformat
            case t.Timestamp():
                return lambda value: dt.datetime.fromisoformat(value).replace(tzinfo=dt.UTC)
            case t.JSON():
                return t.JSON.loads
            case t.Uuid():
                return uuid.UUID
        return None

    def column_type(self, column: ColumnType, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        match column:
            case t.String() | t.Enum():
                return _Named(f"VARCHAR({column.length})")
            case t.Numeric():
                return _Named(f"NUMERIC({column.precision}, {column.scale})")
        return _PLAIN[type(column)]

    def literal(self, column: ColumnType, value: Any) -> str:
        if isinstance(column, t.Float):
            # DEFAULT takes no function, but a default is short and read exactly
            return (
                repr(value) if len(repr(value)) <= 15 else f"double_of(X'{struct.pack('>d', value).hex()}')"
            )
        if isinstance(column, t.Binary):
            return f"X'{value.hex()}'"
        encode = self.to_driver(column)
        sent = encode(value) if encode else value
        return quoted(sent) if isinstance(sent, str) else str(sent)

    def computed(self, column: ColumnType, sql: str) -> str:
        assert isinstance(column, t.Integer | t.BigInteger)
        return f"whole_number({sql}, {-column.limit - 1}, {column.limit})"

    # --- errors

    def fault(self, error: BaseException) -> Fault:
        code = getattr(error, "sqlite_errorcode", None)
        if code in (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY):
            return Fault.DUPLICATE
        if code == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
            return Fault.REFERENCE
        if code is not None and code & 0xFF == sqlite3.SQLITE_CONSTRAINT:
            return Fault.VALUE
        if code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return Fault.RETRY
        if code == sqlite3.SQLITE_INTERRUPT:
            return Fault.TIMEOUT
        if "unable to open database file" in str(error):
            return Fault.MISSING
        if "user-defined function raised exception" in str(error):
            return Fault.VALUE
        return (
            Fault.LOST
            if isinstance(error, ValueError) and "no active connection" in str(error)
            else Fault.OTHER
        )

    def columns_of(self, error: BaseException) -> str:
        _, _, columns = str(error).partition("constraint failed: ")
        return columns.partition(".")[2].partition(",")[0] if "." in columns else columns


class _Connection(sqlite3.Connection):
    """SQLite with the functions that our values need, for reads as for writes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # a double's text is not read back to the last bit by every SQLite: doubles travel as their bits
        self.create_function("double_of", 1, lambda bits: struct.unpack(">d", bits)[0], deterministic=True)
        self.create_function("whole_number", 3, _whole_number, deterministic=True)
        self.create_window_function("sum", 1, _Sum)


def _whole_number(value: Any, least: int, most: int) -> int | None:
    # SQLite turns a whole number that is too large into a double
    if value is not None and not (isinstance(value, int) and least <= value <= most):
        raise ValueError("not a whole number that the column takes")
    return value


class _Sum:
    """SUM, of long decimals too, which are text here."""

    def __init__(self) -> None:
        self.total: Any = 0
        self.count = 0
        self.long = False

    def step(self, value: Any, sign: int = 1) -> None:
        if isinstance(value, str):
            self.long, value = True, _minor_units(value)
        if value is not None:
            self.total += sign * value
            self.count += sign

    def inverse(self, value: Any) -> None:
        self.step(value, -1)

    def value(self) -> Any:
        if not self.count:
            return None
        if self.long or (isinstance(self.total, int) and not -(2**63) <= self.total < 2**63):
            return _sortable(self.total)
        return self.total

    finalize = value


class _Named(sa.types.UserDefinedType[Any]):
    """A type SQLite only reads the affinity of; the values are ours."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        return self.name


_PLAIN: dict[type[ColumnType], sa.types.TypeEngine[Any]] = {
    t.Id: sa.INTEGER(),  # only INTEGER PRIMARY KEY numbers itself
    t.Integer: sa.INTEGER(),
    t.BigInteger: sa.BIGINT(),
    t.Boolean: _Named("BOOLEAN"),
    t.Float: _Named("DOUBLE"),
    t.Text: _Named("TEXT"),
    t.Date: _Named("DATE"),
    t.Time: _Named("TIME"),
    t.Timestamp: _Named("TIMESTAMP"),
    t.JSON: _Named("JSON_TEXT"),  # JSON would have the affinity of a number
    t.Uuid: _Named("CHAR(32)"),
    t.Binary: _Named("BLOB"),
}


def _timestamp(value: dt.datetime) -> str:
    return value.replace(tzinfo=None).isoformat(" ", "microseconds")


def _decimal_to_sqlite(column: t.Numeric, value: Decimal) -> int | str:
    sign, digits, _ = value.as_tuple()
    minor = int("".join(map(str, digits))) * (-1 if sign else 1)
    return minor if column.precision <= _DIGITS else _sortable(minor)


def _sortable(minor: int) -> str:
    # p and n keep SQLite from reading a number; the nines' complement makes -2 sort before -1
    return f"p{minor:0{_WIDTH}}" if minor >= 0 else f"n{10**_WIDTH - 1 + minor:0{_WIDTH}}"


def _minor_units(text: str) -> int:
    return int(text[1:]) if text[0] == "p" else int(text[1:]) - (10 ** (len(text) - 1) - 1)


def _decimal_from_sqlite(column: t.Numeric, value: Any) -> Decimal:
    if isinstance(value, float):
        raise TypeError("SQLite adds and compares decimals; what else it makes of them is wrong")
    return column.of_minor_units(_minor_units(value) if isinstance(value, str) else value)


t.register("sqlite", SQLite.__new__(SQLite))
