"""Connections to SQLite: sqlite3 for writes and migrations, aiosqlite for reads."""

import asyncio
import os
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import base as dialect_base
from sqlalchemy.dialects.sqlite import pysqlite

from ...addresses import Address
from ..interface import Backend, ErrorKind
from ..sql import OnlyRows
from ..statements import Lexer, check_placeholder_values
from .codec import SQLiteCodec
from .errors import classify_error, constraint_name, error_details
from .functions import Connection
from .migrations import SQLiteMigrations


class SQLite(Backend):
    name = "sqlite"
    adapter = "dbservice_sqlite:sqlite3"
    begin = "BEGIN IMMEDIATE"  # waits for the lock; a plain BEGIN fails at the first write instead
    codec = SQLiteCodec()
    advice = Backend.advice | {
        ErrorKind.MISSING: "the file cannot be opened or created ({reason}): check DB_NAME"
    }
    lexer = Lexer(
        r"""'[^']*' | "[^"]*" | `[^`]*` | \[[^\]]*\] | --[^\n]* | /\*.*?(?:\*/|\Z)""", r"""['"`\[]"""
    )
    classify_error = staticmethod(classify_error)
    error_details = staticmethod(error_details)
    constraint_name = staticmethod(constraint_name)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.migrations = SQLiteMigrations(self)

    def open_connection(
        self, address: Address, statement_timeout: float | None, autocommit: bool, timeout: float
    ) -> Any:
        path = Path(self.settings.db_name)
        if path.is_dir() or not path.parent.is_dir():
            raise sqlite3.OperationalError("unable to open database file")
        connection = sqlite3.connect(
            path,
            timeout=self.limits.connect,
            isolation_level=None,
            check_same_thread=False,
            factory=Connection,
            # statements of writes hold their values: by default, the last 128 stay in memory, each up to a few MB
            cached_statements=8,
        )
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA case_sensitive_like=ON")  # as LIKE is elsewhere
        return connection

    def raw_statement(self, sql: str, values: Any) -> tuple[str, Any]:
        self.lexer.check_single(sql)
        if not values:
            return sql, None
        check_placeholder_values(values)  # the driver has parameters: `?` and `:name`
        parameter = self.codec.parameter
        if isinstance(values, Mapping):
            return sql, {name: parameter(value) for name, value in values.items()}
        return sql, [parameter(value) for value in values]

    def interrupt(self, connection: Any) -> None:
        connection.interrupt()

    @property
    def writers(self) -> int:
        return 1 if self.writes else 0  # SQLite has one writer at a time

    def read_url(self, address: Address) -> str:
        # quoted twice: once for the file: URI, once for `databases`
        return "sqlite:///" + quote("file:" + quote(os.path.abspath(self.settings.db_name))) + "?mode=ro"

    def read_options(self) -> dict[str, Any]:
        return {
            "uri": True,
            "timeout": self.limits.connect,
            "check_same_thread": False,
            "factory": Connection,
        }

    def dialect(self) -> sa.Dialect:
        dialect: sa.Dialect = pysqlite.dialect(paramstyle="qmark")
        dialect.statement_compiler = _Compiler
        return dialect

    async def init_connection(self, raw: Any) -> None:
        await raw.execute("PRAGMA case_sensitive_like=ON")  # as LIKE is elsewhere

    async def fetch(
        self, raw: Any, sql: str, arguments: Sequence[Any], limit: float
    ) -> Sequence[Sequence[Any]]:
        async with asyncio.timeout(limit):
            rows: Sequence[Sequence[Any]] = await raw.execute_fetchall(sql, tuple(arguments))
        return rows

    async def terminate(self, raw: Any) -> None:
        await raw.interrupt()


class _Compiler(OnlyRows, dialect_base.SQLiteCompiler):
    """SQLAlchemy's compiler for reads."""
