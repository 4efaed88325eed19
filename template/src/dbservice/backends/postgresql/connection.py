"""Connections to PostgreSQL: psycopg2 for writes and migrations, asyncpg for reads.

Their sessions are set up by a statement and not by startup parameters, which PgBouncer refuses; through a pooler, each
transaction is (`pooled`)."""

import asyncio
import os
import socket
import ssl
from collections.abc import Sequence
from typing import Any

import asyncpg
import psycopg2
import sqlalchemy as sa

from ...addresses import Address
from ...types import ColumnType
from ..connecting import Usable
from ..interface import Backend, ErrorKind
from ..sql import quoted, read_url
from ..statements import Lexer
from .accounts import PostgreSQLAccounts
from .codec import PostgreSQLCodec
from .diagnosis import PostgreSQLDiagnosis
from .dialect import read_dialect
from .errors import (
    ConnectError,
    StandbyError,
    StatementPoolingError,
    classify_error,
    constraint_name,
    error_details,
)
from .migrations import PostgreSQLMigrations
from .pooled import Connection, PooledCursor, begin_with, fetch
from .rules import RULES
from .secrets import secret_at, send_secrets, text_and_cast
from .session import identifier, session_settings, set_config_if_direct

# what a new session is given, and not what this one was told
_TAKES_NO_WRITES = "SELECT pg_is_in_recovery() OR reset_val = 'on' FROM pg_settings WHERE name = 'default_transaction_read_only'"
_WORD = r"\x80-\U0010ffff"  # what PostgreSQL takes for letters beside those of ASCII


