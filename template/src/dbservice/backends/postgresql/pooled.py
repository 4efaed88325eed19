"""Connections through a pooler such as PgBouncer, which may give each transaction another session of the server.

What a session is told would be lost, or left to other clients: so each transaction has the settings, and prepares nothing
that outlives it. It is right in session mode, too, which cannot be told from the outside. Decision 32."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg2 import extensions

from .session import set_config

_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
_BEGINS = re.compile(r"\s*BEGIN\b", re.IGNORECASE)


def begin_with(settings: Mapping[str, str], *, read_only: bool = False) -> str:
    """SQL that begins a transaction with these settings."""
    return f"{_BEGIN}{' READ ONLY' * read_only}; {set_config(settings, local=True)}"


class Connection(extensions.connection):
    """psycopg2's connection, and what it must send to begin a transaction."""

    begin = ""
    """Empty without a pooler between."""


class PooledCursor(extensions.cursor):
    """A cursor in autocommit, which gives a statement that is in no transaction one of its own."""

    def execute(self, query: Any, vars: Any = None) -> None:
        connection: Any = self.connection
        if connection.info.transaction_status != extensions.TRANSACTION_STATUS_IDLE or _BEGINS.match(query):
            return super().execute(query, vars)
        super().execute(connection.begin)
        end = "ROLLBACK"
        try:
            super().execute(query, vars)
            end = "COMMIT"
        finally:
            if not connection.closed:
                with connection.cursor(cursor_factory=extensions.cursor) as other:  # this one keeps the rows
                    other.execute(end)


async def fetch(
    raw: Any, begin: str, sql: str, arguments: Sequence[Any], limit: float
) -> Sequence[Sequence[Any]]:
    """Run one statement on asyncpg's connection in a transaction that `begin` begins. Raises TimeoutError after `limit`
    seconds. After an error the connection cannot be used any more."""
    async with asyncio.timeout(limit):
        await raw.execute(begin)
        statement = await raw.prepare(sql, name="")  # unnamed: nothing of it stays in the session
        rows: Sequence[Sequence[Any]] = await statement.fetch(*arguments)
        await raw.execute("COMMIT")
    return rows
