"""All connections of the server: how many there may be, and for how long each may wait for something.

One timer looks at all of them, so that a request costs an entry in a dict, and no timer of its own."""

import asyncio
import logging
import resource
from typing import Any, Protocol

from ..limits import Limits
from .load import Load

logger = logging.getLogger("dbservice.http")

RESERVE = 32
"""Connections beyond the maximum, in which only health checks are served."""

_MOST = 4096
"""The maximum number of connections by default: an idle one takes about 10 KB."""
_OTHER_FILES = 64
"""Descriptors for everything but connections: of clients, and to databases."""
_LINGER = 5.0
"""Seconds for which what a client sends is received and ignored after its request was refused. Closed with unread data,
the connection would be reset, and the client might not see the answer."""
_SILENT = 1.0
"""Seconds after which a connection that has sent no complete request is closed for a new one: no honest client takes as
long, and those who wait for their next request do."""
_PROGRESS = 64 * 1024
"""Bytes of an answer that a client has to read within `limits.send`."""


class Waiting(dict["Connection", float]):
    """The connections that wait for one thing, and since when; those who wait for longest first."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds


class Connection(Protocol):
    """What is known of a connection here."""

    transport: asyncio.Transport

    def expire(self, waiting: Waiting) -> None:
        """Stop to wait: the time is over."""

    def stop_keep_alive(self) -> None:
        """Close the connection after the answer of the request in flight."""

    @property
    def busy(self) -> bool:
        """Whether a request is in flight."""
        ...

    def __hash__(self) -> int: ...


class Connections:
    """The connections of one server, `maximum` and a few more."""

    def __init__(self, limits: Limits, load: Load, maximum: int) -> None:
        self.load = load
        self.maximum = maximum
        self.heads = Waiting(limits.headers_timeout)
        """Those whose next headers are not complete: they have just begun, or a part was received."""
        self.bodies = Waiting(limits.receive)
        """Those whose headers are complete and whose body is not."""
        self.idle = Waiting(limits.keep_alive)
        """Those that have been answered."""
        self.lingering = Waiting(min(_LINGER, limits.headers_timeout))
        """Those that have been answered before they had sent all."""
        load.receiving = self.bodies
        self.draining = False
        self._all: dict[Connection, None] = {}
        self._unsent: dict[Connection, _Unsent] = {}
        self._send = limits.send
        times = (limits.headers_timeout, limits.receive, limits.keep_alive, limits.send)
        self._interval = max(0.02, min(1.0, min(times) / 4))
        self._refused = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look at the connections; in the event loop."""
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def add(self, connection: Connection) -> bool:
        """Count a new connection, and make room for it. Whether it is one beyond the maximum, that may only ask for health."""
        self._all[connection] = None
        self.load.connections += 1
        if self.load.connections <= self.maximum:
            return False
        if (longest := self._least_missed()) is not None:
            longest.transport.abort()
            return False
        if self.load.connections > self.maximum + RESERVE:
            connection.transport.abort()
        return True

    def remove(self, connection: Connection) -> None:
        del self._all[connection]
        self.load.connections -= 1
        if (unsent := self._unsent.pop(connection, None)) is not None:
            self.load.bytes -= unsent.size

    def drain(self) -> None:
        """From now on, close each connection after its answer."""
        self.draining = True
        for connection in self._all:
            connection.stop_keep_alive()

    def watch_unsent(self, connection: Connection) -> None:
        """Count what the client has not read yet, until it has."""
        if connection in self._all:
            if connection not in self._unsent:
                self._unsent[connection] = _Unsent(asyncio.get_running_loop().time())
            self._check_unsent(connection)

    def _check_unsent(self, connection: Connection) -> None:
        unsent, now = self._unsent[connection], asyncio.get_running_loop().time()
        size = connection.transport.get_write_buffer_size()
        self.load.bytes += size - unsent.size
        unsent.size = size
        if not size:
            del self._unsent[connection]
        elif size > unsent.mark:
            unsent.mark = size
        elif size <= unsent.mark - _PROGRESS:
            unsent.mark, unsent.since = size, now
        # where others are refused for it, a client is to read faster
        elif now - unsent.since > (self._send / 10 if self.load.has_too_many_bytes else self._send):
            connection.transport.abort()

    def _least_missed(self) -> Connection | None:
        """The connection to close for a new one."""
        silent = asyncio.get_running_loop().time() - _SILENT
        for waiting, since in (
            (self.lingering, None),
            (self.heads, silent),
            (self.idle, None),
            (self.heads, None),
        ):
            for connection, began in waiting.items():
                if since is not None and began > since:
                    break
                if not connection.busy:
                    del waiting[connection]
                    return connection
        return None

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._interval, self._look)
        now = loop.time()
        for waiting in (self.heads, self.bodies, self.idle, self.lingering):
            expired = []
            for connection, since in waiting.items():
                if now - since < waiting.seconds:
                    break
                expired.append(connection)
            for connection in expired:
                connection.expire(waiting)
        for connection in self._all:
            if connection in self._unsent or connection.transport.is_closing():
                self.watch_unsent(connection)
        if refused := self.load.refused - self._refused:
            self._refused = self.load.refused
            logger.warning("refused %d requests: too much is in flight", refused, extra=self._counts())

    def _counts(self) -> dict[str, Any]:
        load = self.load
        return {"requests": load.requests, "bytes": load.bytes, "connections": load.connections}


class _Unsent:
    """What a client has not read: its size, and the size at the last progress and its time."""

    __slots__ = ("mark", "since", "size")

    def __init__(self, now: float) -> None:
        self.size, self.mark, self.since = 0, 0, now


def maximum_connections(limits: Limits, pool_size: int) -> int:
    """The number of connections for which there are descriptors, with `pool_size` connections to the database; at most
    `limits.connections`."""
    wanted = _MOST if limits.connections is None else limits.connections
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return wanted
    # a connection to SQLite holds up to three files
    return max(1, min(wanted, files - RESERVE - _OTHER_FILES - 4 * pool_size))
