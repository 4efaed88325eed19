"""The write pool: units of work on a bounded number of threads, each with a connection of its own.

A unit of work is a plain function of the DAL: it commits by returning and rolls back by raising. It is retried as a whole
when the database rolled it back (deadlock, Galera certification) or its connection was lost before COMMIT; never when the
outcome is unknown.

A unit waits for a thread for a short time only (`limits.write_queue`), and its own time limit (`limits.write`) begins when
it begins: no thread starts what it would have to give up half-way, so an overload costs the refused units only."""

import asyncio
import contextvars
import logging
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa

from ..backends.interface import Backend, ErrorKind
from ..correlation import NO_REQUEST
from ..errors import OutcomeUnknown, Unavailable
from ..histogram import Histogram
from ..redaction import describe, log_fields
from .pydal.dal import DAL
from .queue import JobQueue
from .unit import run_unit

if TYPE_CHECKING:
    from ..tracing import Tracing

P = ParamSpec("P")
T = TypeVar("T")
logger = logging.getLogger(__name__)


class _Job:
    """A submitted unit of work."""

    __slots__ = (
        "abandoned",
        "arguments",
        "context",
        "deadline",
        "function",
        "future",
        "lock",
        "loop",
        "thread",
        "wait_until",
    )

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        wait_until: float,
    ) -> None:
        self.function, self.arguments, self.wait_until = function, (arguments, keywords), wait_until
        self.deadline: float | None = None  # of its execution, from when a thread has taken it
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.context = contextvars.copy_context()
        self.lock = threading.Lock()
        self.thread: int | None = None
        self.abandoned = False


