"""One unit of work on its thread: begin, run, commit or roll back, and retry where that is safe."""

import inspect
import logging
import random
import time
from collections.abc import Callable
from typing import Any, Protocol

from ..backends.interface import ErrorKind
from ..errors import BadValue, Conflict, OutcomeUnknown, ServiceError, Unavailable
from .pydal import DAL

logger = logging.getLogger(__name__)


class Job(Protocol):
    """What a thread must know of the unit of work that it runs."""

    function: Callable[..., Any]
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    abandoned: bool


class RetryableError(Exception):
    """The unit of work may be run again; `problem` is what to raise if it is not."""

    def __init__(self, kind: ErrorKind, problem: ServiceError) -> None:
        super().__init__(kind.value)
        self.kind, self.problem = kind, problem


def run_unit(db: DAL, job: Job) -> Any:
    """Run the job's function as one unit of work, as often as that is safe, and return what it returns."""
    arguments, keywords = job.arguments
    attempt, lost = 1, False
    while True:
        try:
            return _attempt(db, job.function, arguments, keywords)
        except RetryableError as again:
            # a connection is given one second chance: it may have died long before, unused
            given_up = job.abandoned or (again.kind is ErrorKind.LOST and lost)
            if given_up or attempt >= db._backend.limits.attempts:
                raise again.problem from again.__cause__
            lost = again.kind is ErrorKind.LOST
            logger.info("unit of work tried again: %s", again.kind.value)
            if not lost:
                time.sleep(random.uniform(0, 0.01 * 2**attempt))
            attempt += 1


def _attempt(
    db: DAL, function: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> Any:
    db.begin_unit()
    try:
        result = function(db, *arguments, **keywords)
        if inspect.isawaitable(result) or inspect.isgenerator(result):
            getattr(result, "close", int)()
            raise TypeError("a unit of work is a plain function: nothing of this one has run")
    except BaseException as error:
        _roll_back(db)
        if (meaning := _translate_error(db, error)) is error:
            raise
        raise meaning from error
    try:
        db.end_unit("COMMIT")
    except BaseException as error:
        db.drop_connection()
        kind = db._backend.classify_error(error)
        if kind in (ErrorKind.LOST, ErrorKind.NOT_IN_CLUSTER, ErrorKind.TIMEOUT):
            raise OutcomeUnknown(
                "The connection was lost while storing; it may have been stored: look before trying again."
            ) from error
        if (meaning := _translate_error(db, error)) is error:
            raise
        raise meaning from error
    return result


def _roll_back(db: DAL) -> None:
    try:
        db.end_unit("ROLLBACK")
    except Exception:
        db.drop_connection()


def _translate_error(db: DAL, error: BaseException) -> BaseException:
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, StopIteration):  # which no future takes
        return RuntimeError("the unit of work raised StopIteration")
    kind = db._backend.classify_error(error)
    match kind:
        case ErrorKind.DUPLICATE:
            return Conflict(f"Another row has this value already{_where(db, error)}.")
        case ErrorKind.REFERENCE:
            return Conflict(
                f"A row that this one names does not exist, or is still named by others{_where(db, error)}."
            )
        case ErrorKind.VALUE:
            return BadValue(
                db._backend.constraint_name(error) or "a value", "is not one that the column takes"
            )
        case ErrorKind.RETRY:
            return RetryableError(kind, Unavailable("The rows are in use by others; nothing was stored."))
        case ErrorKind.LOST:
            db.drop_connection()
            return RetryableError(kind, Unavailable("The database went away; nothing was stored."))
        case (
            ErrorKind.READ_ONLY | ErrorKind.NOT_IN_CLUSTER
        ):  # a new connection may lead to the server that took over
            db.drop_connection()
            return RetryableError(
                ErrorKind.LOST, Unavailable("The database takes no writes now; nothing was stored.")
            )
        case ErrorKind.TIMEOUT:
            return Unavailable("The database took too long; nothing was stored.")
        case ErrorKind.STARTING | ErrorKind.NO_SLOTS | ErrorKind.DENIED | ErrorKind.MISSING:
            db.drop_connection()
            return Unavailable("The database cannot be reached; nothing was stored.")
    return error


def _where(db: DAL, error: BaseException) -> str:
    name = db._backend.constraint_name(error)
    return f" ({name})" if name else ""
