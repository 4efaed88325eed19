"""One unit of work on its thread: begin, run, commit or roll back, and retry where that is safe."""

import inspect
import logging
import random
import time
from collections.abc import Callable
from typing import Any, Protocol

from ..backends.interface import ErrorKind
from ..errors import Unavailable
from .pydal import DAL

logger = logging.getLogger(__name__)


class Job(Protocol):
    """A submitted unit of work."""

    function: Callable[..., Any]
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    deadline: float | None
    abandoned: bool
    """Whether its client was told that the outcome is unknown."""


def run_unit(db: DAL, job: Job) -> Any:
    """Run the job's function as one unit of work, and return what it returns. Retry it, whatever it raised, when the
    database rolled its transaction back or the connection was lost, as long as another attempt can end in time."""
    attempt, deadlocks, reconnected = 1, 0, False
    first = began = time.monotonic()
    while True:
        lane = db.lane.enter(job.function, job.deadline) if db.lane.functions else None
        try:
            result = _attempt(db, job)
            db.answered = time.monotonic()
            return result
        except BaseException as error:
            failure, db._transaction.failure = db._transaction.failure, None  # the next attempt has none
            if failure is not None and failure.kind is ErrorKind.NO_PRIVILEGE:
                db.drop_connection()  # MySQL looks at some privileges only when a session begins
            limits, now = db._backend.limits, time.monotonic()
            if failure is None or job.abandoned or not isinstance(error, Exception):
                raise
            taking_over = failure.may_be_taken_over and now < db.answered + limits.failover
            # once: an idle connection may have been lost long before
            once = failure.is_retryable and not (failure.is_disconnected and reconnected)
            if attempt >= limits.attempts or not (once or taking_over):
                raise
            if not failure.is_disconnected:
                pause = random.uniform(0, min(_LONGEST_PAUSE, 0.01 * 2**attempt))
            else:
                pause = random.uniform(*_RECONNECTING) if reconnected or not failure.is_retryable else 0.0
            reconnected = failure.is_disconnected
            expected = now - began  # what the next attempt takes
            if failure.kind is ErrorKind.DEADLOCK:
                deadlocks += 1
                expected = min(expected, _DEADLOCK)  # much of it was the wait for others in the same knot
                db.lane.add(job.function, now - first, deadlocks)
            if job.deadline is not None and now + pause + expected > job.deadline:
                raise  # it would be given up half-way, and its outcome be unknown
        finally:
            if lane is not None:
                lane.release()
        db._on_retry(failure.kind)
        logger.info("retrying a unit of work: %s", failure.kind.value)
        time.sleep(pause)
        attempt, began = attempt + 1, time.monotonic()


def _attempt(db: DAL, job: Job) -> Any:
    arguments, keywords = job.arguments
    db.begin_unit()
    try:
        result = job.function(db, *arguments, **keywords)
        if inspect.isawaitable(result) or inspect.isgenerator(result):
            getattr(result, "close", int)()
            raise TypeError("a unit of work is a plain function: nothing of this one has run")
        if job.abandoned:  # its client has an answer, and was told to look before it retries
            raise Unavailable("The unit of work took too long; nothing was stored.")
        db.commit_unit()
    except BaseException as error:
        db.roll_back_unit()
        if isinstance(error, StopIteration):  # a future does not accept it
            raise RuntimeError("the unit of work raised StopIteration") from error
        raise
    return result


_DEADLOCK = 2.0
"""Seconds that an attempt takes if it ends in a deadlock: PostgreSQL finds one after a second."""
_RECONNECTING = (0.1, 0.4)
"""Seconds between two attempts while a proxy or a standby takes over, at random."""
_LONGEST_PAUSE = 1.0
"""The most seconds between two attempts."""
