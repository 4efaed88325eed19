"""Connections to PostgreSQL: psycopg2 for writes and migrations, asyncpg for reads."""

import os
import socket
import ssl
from collections.abc import Sequence
from typing import Any

import psycopg2
import sqlalchemy as sa

from ..interface import Backend
from ..sql import read_url
from .codec import PostgreSQLCodec
from .dialect import read_dialect
from .errors import classify_error, constraint_name
from .migrations import PostgreSQLMigrations


class PostgreSQL(Backend):
    name = "postgresql"
    adapter = "dbservice_postgresql:psycopg2"
    pipeline_begin = True
    codec = PostgreSQLCodec()
    classify_error = staticmethod(classify_error)
    constraint_name = staticmethod(constraint_name)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.migrations = PostgreSQLMigrations(self)

    def connect(self, *, statement_timeout: float | None = None, autocommit: bool = True) -> Any:
        s = self.settings
        options = {
            "timezone": "UTC",
            "search_path": _identifier(self.schema),
            "standard_conforming_strings": "on",
            "default_transaction_isolation": "read committed",
            "extra_float_digits": "1",  # with less, a double is not read as it was to_json_form
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

    def interrupt(self, connection: Any) -> None:
        with socket.socket(fileno=os.dup(connection.fileno())) as same:
            same.shutdown(socket.SHUT_RDWR)

    def read_url(self) -> str:
        return read_url("postgresql", self.settings, self.settings.db_pass.get_secret_value())

    def read_options(self) -> dict[str, Any]:
        s = self.settings
        tls: Any = {"disable": False, "require": "require"}.get(s.db_ssl_mode)
        if s.db_ssl_mode == "verify-full":
            tls = ssl.create_default_context(cafile=str(s.db_ssl_ca) if s.db_ssl_ca else None)
        return {
            "min_size": 0,
            "max_size": self.readers,
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

    def dialect(self) -> sa.Dialect:
        return read_dialect()

    async def init_connection(self, raw: Any) -> None:
        pass  # `server_settings` have done it

    async def fetch(
        self, raw: Any, sql: str, arguments: Sequence[Any], limit: float
    ) -> Sequence[Sequence[Any]]:
        rows: Sequence[Sequence[Any]] = await raw.fetch(sql, *arguments, timeout=limit)
        return rows

    async def terminate(self, raw: Any) -> None:
        await raw.close()  # and first cancels the statement that the server may still be at


def _option(value: str) -> str:
    """A value inside libpq's `options`."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
