"""Connections to MySQL and MariaDB: PyMySQL for writes and migrations, aiomysql for reads."""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from typing import Any

import pymysql
import sqlalchemy as sa
from pymysql.constants import CLIENT, ER

from ...accounts.declared import insert_view, row_view
from ...addresses import Address
from ..connecting import Usable
from ..interface import Backend, ErrorKind
from ..sql import read_url
from ..statements import Lexer
from .accounts import MySQLAccounts
from .codec import MySQLCodec
from .diagnosis import MySQLDiagnosis
from .dialect import mariadb_only, mysql_only, read_dialect
from .driver import Cursor, no_tls_error
from .errors import classify_error, constraint_name, error_details
from .migrations import MySQLMigrations
from .rules import MySQLChangeRules

# NO_BACKSLASH_ESCAPES: a quote is doubled and that is all there is to escaping
_SQL_MODE = (
    "STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,"
    "NO_BACKSLASH_ESCAPES,ONLY_FULL_GROUP_BY"
)

_LOCK_WAIT = 5
"""Seconds a statement waits for a row or a table; the server's own default is a day or a year."""


class MySQL(Backend):
    name = "mysql"
    adapter = "dbservice_mysql:pymysql"
    begin = "START TRANSACTION"
    # Galera: a node outside the cluster still answers SELECT 1. A single server names no provider.
    health_statement = "SHOW GLOBAL STATUS WHERE Variable_name IN ('wsrep_ready', 'wsrep_provider_name')"
    codec = MySQLCodec()
    accounts = MySQLAccounts()
    change_rules = MySQLChangeRules()
    diagnosis = MySQLDiagnosis()
    advice = Backend.advice | {
        ErrorKind.NOT_IN_CLUSTER: "this node is not part of its Galera cluster ({reason}): wait until it has joined again, or"
        " let DB_HOST name another node"
    }
    string_quotes = "'\""  # without ANSI_QUOTES
    # the server executes the comments that begin with an exclamation mark
    lexer = Lexer(
        r"""'[^']*' | "[^"]*" | `[^`]*` | --(?=\s|\Z)[^\n]* | \#[^\n]* | /\*(?!M?!).*?\*/""",
        r"""['"`] | /\*(?!M?!)""",
    )
    classify_error = staticmethod(classify_error)
    error_details = staticmethod(error_details)
    constraint_name = staticmethod(constraint_name)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.migrations = MySQLMigrations(self)

    def open_connection(
        self, address: Address, statement_timeout: float | None, autocommit: bool, timeout: float
    ) -> Any:
        s = self.settings
        tls = self._tls()
        socket_timeout = statement_timeout + self.limits.connect if statement_timeout else None
        connection = pymysql.connect(
            host=address.host,
            port=address.port,
            user=s.db_user,
            password=_password(s.db_pass.get_secret_value()),
            database=s.db_name,
            charset="utf8mb4",
            connect_timeout=timeout,
            read_timeout=timeout,  # of the greeting, for which a server of another kind waits, too
            write_timeout=socket_timeout,
            client_flag=CLIENT.FOUND_ROWS,  # else an UPDATE that changes nothing counts 0
            program_name=self.application,
            autocommit=autocommit,
            ssl=tls,
            ssl_disabled=tls is None,
        )
        connection._read_timeout = socket_timeout  # type: ignore[attr-defined]
        version: str = connection.get_server_info()  # type: ignore[no-untyped-call]
        self.system = "mariadb" if "mariadb" in version.lower() else "mysql"
        with connection.cursor() as cursor:
            if tls:
                cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
                _must_be_encrypted(cursor.fetchone())
            for statement in self._session(statement_timeout):
                cursor.execute(statement)
        return connection

    def interrupt(self, connection: Any) -> None:
        connection._sock.shutdown(socket.SHUT_RDWR)

    def read_url(self, address: Address) -> str:
        return read_url("mysql", self.settings, _password(self.settings.db_pass.get_secret_value()), address)

    def read_options(self) -> dict[str, Any]:
        options: dict[str, Any] = {
            "min_size": 0,
            "max_size": self.readers,
            "connect_timeout": self.limits.connect,
            "charset": "utf8mb4",
            "program_name": self.application,
            "init_command": "SET SESSION TRANSACTION READ ONLY",
        }
        return options | ({"ssl": tls} if (tls := self._tls()) else {})

    def dialect(self) -> sa.Dialect:
        return read_dialect(self.row_view)

    def row_view(self, table: str) -> str:
        return row_view(table, self.application.replace("-", "_"))

    def insert_view(self, table: str) -> str:
        return insert_view(table, self.application.replace("-", "_"))

    async def init_connection(self, raw: Any) -> None:
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
            cursor = await raw.cursor(Cursor)
            await cursor.execute(sql, tuple(arguments))
            rows: Sequence[Sequence[Any]] = await cursor.fetchall()
        return rows

    async def terminate(self, raw: Any) -> None:
        try:
            if raw._close_reason:  # cancelled in the middle of a statement, with which the server would go on
                session = raw.thread_id()
                raw._password = _password(self.settings.db_pass.get_secret_value())
                await raw.ping()  # connects anew, as before
                await self.fetch(raw, f"KILL {session}", (), self.limits.connect)
                gone = f"SELECT 1 FROM information_schema.processlist WHERE id = {session}"
                # until it is gone it counts as a connection, and nothing but asking tells
                while await self.fetch(raw, gone, (), self.limits.connect):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        finally:
            raw.close()

    def check_health(self, answer: Any) -> None:
        status = {str(name).lower(): value for name, value in answer}
        if status.get("wsrep_provider_name") and status.get("wsrep_ready") != "ON":
            raise pymysql.err.OperationalError(ER.UNKNOWN_COM_ERROR, "wsrep_ready is not ON")

    def ask_usable(self, *, writes: bool) -> Usable:
        self.check_health((yield self.health_statement))
        if writes and (yield "SELECT @@GLOBAL.read_only")[0][0]:
            raise pymysql.err.OperationalError(1290, "the server runs with --read-only")

    def _session(self, statement_timeout: float | None) -> list[str]:
        words = (
            f"SET SESSION sql_mode='{_SQL_MODE}', time_zone='+00:00', innodb_lock_wait_timeout={_LOCK_WAIT}"
        )
        words += f", lock_wait_timeout={_LOCK_WAIT}"
        # what is computed compares and sorts as what is stored
        words += mysql_only(", collation_connection=utf8mb4_0900_bin")
        words += mariadb_only(", collation_connection=utf8mb4_nopad_bin")
        words += (
            ", max_sort_length=16384"  # MariaDB sorts by so many bytes; 1024 are less than a long string has
        )
        if statement_timeout:
            words += mysql_only(f", max_execution_time={int(statement_timeout * 1000)}")
            words += mariadb_only(f", max_statement_time={statement_timeout}")
        return [words, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"]

    def _tls(self) -> ssl.SSLContext | None:
        s = self.settings
        if s.db_ssl_mode == "disable":
            return None
        context = ssl.create_default_context(cafile=str(s.db_ssl_ca) if s.db_ssl_ca else None)
        if s.db_ssl_mode == "require":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _password(password: str) -> str:
    """Both drivers encode a `str` as latin-1; this makes it the UTF-8 the server knows."""
    return password.encode().decode("latin-1")


def _must_be_encrypted(status: Sequence[Any] | None) -> None:
    if not status or not status[1]:
        raise no_tls_error()
