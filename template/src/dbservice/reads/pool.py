"""The read pool: runs compiled statements on a fixed number of open `databases` connections.

Each slot keeps one `databases` connection open, so a read costs neither a connect nor a reset. Slots are acquired in FIFO
order. After a cancellation, a timeout or a lost connection, a slot is released when its connection is closed: no slot is
lost, and the server never has more connections than slots. `transaction()` and `iterate()` of `databases` are not used:
they leak connections."""

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter, deque
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import sqlalchemy as sa
from databases import Database

from ..addresses import Address
from ..backends.interface import WORTH_WAITING_FOR, Backend, ErrorKind
from ..backends.refusals import Refusals
from ..errors import BadValue, NotFound, Unavailable
from ..histogram import Histogram
from ..redaction import describe, remember_statement
from ..schema import Page, Row
from ..settings import Settings
from .pages import PageReader
from .portability import check_row_count
from .query import Query

if TYPE_CHECKING:
    from ..tracing import Tracing

P = ParamSpec("P")
R = TypeVar("R", bound=Row)
_RECONNECT = (ErrorKind.LOST, ErrorKind.NOT_IN_CLUSTER)
_PAUSE = (0.05, 0.2)
"""Seconds between two attempts to connect, at random."""
_TOO_LONG = "The database took too long to answer."
_SENTENCES = {
    ErrorKind.NO_TABLE: "The database lacks a table that the service needs.",
    ErrorKind.NO_PRIVILEGE: "The database refuses the service's account.",
    ErrorKind.DISK_FULL: "The database's disk is full.",
    ErrorKind.EXHAUSTED: "The database lacks memory or another resource.",
    ErrorKind.TIMEOUT: _TOO_LONG,
}
_CANCELLED = 1.0
"""Seconds that a cancelled start takes to close its connection."""
logger = logging.getLogger(__name__)


class _Slot:
    """A slot of the pool: an open `databases` connection, or none yet."""

    def __init__(self) -> None:
        self.connection: Any = None
        self.raw: Any = None
        self.address: Address | None = None
        self.opening: asyncio.Future[None] | None = None


