"""Real servers for tests: PostgreSQL, MariaDB and MySQL on free ports of 127.0.0.1, and SQLite files.

`find(engine)` is the server all tests of a session share, `own(engine)` one that a test may stop and kill.
They differ from a developer's machine on purpose (their time zone is not UTC, their collations are the
engine's own): a session set up wrongly fails here and not in production.
"""

import os
import secrets
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg2
import pymysql

from . import shared
from .mysql import MariaDB, MySQL
from .postgresql import PostgreSQL
from .process import Failed
from .server import Database, Server, ServerNotFound, free_port

__all__ = [
    "ENGINES",
    "Database",
    "Failed",
    "Server",
    "ServerNotFound",
    "find",
    "free_port",
    "own",
    "share",
    "sqlite",
    "use_shared",
]

ENGINES: dict[str, type[Server]] = {kind.engine: kind for kind in (PostgreSQL, MariaDB, MySQL)}


_shared: shared.Address | None = None


def share() -> shared.Address:
    """Let other processes use the servers of this one: what they hand to `use_shared`."""
    return shared.share(lambda engine: find(engine).admin)


def use_shared(address: shared.Address) -> None:
    """From now on `find` starts no server, it asks the process that called `share`."""
    global _shared
    _shared = address


@cache
def find(engine: str) -> Server:
    """The running server of this engine that all tests share: DB_TEST_URL's, or one of ours.

    Raises ServerNotFound, whose message says how to get it.
    """
    kind = ENGINES[engine]
    external = _external()
    if external and external.type == kind.type:
        server = kind(external=external)
        try:
            if server.is_mine():  # a mysql:// URL does not tell which of the two is behind it
                return server
        except (psycopg2.Error, pymysql.Error) as error:
            raise Failed(f"the server of DB_TEST_URL does not let us in: {error}") from None
    if _shared:
        return kind(external=shared.ask(_shared, engine))
    server = kind()
    server.start()
    return server


def own(engine: str, *, durable: bool = False, options: Sequence[str] = ()) -> Server:
    """A server for one test, to be used in a `with`: its data goes when the block ends.

    Unless it is `durable` it never waits for the disk. Killed, it keeps every commit all the same; only the
    machine may not fail. `options` are added to its command line.
    """
    return ENGINES[engine](durable=durable, options=options)


def sqlite(folder: Path) -> Database:
    """A database that is a file in this folder."""
    return Database("sqlite", str(folder / f"{secrets.token_hex(5)}.db"))


def _external() -> Database | None:
    url = os.environ.get("DB_TEST_URL")
    if not url:
        return None
    parts = urlsplit(url)
    kind = {"postgres": PostgreSQL, "postgresql": PostgreSQL, "mysql": MySQL, "mariadb": MariaDB}.get(
        parts.scheme
    )
    if kind is None or not parts.hostname:
        raise Failed(
            "DB_TEST_URL does not name a server: write postgresql://, mysql:// or mariadb://"
            " and then user:password@host:port/database, of an account that may create databases and accounts"
        )
    return Database(
        kind.type,
        parts.path.strip("/") or kind.home_database,
        parts.hostname,
        parts.port or kind.usual_port,
        unquote(parts.username or ""),
        unquote(parts.password or ""),
    )
