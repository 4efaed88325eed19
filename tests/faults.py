"""What tests do to a service's database: start the service on it with limits of their own, count and kill its
sessions, run what takes long, stand between the two."""

import asyncio
import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from dbservice.service import Running
from dbservice.settings import Settings
from dbservice.testing import servers
from dbservice.testing.servers import Missing, Server

from .sample_service import metadata, sample_service

NOWHERE = Path("/nonexistent")  # a service whose root it is has no migrations


@asynccontextmanager
async def started(settings: Settings, *, pool: int = 5, **limits: Any) -> AsyncIterator[Running]:
    """The sample service on a database that holds its tables, with so many connections and these limits."""
    settings = settings.model_copy(update={"db_pool_size": pool})
    async with sample_service(NOWHERE, **limits).running(settings) as running:
        yield running


def client_of(running: Running) -> httpx.AsyncClient:
    """A client of the running service, in the same process."""
    transport = httpx.ASGITransport(running.service.app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://service", timeout=60)


def shared_server(request: pytest.FixtureRequest) -> Server:
    """The server of the engine that a test is parametrized with. Skips what `--engines` leaves out and, but on CI, what
    cannot be had."""
    named = request.config.getoption("--engines")
    if named and request.param not in named.split(","):
        pytest.skip(f"--engines leaves {request.param} out")
    try:
        return servers.find(request.param)
    except Missing as missing:
        if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
            pytest.fail(f"{request.param}: {missing}", pytrace=False)
        pytest.skip(str(missing))


@contextmanager
def prepared(server: Server) -> Iterator[Settings]:
    """The settings of a new database of `server` that holds the sample service's tables."""
    database = server.create_database()
    settings = Settings.load({**database.environ(), "DB_MAX_RETRIES": "0"})
    with_tables(settings)
    yield settings
    server.drop_database(database)


def with_tables(settings: Settings) -> None:
    """Make the sample service's tables."""
    engine = sample_service(NOWHERE).backend(settings).migrations.engine()
    metadata.create_all(engine)
    engine.dispose()


# --- sessions, as the server knows them

_SESSIONS = {
    "postgresql": "SELECT pid FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
    "mysql": "SELECT id FROM information_schema.processlist WHERE db = %s",
}
_KILL = {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL {}"}


def sessions(server: Server, settings: Settings) -> list[int]:
    """The connections that the server has to this database."""
    return [int(session) for (session,) in server.query(_SESSIONS[server.type], settings.db_name)]


def kill(server: Server, session: int) -> None:
    """End a connection from the server's side."""
    with contextlib.suppress(Exception):  # gone by itself
        server.query(_KILL[server.type].format(session))


def kill_all(server: Server, settings: Settings) -> int:
    """End every connection to this database, and wait until they are gone; how many there were."""
    found = sessions(server, settings)
    for session in found:
        kill(server, session)
    wait_until(lambda: not set(found) & set(sessions(server, settings)))
    return len(found)


def slow(settings: Settings, seconds: float) -> str:
    """A SELECT that takes about so long."""
    match settings.db_type:
        case "postgresql":
            return f"SELECT 1 FROM pg_sleep({seconds})"
        case "mysql":  # not as the only expression: then a time-out makes it answer 1 instead of an error
            return f"SELECT 1 FROM information_schema.schemata WHERE schema_name = DATABASE() AND SLEEP({seconds}) = 0"
    steps = int(seconds * 4_000_000)
    return f"WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {steps}) SELECT max(n) FROM c"


# --- waiting for what will come, never longer than for ever


def wait_until(condition: Callable[[], Any], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


async def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - some of it happens in another process
            await asyncio.sleep(0.01)


# --- standing between


class Proxy:
    """What the service takes for its database's port. It passes everything on, until it is told otherwise."""

    def __init__(self, settings: Settings, *, port: int = 0) -> None:
        self._target = (settings.db_host, settings.db_port)
        self._listener = socket.create_server(("127.0.0.1", port))
        port = self._listener.getsockname()[1]
        self.settings = settings.model_copy(
            update=dict.fromkeys(("db_host", "db_read_host"), "127.0.0.1")
            | dict.fromkeys(("db_port", "db_read_port"), port)
        )
        self._holding = False
        self._sockets: set[socket.socket] = set()
        self._mute: set[socket.socket] = set()
        self._trap: re.Pattern[bytes] | None = None
        self._delivered = False
        self.cuts = 0
        self.lingers = False
        """Whether the service's side stays open when the database has closed its own."""
        self.farewells = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.cut()

    def hold(self) -> None:
        """Take connections and words from now on and say nothing, as when a cable is pulled. What is said meanwhile is
        lost, and the connections of before and of meanwhile stay as they are, mute for ever."""
        self._holding = True
        self._mute |= self._sockets

    def resume(self) -> None:
        """Take new connections again."""
        self._holding = False

    def cut(self) -> None:
        """End every connection that there is."""
        for each in list(self._sockets):
            _close(each)

    def cut_at(self, word: str, *, delivered: bool) -> None:
        """End the next connection over which the service sends `word`: before the server hears it, or after it has
        done what it says and before the service hears the answer."""
        self._trap, self._delivered = re.compile(rb"\b" + word.encode() + rb"\b"), delivered

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=[client], daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        self._sockets.add(client)
        if self._holding:
            self._mute.add(client)
            return
        try:
            server = socket.create_connection(self._target)
        except OSError:
            _close(client)
            return
        self._sockets.add(server)
        doomed = threading.Event()
        threading.Thread(target=self._answers, args=[server, client, doomed], daemon=True).start()
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if client in self._mute:
                    continue
                if self._trap and self._trap.search(data):
                    self._trap = None
                    self.cuts += 1
                    if not self._delivered:
                        break
                    doomed.set()
                server.sendall(data)
        _close(server)
        _close(client)

    def _answers(self, server: socket.socket, client: socket.socket, doomed: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if client in self._mute:
                    continue
                if doomed.is_set():
                    break
                client.sendall(data)
        _close(server)
        self.farewells += 1
        if not self.lingers:
            _close(client)


def _close(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)  # wakes whoever waits on it
    each.close()
