"""What tests do to a service's database: count and kill its sessions, run long statements, act as a proxy in
between; and helpers that wait for the result."""

import asyncio
import contextlib
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Self

from dbservice.settings import Settings
from dbservice.testing.servers import Server

# --- sessions, as the server knows them

_SESSIONS = {
    "postgresql": "SELECT pid FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
    "mysql": "SELECT id FROM information_schema.processlist WHERE db = %s",
}
_SLOW = {
    "postgresql": "SELECT pid FROM pg_stat_activity WHERE datname = %s AND state = 'active' AND query LIKE '%%pg_sleep%%'",
    "mysql": "SELECT id FROM information_schema.processlist WHERE db = %s AND info LIKE '%%SLEEP(%%'",
}
_KILL = {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL {}"}


def sessions(server: Server, settings: Settings) -> list[int]:
    """The connections that the server has to this database."""
    return [int(session) for (session,) in server.query(_SESSIONS[server.type], settings.db_name)]


def executing(server: Server, settings: Settings) -> list[int]:
    """Those of them that are in the middle of a `slow` SELECT."""
    return [int(session) for (session,) in server.query(_SLOW[server.type], settings.db_name)]


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


@contextlib.contextmanager
def locked_users(server: Server, settings: Settings) -> Iterator[None]:
    """Keep every reader from the table `users` meanwhile."""
    lock = {
        "postgresql": "LOCK TABLE users IN ACCESS EXCLUSIVE MODE",
        "mysql": f"LOCK TABLES `{settings.db_name}`.users WRITE",
    }
    admin = replace(server.admin, name=settings.db_name)
    with contextlib.closing(admin.connect()) as connection:
        connection.cursor().execute(lock[server.type])
        yield


# --- waiting for what will come, never longer than for ever


def wait_until(condition: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


async def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - some of it happens in another process
            await asyncio.sleep(0.01)


# --- standing between


class Proxy:
    """What the service takes for its database's port. It passes everything on, until it is told otherwise."""

    def __init__(self, settings: Settings, *, port: int = 0) -> None:
        self._target: tuple[str, int] = settings.addresses[0]
        self._port = port
        self._holding = False
        self._sockets: set[socket.socket] = set()
        self._mute: set[socket.socket] = set()
        self._hold_word: bytes | None = None
        self.held = threading.Event()
        self._break_after: int | None = None
        self._reset = False
        self._trap: re.Pattern[bytes] | None = None
        self._delivered = False
        self.cuts = 0
        self.keeps_open = False
        """Whether the service's side stays open when the database has closed its own."""
        self.closed_by_server = 0
        self.received = 0
        """Bytes that the server has sent."""
        self.connect()
        self.settings = settings.model_copy(
            update=dict.fromkeys(("db_host", "db_read_host"), "127.0.0.1")
            | dict.fromkeys(("db_port", "db_read_port"), self._port)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()

    def disconnect(self) -> None:
        """End every connection and refuse new ones, as when the server is down."""
        _close(self._listener)
        self._accepting.join()
        self.cut()

    def connect(self) -> None:
        """Take connections again, on the same port."""
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, args=[self._listener], daemon=True)
        self._accepting.start()

    def hold(self) -> None:
        """Take connections and words from now on and say nothing, as when a cable is pulled. What is said meanwhile is
        lost, and the connections of before and of meanwhile stay as they are, mute for ever."""
        self._holding = True
        self._mute |= self._sockets.copy()

    def hold_at(self, word: str) -> None:
        """The same from the moment that the service sends `word`; sets `held` then."""
        self._hold_word = word.encode()

    def lead_to(self, settings: Settings) -> None:
        """Take new connections to another server; those of before stay where they are."""
        self._target = settings.addresses[0]

    def break_new(self, *, after: int = 0, reset: bool = True) -> None:
        """Accept new connections and end each one once the server has sent `after` bytes over it: with a reset, or closed."""
        self._break_after, self._reset = after, reset

    def resume(self) -> None:
        """Take new connections again."""
        self._holding, self._break_after = False, None

    def cut(self) -> None:
        """End every connection that there is."""
        for each in list(self._sockets):
            _close(each)

    def cut_at(self, word: str, *, delivered: bool) -> None:
        """End the next connection over which the service sends `word`: before the server hears it, or after it has
        done what it says and before the service hears the answer."""
        self._trap, self._delivered = re.compile(rb"\b" + word.encode() + rb"\b"), delivered

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                self._sockets.add(client)
                threading.Thread(target=self._connect, args=[client], daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        if self._holding:
            self._mute.add(client)
            return
        if self._break_after is not None:
            self._break(client, self._break_after)
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
                if self._hold_word and self._hold_word in data:
                    self.hold()
                    self.held.set()
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
                self.received += len(data)
                if client in self._mute:
                    continue
                if doomed.is_set():
                    break
                client.sendall(data)
        _close(server)
        self.closed_by_server += 1
        if not self.keeps_open:
            _close(client)

    def _break(self, client: socket.socket, left: int) -> None:
        if left:
            # `cut` may close the client meanwhile, which `select` calls a ValueError
            with socket.create_connection(self._target) as server, contextlib.suppress(OSError, ValueError):
                while left > 0:
                    for each in select.select([server, client], [], [])[0]:
                        data = each.recv(left if each is server else 65536)
                        if not data:
                            left = 0
                        elif each is server:
                            client.sendall(data)
                            left -= len(data)
                        else:
                            server.sendall(data)
        if self._reset:
            with contextlib.suppress(OSError):  # `cut` may have closed it
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        else:
            _close(client)


def _close(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)  # wakes whoever waits on it
    each.close()
