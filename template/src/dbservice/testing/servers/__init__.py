"""Real servers for tests: PostgreSQL, MariaDB and MySQL on free ports of 127.0.0.1, and SQLite files.

`find(engine)` is the server all tests of a session share, `own(engine)` one that a test may stop and kill.
Their time zone is not UTC and their collations are the engine's defaults, so that an incorrect session setup
fails in the tests.
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
    "is_external",
    "own",
    "share",
    "sqlite",
    "use_shared",
]

ENGINES: dict[str, type[Server]] = {kind.engine: kind for kind in (PostgreSQL, MariaDB, MySQL)}


_shared: shared.Address | None = None


def share() -> shared.Address:
    """Share this process's servers with other processes; returns the address for `use_shared`."""
    return shared.share(lambda engine: find(engine).admin)


def use_shared(address: shared.Address) -> None:
    """Make `find` return servers of the process that called `share`, instead of starting any."""
    global _shared
    _shared = address


@cache
def find(engine: str) -> Server:
    """The running server of this engine that all tests share: that of DB_TEST_URL, or one that is started here.

    Raises ServerNotFound, Failed.
    """
    kind = ENGINES[engine]
    external = _external()
    if external and external.type == kind.type:
        server = kind(external=external)
        try:
            if server.is_mine():  # a mysql:// URL may be MySQL or MariaDB
                return server
        except (psycopg2.Error, pymysql.Error) as error:
            raise Failed(f"cannot connect to the server of DB_TEST_URL: {error}") from None
    if _shared:
        return kind(external=shared.ask(_shared, engine))
    server = kind()
    server.start()
    return server


def own(engine: str, *, durable: bool = False, options: Sequence[str] = ()) -> Server:
    """A server for one test, as a context manager; its data is removed at the end of the block.

    Unless it is `durable`, it does not fsync: commits survive a kill of the server, not a crash of the machine.
    `options` are added to its command line.
    """
    return ENGINES[engine](durable=durable, options=options)


def sqlite(folder: Path) -> Database:
    """A SQLite database in a new file in `folder`."""
    return Database("sqlite", str(folder / f"{secrets.token_hex(5)}.db"))


def is_external(database: Database) -> bool:
    """Whether the database is on the server of DB_TEST_URL."""
    external = _external()
    return external is not None and external.type == database.type


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
