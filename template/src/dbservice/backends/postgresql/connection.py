"""Connections to PostgreSQL: psycopg2 for writes and migrations, asyncpg for reads.

Their sessions are set up by a statement and not by startup parameters, which PgBouncer refuses."""

import asyncio
import os
import socket
import ssl
from collections.abc import Sequence
from typing import Any

import asyncpg
import psycopg2
import sqlalchemy as sa

from ...types import ColumnType
from ..interface import Backend, ErrorKind
from ..sql import quoted, read_url
from ..statements import Lexer
from .accounts import PostgreSQLAccounts
from .codec import PostgreSQLCodec
from .diagnosis import PostgreSQLDiagnosis
from .dialect import read_dialect
from .errors import ConnectError, classify_error, constraint_name, error_details
from .migrations import PostgreSQLMigrations
from .rules import RULES
from .secrets import secret_at, send_secrets, text_and_cast
from .session import identifier, session_settings, set_config

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

    def open_connection(self, statement_timeout: float | None, autocommit: bool) -> Any:
        s = self.settings
        tls: dict[str, Any] = {"sslmode": s.db_ssl_mode}
        if s.db_ssl_mode == "verify-full":
            tls["sslrootcert"] = str(s.db_ssl_ca or "system")
        try:
            connection = psycopg2.connect(
                host=s.db_host,
                port=s.db_port,
                dbname=s.db_name,
                user=s.db_user,
                password=s.db_pass.get_secret_value(),
                connect_timeout=max(2, round(self.limits.connect)),
                application_name=self.application,
                client_encoding="UTF8",
                options="",  # and not those of PGOPTIONS
                # a peer that vanished without a word is noticed within the limit of a statement
                keepalives_idle=5,
                keepalives_interval=2,
                keepalives_count=3,
                tcp_user_timeout=int(self.limits.statement * 1000),
                **tls,
            )
        except psycopg2.OperationalError as error:
            raise ConnectError(*error.args) from None
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(self._session(statement_timeout))
        connection.autocommit = autocommit
        return connection

    def connect_error(self, error: Exception) -> Exception:
        # asyncpg keeps the SQLSTATE that psycopg2 leaves out
        return asyncio.run(self._refusal()) or error if isinstance(error, ConnectError) else error

    async def _refusal(self) -> Exception | None:
        """What the server says to a connection attempt; None when it says nothing, or takes it."""
        s = self.settings
        try:
            connection = await asyncpg.connect(
                host=s.db_host,
                port=s.db_port,
                database=s.db_name,
                user=s.db_user,
                password=s.db_pass.get_secret_value(),
                timeout=self.limits.connect,  # pyright: ignore[reportArgumentType]
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

    def read_url(self) -> str:
        return read_url("postgresql", self.settings, self.settings.db_pass.get_secret_value())

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
        await raw.execute(self._session(self.limits.statement, read_only=True), timeout=self.limits.connect)

    async def fetch(
        self, raw: Any, sql: str, arguments: Sequence[Any], limit: float
    ) -> Sequence[Sequence[Any]]:
        rows: Sequence[Sequence[Any]] = await raw.fetch(sql, *arguments, timeout=limit)
        return rows

    async def terminate(self, raw: Any) -> None:
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

    def _session(self, statement_timeout: float | None, *, read_only: bool = False) -> str:
        values = session_settings(self.schema)
        if statement_timeout:
            values["statement_timeout"] = str(int(statement_timeout * 1000))
        if read_only:
            values["default_transaction_read_only"] = "on"
        return set_config(values)

    def _tls(self) -> Any:
        s = self.settings
        if s.db_ssl_mode == "verify-full":
            return ssl.create_default_context(cafile=str(s.db_ssl_ca) if s.db_ssl_ca else None)
        return "require" if s.db_ssl_mode == "require" else False
