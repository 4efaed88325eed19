"""The write pool: units of work on a bounded number of threads, each with a connection of its own.

A unit of work is a plain function of the DAL: it commits by returning and rolls back by raising. It is retried as a whole
when the database rolled it back (deadlock, Galera certification) or its connection was lost before COMMIT; never when the
outcome is unknown."""

import asyncio
import contextvars
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa

from ..backends.interface import Backend
from ..errors import OutcomeUnknown, Unavailable
from ..redaction import describe, log_fields
from .pydal.dal import DAL
from .unit import run_unit

P = ParamSpec("P")
T = TypeVar("T")
logger = logging.getLogger(__name__)


class _Job:
    """A submitted unit of work: run by the thread that claims it, unless a timeout or a cancellation claims it first."""

    __slots__ = (
        "abandoned",
        "arguments",
        "claimed",
        "context",
        "deadline",
        "function",
        "future",
        "lock",
        "loop",
        "thread",
    )

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        timeout: float,
    ) -> None:
        self.function, self.arguments = function, (arguments, keywords)
        self.loop = asyncio.get_running_loop()
        self.deadline = self.loop.time() + timeout
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.context = contextvars.copy_context()
        self.claimed = threading.Lock()
        self.lock = threading.Lock()
        self.thread: int | None = None
        self.abandoned = False

    def claim(self) -> bool:
        """Whether the caller is the first to claim the job."""
        return self.claimed.acquire(blocking=False)


class WritePool:
    """Runs units of work, at most `backend.writers` at a time. Routes take it as `writes: Writes`."""

    def __init__(self, backend: Backend, metadata: sa.MetaData) -> None:
        self.backend = backend
        self.size = backend.writers
        self.db = DAL(backend, metadata)
        self._limit = self.size * backend.limits.queue + self.size
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self.in_flight = 0
        self._waiting: dict[_Job, None] = {}  # in the order of their deadlines
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start the threads; each opens its connection with its first unit of work."""
        self._threads = [
            threading.Thread(target=self._serve, name=f"writes-{i}", daemon=True) for i in range(self.size)
        ]
        for thread in self._threads:
            thread.start()

    async def stop(self, seconds: float | None = None) -> None:
        """Finish the submitted units of work, then close the connections; wait for at most so many `seconds`, by
        default `limits.drain`."""
        threads, self._threads = self._threads, []
        for _ in threads:
            self._queue.put(None)
        deadline = time.monotonic() + (self.backend.limits.drain if seconds is None else seconds)
        for thread in threads:
            await asyncio.to_thread(thread.join, max(0.0, deadline - time.monotonic()))
        if self._timer is not None:  # the next start may be in another event loop
            self._timer.cancel()
            self._timer = None

    async def run(self, function: Callable[Concatenate[DAL, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function(db, *args)` as one unit of work on a thread, and return what it returns.

        Raises what the function raises, which includes Conflict and BadValue for what the database refuses; Unavailable
        when nothing was stored because the database does not answer or is too busy; OutcomeUnknown when it may have been
        stored."""
        if not self._threads:
            raise Unavailable("The service is stopping; nothing was stored.")
        if self.in_flight >= self._limit:
            raise Unavailable("Too many writes are waiting.")
        job = _Job(function, args, kwargs, self.backend.limits.write)
        self.in_flight += 1
        self._waiting[job] = None
        if self._timer is None:
            self._timer = job.loop.call_at(job.deadline, self._expire_jobs, job.loop)
        self._queue.put(job)
        try:
            result: T = await job.future
            return result
        except asyncio.CancelledError:
            if job.claim():
                self.in_flight -= 1
            elif job.future.done() and not job.future.cancelled():
                job.future.exception()  # retrieved, or asyncio logs it
            raise
        finally:
            self._waiting.pop(job, None)

    def _expire_jobs(self, loop: asyncio.AbstractEventLoop) -> None:
        # one timer for all: one for each unit of work would cost as much as to queue it
        self._timer = None
        now = loop.time()
        while (job := next(iter(self._waiting), None)) is not None:
            if job.deadline > now:
                self._timer = loop.call_at(job.deadline, self._expire_jobs, loop)
                return
            del self._waiting[job]
            self._expire(job)

    def _expire(self, job: _Job) -> None:
        if job.claim():
            self.in_flight -= 1
            job.future.set_exception(
                Unavailable("The write waited too long for a free thread; nothing was stored.")
            )
        elif not job.future.done():
            self._abandon(job)
            job.future.set_exception(
                OutcomeUnknown(
                    "The write did not end in time and may still be stored: check before retrying."
                )
            )

    def _abandon(self, job: _Job) -> None:
        # a server that hangs must not block the thread: without its connection the unit fails, and is not retried
        with job.lock:
            job.abandoned = True
            if job.thread is not None:
                self.db.interrupt_connection(job.thread)

    def _finish(self, job: _Job, result: Any, error: BaseException | None) -> None:
        self.in_flight -= 1
        if job.future.done():
            if error is not None:
                logger.warning(
                    "an abandoned unit of work failed: %s", describe(error), extra=log_fields(error)
                )
        elif error is not None:
            job.future.set_exception(error)
        else:
            job.future.set_result(result)

    # --- on the threads

    def _serve(self) -> None:
        while (job := self._queue.get()) is not None:
            if not job.claim():
                continue
            job.thread = threading.get_ident()
            result, error = None, None
            try:
                result = job.context.run(run_unit, self.db, job)
            except BaseException as raised:
                error = raised
            with job.lock:
                job.thread = None
            try:
                job.loop.call_soon_threadsafe(self._finish, job, result, error)
            except RuntimeError:
                logger.warning("a unit of work ended after its event loop was closed")
            del job, result, error
        self.db.drop_connection()