class PostgreSQL(Backend):
    name = "postgresql"
    adapter = "dbservice_postgresql:psycopg2"
    pipeline_begin = True
    codec = PostgreSQLCodec()
    accounts = PostgreSQLAccounts()
    change_rules = RULES
    diagnosis = PostgreSQLDiagnosis()
    advice = Backend.advice | {
        ErrorKind.NO_PRIVILEGE: "the account {account} may not connect to the database {database} ({reason}): GRANT CONNECT"
        ' ON DATABASE "{database}" TO "{account}"',
        ErrorKind.STATEMENT_POOLING: "the pooler gives each statement another session ({reason}): set its pool_mode to"
        " transaction or session",
    }
    # a string with backslashes, nested comments and most dollars would need PostgreSQL's own parser
    lexer = Lexer(
        rf"""(?<![eE])'[^']*' | (?<=[A-Za-z_{_WORD}][eE])'[^']*' | "[^"]*" | --[^\r\n]* | /\*(?:(?!\*/|/\*).)*\*/
        | (?<![^\s(,=])\$(?P<tag>(?:[A-Za-z_{_WORD}][\w{_WORD}]*)?)\$.*?\$(?P=tag)\$""",
        r"""['"] | /\* | \$(?!\d)""",
    )
    classify_error = staticmethod(classify_error)
    error_details = staticmethod(error_details)
    constraint_name = staticmethod(constraint_name)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.migrations = PostgreSQLMigrations(self)
        self._pooled: dict[Any, str] = {}
        """The read connections that go through a pooler, and what begins their transactions."""
        self._has_transactions = False

    def open_connection(
        self, address: Address, statement_timeout: float | None, autocommit: bool, timeout: float
    ) -> Any:
        s = self.settings
        tls: dict[str, Any] = {"sslmode": s.db_ssl_mode}
        if s.db_ssl_mode == "verify-full":
            tls["sslrootcert"] = str(s.db_ssl_ca or "system")
        try:
            connection = psycopg2.connect(
                host=address.host,
                port=address.port,
                dbname=s.db_name,
                user=s.db_user,
                password=s.db_pass.get_secret_value(),
                connect_timeout=max(2, round(timeout)),
                application_name=self.application,
                client_encoding="UTF8",
                options="",  # and not those of PGOPTIONS
                # a peer that vanished without a word is noticed within the limit of a statement
                keepalives_idle=5,
                keepalives_interval=2,
                keepalives_count=3,
                tcp_user_timeout=int(self.limits.statement * 1000),
                connection_factory=Connection,
                **tls,
            )
        except psycopg2.OperationalError as error:
            refusal = ConnectError(*error.args)
            refusal.address = address
            raise refusal from None
        connection.autocommit = True
        settings = self._settings(statement_timeout)
        with connection.cursor() as cursor:
            cursor.execute(set_config_if_direct(settings, connection.info.backend_pid))
            if not cursor.rowcount:
                connection.begin = begin_with(settings)
                self._check_transactions(cursor)
                if autocommit:
                    connection.cursor_factory = PooledCursor
        connection.autocommit = autocommit
        return connection

    def _check_transactions(self, cursor: Any) -> None:
        """Raises StatementPoolingError if the pooler has none. It says so by closing the connection, and nothing else."""
        if self._has_transactions:
            return
        try:
            cursor.execute("BEGIN")
            cursor.execute("ROLLBACK")
        except psycopg2.OperationalError as error:
            raise StatementPoolingError("it closes the connection at BEGIN") from error
        self._has_transactions = True

    def begin_on(self, connection: Any) -> str:
        return connection.begin or self.begin

    def ask_usable(self, *, writes: bool) -> Usable:
        if writes and (yield _TAKES_NO_WRITES)[0][0]:
            raise StandbyError("it is a standby, or read-only, and takes no writes")

    def connect_error(self, error: Exception) -> Exception:
        # asyncpg keeps the SQLSTATE that psycopg2 leaves out
        if not isinstance(error, ConnectError) or error.address is None:
            return error
        return asyncio.run(self._refusal(error.address)) or error

    async def _refusal(self, address: Address) -> Exception | None:
        """What the server says to a connection attempt; None when it says nothing, or takes it."""
        s = self.settings
        try:
            connection = await asyncpg.connect(
                host=address.host,
                port=address.port,
                database=s.db_name,
                user=s.db_user,
                password=s.db_pass.get_secret_value(),
                timeout=self.hosts.timeout(self.limits.connect),  # pyright: ignore[reportArgumentType]
                ssl=self._tls(),
            )
            await connection.close(timeout=self.limits.connect)
        except asyncpg.PostgresError as error:
            refusal: Exception = error
            return refusal
        except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            pass
        return None

    def interrupt(self, connection: Any) -> None:
        with socket.socket(fileno=os.dup(connection.fileno())) as same:
            same.shutdown(socket.SHUT_RDWR)

    def secret(self, column: ColumnType, value: Any, position: int) -> tuple[str, str]:
        text, cast = text_and_cast(self.codec.literal(column, value), value)
        return text, secret_at(position, cast)

    def send_secrets(self, connection: Any, texts: Sequence[str]) -> None:
        send_secrets(connection, texts)

    def read_url(self, address: Address) -> str:
        return read_url("postgresql", self.settings, self.settings.db_pass.get_secret_value(), address)

    def read_options(self) -> dict[str, Any]:
        return {
            "min_size": 0,
            "max_size": self.readers,
            "timeout": self.limits.connect,
            "max_inactive_connection_lifetime": 0,
            "ssl": self._tls(),
            "server_settings": {"application_name": self.application},
        }

    def dialect(self) -> sa.Dialect:
        return read_dialect()

    async def init_connection(self, raw: Any) -> None:
        settings = self._settings(self.limits.statement) | {"default_transaction_read_only": "on"}
        sql = set_config_if_direct(settings, raw.get_server_pid())
        if await raw.execute(sql, timeout=self.limits.connect) == "SELECT 0":
            self._pooled[raw] = begin_with(self._settings(self.limits.statement), read_only=True)

    async def fetch(
        self, raw: Any, sql: str, arguments: Sequence[Any], limit: float
    ) -> Sequence[Sequence[Any]]:
        if raw in self._pooled:
            return await fetch(raw, self._pooled[raw], sql, arguments, limit)
        rows: Sequence[Sequence[Any]] = await raw.fetch(sql, *arguments, timeout=limit)
        return rows

    async def terminate(self, raw: Any) -> None:
        self._pooled.pop(raw, None)
        await raw.close()  # and first cancels the statement that the server may still be at

    @property
    def schema_statement(self) -> str:
        # a schema that is not there, or that the account may not use, is skipped in silence when a table is looked for
        return f"SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = {quoted(self.schema)}"

    def describe_schema(self, answer: Any) -> str:
        if not answer:
            return f"The database has no schema {self.schema} yet: run `make migrate` first."
        if not answer[0][0]:
            grant = f"GRANT USAGE ON SCHEMA {identifier(self.schema)} TO {identifier(self.settings.db_user)}"
            return f"The account {self.settings.db_user} may not use the schema {self.schema}: {grant}."
        return ""

    def _settings(self, statement_timeout: float | None) -> dict[str, str]:
        values = session_settings(self.schema)
        if statement_timeout:
            values["statement_timeout"] = str(int(statement_timeout * 1000))
        return values

    def _tls(self) -> Any:
        s = self.settings
        if s.db_ssl_mode == "verify-full":
            return ssl.create_default_context(cafile=str(s.db_ssl_ca) if s.db_ssl_ca else None)
        return "require" if s.db_ssl_mode == "require" else False
