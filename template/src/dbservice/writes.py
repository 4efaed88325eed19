"""The write path: units of work on a bounded set of threads, each with its own connection of the one DAL.

A unit of work is a plain function of the DAL: it commits by returning and rolls back by raising. It is run again as a
whole where the engine says that it was rolled back (deadlock, conflict between nodes) or the connection was gone before
anything could be committed; never when the outcome is unknown."""

import asyncio
import contextvars
import inspect
import logging
import queue
import random
import threading
import time
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa

from .engines.interface import Engine, Fault
from .errors import BadValue, Conflict, OutcomeUnknown, Problem, Unavailable
from .mirror import DAL

P = ParamSpec("P")
T = TypeVar("T")
logger = logging.getLogger(__name__)


class _Job:
    """One unit of work on its way: taken by a thread, or given up by who waits for it, whichever comes first."""

    __slots__ = ("abandoned", "arguments", "context", "function", "future", "lock", "loop", "taken", "thread")

    def __init__(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> None:
        self.function, self.arguments = function, (arguments, keywords)
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.context = contextvars.copy_context()
        self.taken = threading.Lock()
        self.lock = threading.Lock()
        self.thread: int | None = None
        self.abandoned = False

    def take(self) -> bool:
        """Whether the caller is the first to ask."""
        return self.taken.acquire(blocking=False)


class WritePool:
    """Runs units of work, at most `engine.writers` at a time. Used by routes as `writes: Writes`."""

    def __init__(self, engine: Engine, metadata: sa.MetaData) -> None:
        self.engine = engine
        self.size = engine.writers
        self.db = DAL(engine, metadata)
        self._limit = self.size * engine.limits.queue + self.size
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self.in_flight = 0

    def start(self) -> None:
        """Start the threads; each opens its connection with its first unit of work."""
        self._threads = [
            threading.Thread(target=self._serve, name=f"writes-{i}", daemon=True) for i in range(self.size)
        ]
        for thread in self._threads:
            thread.start()

    async def stop(self) -> None:
        """Finish what is in flight, then close every connection."""
        threads, self._threads = self._threads, []
        for _ in threads:
            self._queue.put(None)
        deadline = time.monotonic() + self.engine.limits.drain
        for thread in threads:
            await asyncio.to_thread(thread.join, max(0.0, deadline - time.monotonic()))

    async def run(self, function: Callable[Concatenate[DAL, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function(db, *args)` as one unit of work on a thread, and answer what it returns.

        Raises what it raises; Conflict, BadValue for what the database refuses; Unavailable when nothing was stored
        because the database is away or too busy; OutcomeUnknown when nobody can say."""
        if not self._threads:
            raise Unavailable("The service is stopping; nothing was stored.")
        if self.in_flight >= self._limit:
            raise Unavailable("Too many writes are waiting.")
        job = _Job(function, args, kwargs)
        self.in_flight += 1
        patience = job.loop.call_later(self.engine.limits.write, self._expire, job)
        self._queue.put(job)
        try:
            result: T = await job.future
            return result
        except asyncio.CancelledError:
            if job.take():
                self.in_flight -= 1
            elif job.future.done() and not job.future.cancelled():
                job.future.exception()  # seen: nobody waits for it any more
            raise
        finally:
            patience.cancel()

    def _expire(self, job: _Job) -> None:
        if job.take():
            self.in_flight -= 1
            job.future.set_exception(
                Unavailable("The write waited too long for its turn; nothing was stored.")
            )
        elif not job.future.done():
            self._abandon(job)
            job.future.set_exception(
                OutcomeUnknown("The write takes too long; it may still be stored: look before trying again.")
            )

    def _abandon(self, job: _Job) -> None:
        # a server that hangs must not keep the thread: without its connection the unit fails, and is not tried again
        with job.lock:
            job.abandoned = True
            if job.thread is not None:
                self.db.cut_connection(job.thread)

    def _finish(self, job: _Job, result: Any, error: BaseException | None) -> None:
        self.in_flight -= 1
        if job.future.done():
            if error is not None:
                logger.warning("a unit of work nobody waits for any more failed: %s", type(error).__name__)
        elif error is not None:
            job.future.set_exception(error)
        else:
            job.future.set_result(result)

    # --- on the threads

    def _serve(self) -> None:
        while (job := self._queue.get()) is not None:
            if not job.take():
                continue
            job.thread = threading.get_ident()
            result, error = None, None
            try:
                result = job.context.run(self._unit_of_work, job)
            except BaseException as raised:
                error = raised
            with job.lock:
                job.thread = None
            try:
                job.loop.call_soon_threadsafe(self._finish, job, result, error)
            except RuntimeError:
                logger.warning("a unit of work ended after its event loop")
            del job, result, error
        self.db.drop_connection()

    def _unit_of_work(self, job: _Job) -> Any:
        arguments, keywords = job.arguments
        attempt, lost = 1, False
        while True:
            try:
                return self._attempt(job.function, arguments, keywords)
            except _Again as again:
                # a connection is given one second chance: it may have died long before, unused
                given_up = job.abandoned or (again.fault is Fault.LOST and lost)
                if given_up or attempt >= self.engine.limits.attempts:
                    raise again.problem from again.__cause__
                lost = again.fault is Fault.LOST
                logger.info("unit of work tried again: %s", again.fault.value)
                if not lost:
                    time.sleep(random.uniform(0, 0.01 * 2**attempt))
                attempt += 1

    def _attempt(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Any:
        db = self.db
        db.begin_unit()
        try:
            result = function(db, *arguments, **keywords)
            if inspect.isawaitable(result) or inspect.isgenerator(result):
                getattr(result, "close", int)()
                raise TypeError("a unit of work is a plain function: nothing of this one has run")
        except BaseException as error:
            self._roll_back()
            if (meaning := self._meaning(error)) is error:
                raise
            raise meaning from error
        try:
            db.end_unit("COMMIT")
        except BaseException as error:
            db.drop_connection()
            fault = self.engine.fault(error)
            if fault in (Fault.LOST, Fault.TIMEOUT):
                raise OutcomeUnknown(
                    "The connection was lost while storing; it may have been stored: look before trying again."
                ) from error
            if (meaning := self._meaning(error)) is error:
                raise
            raise meaning from error
        return result

    def _roll_back(self) -> None:
        try:
            self.db.end_unit("ROLLBACK")
        except Exception:
            self.db.drop_connection()

    def _meaning(self, error: BaseException) -> BaseException:
        if isinstance(error, Problem):
            return error
        if isinstance(error, StopIteration):  # which no future takes
            return RuntimeError("the unit of work raised StopIteration")
        fault = self.engine.fault(error)
        match fault:
            case Fault.DUPLICATE:
                return Conflict(f"Another row has this value already{self._where(error)}.")
            case Fault.REFERENCE:
                return Conflict(
                    f"A row that this one names does not exist, or is still named by others{self._where(error)}."
                )
            case Fault.VALUE:
                return BadValue(
                    self.engine.columns_of(error) or "a value", "is not one that the column takes"
                )
            case Fault.RETRY:
                return _Again(fault, Unavailable("The rows are in use by others; nothing was stored."))
            case Fault.LOST:
                self.db.drop_connection()
                return _Again(fault, Unavailable("The database went away; nothing was stored."))
            case Fault.READ_ONLY:  # a new connection may lead to the server that took over
                self.db.drop_connection()
                return _Again(
                    Fault.LOST, Unavailable("The database takes no writes now; nothing was stored.")
                )
            case Fault.TIMEOUT:
                return Unavailable("The database took too long; nothing was stored.")
            case Fault.STARTING | Fault.DENIED | Fault.MISSING:
                self.db.drop_connection()
                return Unavailable("The database cannot be reached; nothing was stored.")
        return error

    def _where(self, error: BaseException) -> str:
        name = self.engine.columns_of(error)
        return f" ({name})" if name else ""


class _Again(Exception):
    """The unit of work may be run again; `problem` is what to say if it is not."""

    def __init__(self, fault: Fault, problem: Problem) -> None:
        super().__init__(fault.value)
        self.fault, self.problem = fault, problem