class ReadPool:
    """Runs queries of the declared `tables` (None: of any), at most `backend.readers` at a time. Routes get it as
    `reads: Reads`."""

    def __init__(
        self, backend: Backend, *, size: int | None = None, tables: Collection[sa.Table] | None = None
    ) -> None:
        self.backend, self._tables = backend, tables
        self.size = size or backend.readers
        self.hosts = backend.read_hosts
        self.tracing: Tracing | None = None
        self.durations = Histogram()
        """Of all reads, the wait for a connection included."""
        self.retries: Counter[str] = Counter(lost=0, not_in_cluster=0)
        """How many reads were run again, by what had failed."""
        self.refused: Counter[str] = Counter(pool_timeout=0, timeout=0, lost=0)
        """How many reads got Unavailable, by reason."""
        self._settings = backend.settings
        self._databases: dict[Address, Database] = {}
        self._replacing = asyncio.Lock()
        self._replaced: list[Database] = []  # those with an old password, whose connections still work
        self._waiting: deque[asyncio.Future[_Slot]] = deque()
        self._free = [_Slot() for _ in range(self.size)]
        self._renewing: set[asyncio.Future[None]] = set()
        self._answered = float("-inf")

    async def start(self) -> None:
        """Start the pool and check one connection. Raises the driver's exception; may be called again."""
        slot = self._free[-1]
        try:
            await self._open(slot)
            sql = self.backend.health_statement
            self.backend.check_health(
                await self.backend.fetch(slot.raw, sql, (), self.backend.limits.statement)
            )
        except asyncio.CancelledError:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CANCELLED):
                    await self._close(slot)
            raise
        except Exception:
            await self._close(slot)
            raise

    async def stop(self) -> None:
        """Wait for running reads, then close every connection."""
        limits = self.backend.limits
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limits.statement + limits.connect):
                for _ in range(self.size):
                    slot = self._free.pop() if self._free else await self._acquire(None)
                    await self._close(slot)
        for database in (*self._databases.values(), *self._replaced):
            with contextlib.suppress(
                TimeoutError
            ):  # `databases` would wait without a timeout for a running read
                async with asyncio.timeout(limits.connect):
                    await database.disconnect()

    @property
    def in_use(self) -> int:
        """The number of acquired slots."""
        return self.size - len(self._free)

    @property
    def waiting(self) -> int:
        """The number of reads that wait for a slot."""
        return len(self._waiting)

    async def one(self, query: Query[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The only row. Raises NotFound if there is none, RuntimeError if there are several."""
        rows = await self.all(query, *args, **kwargs)
        if len(rows) == 1:
            return rows[0]
        if rows:
            raise RuntimeError(
                f"one() got several rows: {len(rows)} of {query.row.__name__}; select by what is unique, or use first()"
            )
        raise NotFound("There is no such row.")

    async def first(self, query: Query[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
        """The first row, or None."""
        rows = await self.all(query, *args, **kwargs)
        return rows[0] if rows else None

    async def all(self, query: Query[P, R], *args: P.args, **kwargs: P.kwargs) -> list[R]:
        """All rows; the statement should have a LIMIT."""
        compiled = query.for_backend(self.backend, self._tables)
        values = query.by_name(args, kwargs) if args else kwargs
        records = await self._run(compiled.sql, compiled.arguments(values))
        return compiled.rows(query.row, records)

    async def page(self, query: Query[P, R], *args: P.args, **kwargs: P.kwargs) -> Page[R]:
        """A page of a query with a parameter `limit`, ordered by the key in its first column; `next` is the last key, to pass
        as `after`, or None at the end. It has fewer than `limit` rows where they have more than `Limits.page_bytes`, but at
        least one. Raises TypeError for a query without `limit`, BadValue for a `limit` that is not a whole number of at
        least 1."""
        values: dict[str, Any] = query.by_name(args, kwargs) if args else kwargs
        compiled = query.for_backend(self.backend, self._tables)
        if "limit" not in compiled.names:
            raise TypeError(
                "page() needs a query with a parameter `limit`, which bounds its rows: .limit(limit)"
            )
        try:
            limit = check_row_count(values.get("limit", query.defaults.get("limit")), least=1)
        except ValueError as error:
            raise BadValue("limit", str(error)) from None
        reader = PageReader.of(query, self.backend)
        budget = self.backend.limits.page_bytes
        if reader.row_bytes * (limit + 1) > budget:
            return await reader.read(self._run, values, limit, budget)
        values["limit"] = limit + 1
        return reader.page(await self._run(compiled.sql, compiled.arguments(values)), limit)

    async def fetch_raw(self, sql: str) -> Sequence[Sequence[Any]]:
        """The rows of a statement without parameters, as the driver returns them."""
        return await self._run(sql, ())

    async def check_health(self) -> None:
        """Raises what a read raises, and the driver's exception if the node is not ready."""
        self.backend.check_health(await self._run(self.backend.health_statement, ()))

    async def _run(self, sql: str, arguments: Sequence[Any]) -> Sequence[Sequence[Any]]:
        started = time.perf_counter()
        tracing, limit = self.tracing, self.backend.limits.statement
        fetch = self.backend.fetch if tracing is None else tracing.fetch
        slot = self._free.pop() if self._free else await self._wait_for_slot()
        try:
            if slot.raw is None:
                rows = await self._fetch_anew(slot, sql, arguments)
            else:
                try:
                    rows = await fetch(slot.raw, sql, arguments, limit)
                except Exception as error:
                    # the connection was lost, while idle or now: a read is safe to retry
                    kind = self.backend.classify_error(error)
                    if isinstance(error, TimeoutError) or kind not in _RECONNECT:
                        raise
                    self._count_retry(kind)
                    rows = await self._fetch_anew(slot, sql, arguments)
            self._answered = time.monotonic()
        except BaseException as error:
            self._renew_soon(slot)  # the driver's state is unknown
            if isinstance(error, Exception):
                remember_statement(error, self.backend, sql)
                if (problem := self._problem(error)) is not error:
                    if isinstance(problem, Unavailable):
                        self.refused[problem.reason] += 1
                    raise problem from error
            raise
        if self.hosts.several and slot.address is not None and not self.hosts.is_best(slot.address):
            self._renew_soon(slot)  # a server that comes before this one works again
        else:
            self._release(slot)
        self.durations.observe(time.perf_counter() - started)
        return rows

    async def _fetch_anew(self, slot: _Slot, sql: str, arguments: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """Run the statement on a new connection, and on another one as long as the database has just answered others."""
        limits, tracing = self.backend.limits, self.tracing
        fetch = self.backend.fetch if tracing is None else tracing.fetch
        until = self._answered + limits.failover
        once_more = slot.raw is None  # a connection that is lost while it is new may have been one of many
        while True:
            await self._close(slot)
            opened = False
            try:
                await self._open_traced(slot)
                opened = True
                return await fetch(slot.raw, sql, arguments, limits.statement)
            except Exception as error:
                kind = self.backend.classify_error(error)
                if isinstance(error, TimeoutError) or kind not in WORTH_WAITING_FOR:
                    raise
                pause = random.uniform(*_PAUSE)
                if opened and once_more:
                    once_more, pause = False, 0.0
                elif time.monotonic() + pause > until:
                    raise
                self._count_retry(kind)
            await asyncio.sleep(pause)

    def _count_retry(self, kind: ErrorKind) -> None:
        self.retries[kind.name.lower()] += 1
        if self.tracing is not None:
            self.tracing.retried(kind)

    async def _wait_for_slot(self) -> _Slot:
        seconds = self.backend.limits.acquire
        try:
            if self.tracing is None:
                return await self._acquire(seconds)
            with self.tracing.step("wait for a connection"):
                return await self._acquire(seconds)
        except Unavailable as error:
            self.refused[error.reason] += 1
            raise

    async def _open_traced(self, slot: _Slot) -> None:
        if self.tracing is None:
            await self._open(slot)
        else:
            with self.tracing.step("connect"):
                await self._open(slot)

    async def _acquire(self, seconds: float | None) -> _Slot:
        """Acquire the next free slot, in FIFO order. Raises Unavailable after `seconds`; None: no timeout."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[_Slot] = loop.create_future()
        self._waiting.append(turn)
        timeout_handle = loop.call_later(seconds, _give_up, turn) if seconds is not None else None
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._release(turn.result())  # acquired at the same moment
            raise
        finally:
            if timeout_handle is not None:
                timeout_handle.cancel()

    def _release(self, slot: _Slot) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(slot)
                return
        self._free.append(slot)

    def _problem(self, error: Exception) -> Exception:
        if isinstance(error, TimeoutError):
            return Unavailable(_TOO_LONG, reason="timeout")
        kind = self.backend.classify_error(error)
        if kind is ErrorKind.VALUE:
            return BadValue("a parameter", "does not fit its column")
        if kind in (ErrorKind.OTHER, ErrorKind.READ_ONLY):
            return error
        return Unavailable(_SENTENCES.get(kind, "The database does not answer."), reason=kind.name.lower())

    async def _open(self, slot: _Slot) -> None:
        # `databases` keeps one connection per task: a new task gives the slot its own connection
        async def enter() -> None:
            refusals = Refusals(self.backend, patient=True)
            while True:
                try:
                    await self._open_first(slot)
                    return refusals.end(None)
                except Exception as error:
                    if (pause := refusals.pause_after(error)) is None:
                        raise
                await asyncio.sleep(pause)

        slot.opening = asyncio.ensure_future(enter())
        await asyncio.shield(slot.opening)  # a cancellation must not leave a half-open connection

    async def _open_first(self, slot: _Slot) -> None:
        """Open a connection to the first server that can be used."""
        passed: list[Exception] = []
        for address in self.hosts.in_order():
            try:
                await self._open_at(slot, address)
            except Exception as error:
                if not self.backend.passes_over(address, self.hosts, error):
                    raise
                passed.append(error)
                if self.hosts.several:
                    await self._close(slot)
            else:
                self.hosts.works(address)
                slot.address = address
                return
        raise self.backend.most_promising(passed)

    async def _open_at(self, slot: _Slot, address: Address) -> None:
        seconds = self.hosts.timeout(self.backend.limits.connect)
        async with asyncio.timeout(seconds):
            database = await self._database_of(self.backend.settings, address)
            slot.connection = await database.connection().__aenter__()
        slot.raw = slot.connection.raw_connection
        async with asyncio.timeout(seconds):
            await self.backend.init_connection(slot.raw)
        if self.hosts.several:
            asking, rows = self.backend.ask_usable(writes=self.hosts.writes), None
            with contextlib.suppress(StopIteration):
                while True:
                    sql = next(asking) if rows is None else asking.send(rows)
                    rows = await self.backend.fetch(slot.raw, sql, (), seconds)

    async def _database_of(self, settings: Settings, address: Address) -> Database:
        """The `databases` object of a server, with the password of these settings."""
        async with self._replacing:
            if settings is not self._settings:
                self._replaced += self._databases.values()
                self._databases, self._settings = {}, settings
            if address not in self._databases:
                new = Database(self.backend.read_url(address), **self.backend.read_options())
                await new.connect()
                self._databases[address] = new
            return self._databases[address]

    def _renew_soon(self, slot: _Slot) -> None:
        """Give the slot a new connection, in the background, and release it."""
        task = asyncio.ensure_future(self._renew(slot))
        self._renewing.add(task)
        task.add_done_callback(self._renewing.discard)

    async def _renew(self, slot: _Slot) -> None:
        try:
            if slot.opening is not None:
                await asyncio.wait([slot.opening])
            await self._close(slot)
        finally:
            self._release(_Slot())

    async def _close(self, slot: _Slot) -> None:
        if slot.connection is not None:
            try:
                async with asyncio.timeout(self.backend.limits.connect):
                    await self.backend.terminate(slot.raw)
            except Exception as error:
                logger.warning("a read connection did not close cleanly: %s", describe(error))
            try:
                async with asyncio.timeout(self.backend.limits.connect):
                    await slot.connection.__aexit__()
            except Exception as error:
                logger.warning("a read connection was not released cleanly: %s", describe(error))
        slot.connection = slot.raw = slot.address = None


def _give_up(turn: "asyncio.Future[_Slot]") -> None:
    if not turn.done():
        detail = "Too many reads are waiting for a connection."
        turn.set_exception(Unavailable(detail, reason="pool_timeout"))