class WritePool:
    """Runs units of work on `tables`, at most `backend.writers` at a time. Routes take it as `writes: Writes`."""

    def __init__(self, backend: Backend, tables: Iterable[sa.Table]) -> None:
        self.backend = backend
        self.size = backend.writers
        self.db = DAL(backend, tables)
        self.in_flight = 0
        self.durations = Histogram()
        """Of all units of work that have begun, all attempts and the wait for a thread included."""
        self.refused: Counter[str] = Counter(
            dict.fromkeys(("queue_full", "queue_timeout", "timeout", "lost"), 0)
        )
        """How many units of work got Unavailable, by reason."""
        self.unknown: Counter[str] = Counter(connection_lost=0, write_timeout=0)
        """How many got OutcomeUnknown, by reason."""
        self.retries: Counter[str] = Counter(deadlock=0, retry=0, lost=0)
        """How many attempts were run again, by what had failed."""
        self._retries_lock = threading.Lock()
        self.db._on_retry = self._count_retry
        self._queue: JobQueue[_Job] = JobQueue()
        self._room = self.size * backend.limits.queue
        self._duration = 0.01
        self._threads: list[threading.Thread] = []
        self._stuck: set[_Job] = set()
        self._pending: dict[_Job, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = math.inf
        self._shortest = min(backend.limits.write, backend.limits.write_queue)
        self._second, self._refused_within = 0.0, 0

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
        self._queue.stop(len(threads))
        deadline = time.monotonic() + (self.backend.limits.drain if seconds is None else seconds)
        for thread in threads:
            await asyncio.to_thread(thread.join, max(0.0, deadline - time.monotonic()))
        if self._timer is not None:  # the next start may be in another event loop
            self._timer.cancel()
            self._timer, self._timer_due = None, math.inf

    async def run(self, function: Callable[Concatenate[DAL, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function(db, *args)` as one unit of work on a thread, and return what it returns.

        Raises what the function raises, which includes Conflict and BadValue for what the database refuses; Unavailable
        when nothing was stored because the database does not answer or is too busy; OutcomeUnknown when it may have been
        stored."""
        if not self.size:
            raise TypeError(
                "a service that only reads has no units of work: access.py declares no table to write"
            )
        if not self._threads:
            raise self._refusal("stopping", "The service is stopping; nothing was stored.")
        if len(self._stuck) >= self.size:
            raise self._refusal("stuck", f"{self._stuck_sentence}; nothing was stored.")
        waiting = self.in_flight - self.size
        if waiting >= self._room:
            self._displace_oldest()
        elif waiting * 2 < self._room:
            self._queue.newest_first = False
        now = time.monotonic()
        job = _Job(function, args, kwargs, now + self.backend.limits.write_queue)
        self.in_flight += 1
        self._pending[job] = None
        if now + self._shortest < self._timer_due:
            self._set_timer(job.loop, now + self._shortest)
        self._queue.put(job)
        try:
            result: T = await job.future
            return result
        except asyncio.CancelledError:
            if self._queue.withdraw(job):
                self.in_flight -= 1
            elif job.future.done() and not job.future.cancelled():
                job.future.exception()  # retrieved, or asyncio logs it
            raise
        finally:
            self._pending.pop(job, None)

    async def problem(self) -> str:
        """Why every unit of work fails now, in a sentence; empty when none is known to, or the service only reads."""
        if not self.size:
            return ""
        if len(self._stuck) >= self.size:
            return f"{self._stuck_sentence}."
        return await self.db.health.problem(self.run)

    @property
    def tracing(self) -> "Tracing | None":
        """What makes spans of units of work, if anything."""
        return self.db._tracing

    @property
    def waiting(self) -> int:
        """The number of units of work that wait for a thread."""
        return len(self._queue)

    @property
    def in_use(self) -> int:
        """The number of threads that have one."""
        return self.in_flight - len(self._queue)

    # --- limits

    def _displace_oldest(self) -> None:
        # not the newest, whose client is the most likely to be there when it has been served
        self._queue.newest_first = True
        job = self._queue.withdraw_oldest()
        if job is not None:
            self.in_flight -= 1
            if not job.future.done():
                detail = "Too many writes are waiting; nothing was stored."
                job.future.set_exception(self._refusal("queue_full", detail))

    def _set_timer(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        # one timer for all: one for each unit of work would cost as much as to queue it
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        seconds = max(0.01, due - time.monotonic())
        self._timer = loop.call_later(seconds, self._expire_jobs, loop, context=NO_REQUEST)

    def _expire_jobs(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer, self._timer_due = None, math.inf
        now = time.monotonic()
        jobs = [job for job in self._pending if not job.future.done()]
        next_due = min((self._expire(job, now) for job in jobs), default=math.inf)
        if next_due < math.inf:
            self._set_timer(loop, next_due)

    def _expire(self, job: _Job, now: float) -> float:
        """Give the job up if its time is over; returns when it may be."""
        if job.deadline is None:
            if job.wait_until > now:
                return min(job.wait_until, now + self.backend.limits.write)  # if a thread takes it now
            if not self._queue.withdraw(job):  # a thread has taken it at this moment
                return now + self.backend.limits.write
            self.in_flight -= 1
            detail = "The write waited too long for a free thread; nothing was stored."
            job.future.set_exception(self._refusal("queue_timeout", detail))
        elif job.deadline > now:
            return job.deadline
        else:
            self._abandon(job)
            self.unknown["write_timeout"] += 1
            detail = "The write did not end in time and may still be stored: check before retrying."
            job.future.set_exception(OutcomeUnknown(detail))
        return math.inf

    def _abandon(self, job: _Job) -> None:
        # a server that hangs must not block the thread: without its connection the unit fails, and is not retried
        with job.lock:
            job.abandoned = True
            if job.thread is not None:
                self.db.interrupt_connection(job.thread)
        job.context.copy().run(
            logger.warning,
            "a unit of work did not end within %g s: %s",
            self.backend.limits.write,
            getattr(job.function, "__qualname__", type(job.function).__name__),
        )
        job.loop.call_later(_END_OF_ABANDONED, self._check_end, job)

    def _check_end(self, job: _Job) -> None:
        if job.thread is not None:
            self._stuck.add(job)
        if len(self._stuck) >= self.size:
            logger.error(
                "%s: give what they wait for a timeout, and restart the service.", self._stuck_sentence
            )

    @property
    def _stuck_sentence(self) -> str:
        return f"All {self.size} write threads are busy with units of work that do not end"

    def _refusal(self, reason: str, detail: str) -> Unavailable:
        now = time.monotonic()
        if now - self._second > 1:
            self._second, self._refused_within = now, 0
        self._refused_within += 1
        self.refused[reason] += 1
        # anywhere between now and the time that those who were refused need: neither at once nor all at the same time
        needed = (max(0, self.in_flight - self.size) + self._refused_within) * self._duration / self.size
        seconds = random.randint(1, max(1, min(_LONGEST_RETRY, round(needed))))
        return Unavailable(detail, reason=reason, retry_after=seconds)

    def _finish(self, job: _Job, seconds: float, result: Any, error: BaseException | None) -> None:
        self.in_flight -= 1
        limits = self.backend.limits
        self._duration += 0.1 * (min(seconds, limits.write) - self._duration)
        expected = self.size * limits.write_queue / max(self._duration, 1e-6)
        self._room = int(min(self.size * limits.queue, max(self.size, expected)))
        self._stuck.discard(job)
        self.durations.observe(time.monotonic() - job.wait_until + limits.write_queue)
        if job.future.done():
            if error is not None:
                logger.warning(
                    "an abandoned unit of work failed: %s", describe(error), extra=log_fields(error)
                )
        elif error is not None:
            if isinstance(error, Unavailable):
                self.refused[error.reason] += 1
            elif isinstance(error, OutcomeUnknown):
                self.unknown["connection_lost"] += 1
            job.future.set_exception(error)
        else:
            job.future.set_result(result)

    # --- on the threads

    def _serve(self) -> None:
        while (job := self._queue.take()) is not None:
            started = time.monotonic()
            job.deadline = started + self.backend.limits.write
            job.thread = threading.get_ident()
            result, error = None, None
            try:
                result = job.context.run(
                    run_unit if self.db._tracing is None else self._run_traced, self.db, job
                )
            except BaseException as raised:
                error = raised
            with job.lock:
                job.thread = None
            try:
                seconds = time.monotonic() - started
                job.loop.call_soon_threadsafe(self._finish, job, seconds, result, error, context=job.context)
            except RuntimeError:
                logger.warning("a unit of work ended after its event loop was closed")
            del job, result, error
        self.db.drop_connection()

    def _run_traced(self, db: DAL, job: _Job) -> Any:
        assert db._tracing is not None
        waited = time.monotonic() - job.wait_until + self.backend.limits.write_queue
        return db._tracing.unit(partial(run_unit, db, job), job.function, waited)

    def _count_retry(self, kind: ErrorKind) -> None:
        with self._retries_lock:
            self.retries[kind.name.lower()] += 1
        if self.db._tracing is not None:
            self.db._tracing.retried(kind)


_LONGEST_RETRY = 30
"""The most seconds that Retry-After says."""
_END_OF_ABANDONED = 1.0
"""Seconds in which an abandoned unit of work ends, if the loss of its connection ends it."""
