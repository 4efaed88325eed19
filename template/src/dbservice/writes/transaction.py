"""The transaction of a unit of work: its state, and what the exceptions of the driver mean to it."""

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import sqlalchemy as sa

from ..backends.interface import PASSED_OVER, Backend, ErrorKind
from ..errors import BadValue, Conflict, ServiceError, Unavailable
from ..schema import access_of

logger = logging.getLogger(__name__)


class Failure(NamedTuple):
    """The error after which a transaction takes no statement until a savepoint is rolled back to."""

    kind: ErrorKind
    driver_error: str
    """The name of the driver's exception."""
    make_problem: Callable[[], ServiceError] | None
    """Makes the exception for the unit of work; None where it is the driver's. No exception is kept, since its traceback
    would keep the unit's variables alive."""

    @property
    def is_retryable(self) -> bool:
        """Whether the whole unit of work may run again."""
        return self.kind in _RETRYABLE

    @property
    def is_disconnected(self) -> bool:
        """Whether another attempt needs a new connection."""
        return self.kind in _DISCONNECTED

    @property
    def may_be_taken_over(self) -> bool:
        """Whether the server may be gone, and another one about to take its place."""
        return self.kind in PASSED_OVER and self.kind is not ErrorKind.TIMEOUT

    @property
    def is_final(self) -> bool:
        """Whether the whole transaction was rolled back, savepoints included."""
        return self.is_disconnected or self.kind in (ErrorKind.RETRY, ErrorKind.DEADLOCK)

    def refusal(self) -> Exception:
        """What later statements and the commit raise."""
        problem = self.make_problem() if self.make_problem else None
        if problem and self.is_final:
            return problem
        return RuntimeError(
            "the unit of work went on after a statement had failed: nothing was stored. To go on after an error, run the "
            "statement in `with db.savepoint():` and catch the error outside of it. The error was: "
            + (problem.detail if problem else self.driver_error)
        )


class Transaction(threading.local):
    """The transaction of this thread."""

    running = False
    """Whether a unit of work runs."""
    begun = False
    """Whether it has sent a statement."""
    written = False
    """Whether it has sent an INSERT, UPDATE or DELETE while writes were failing."""
    failure: Failure | None = None
    """The error of a statement, even if the unit of work caught it."""
    savepoints = 0
    """How many this thread has set; their names are numbered."""

    def __init__(self) -> None:  # in each thread
        self.secrets: list[str] = []
        """Values of secret columns in the statement that is being written, to be sent ahead of it."""

    def check(self) -> None:
        """Raise unless the transaction takes another statement, or its commit."""
        if not self.running:
            raise RuntimeError("PyDAL runs inside a unit of work only: give the function to `writes.run`")
        if self.failure is not None:
            raise self.failure.refusal()

    def fail(self, backend: Backend, error: BaseException, table: sa.Table | None = None) -> Failure:
        """Remember that the driver raised `error`; `table` is that of a failed INSERT."""
        kind = backend.classify_error(error)
        self.failure = Failure(kind, type(error).__name__, _problem(backend, kind, error, table))
        return self.failure


_DISCONNECTED = {
    ErrorKind.LOST,
    ErrorKind.NOT_IN_CLUSTER,  # another node may be
    ErrorKind.READ_ONLY,  # a new connection may lead to the server that took over
    ErrorKind.STARTING,
    ErrorKind.NO_SLOTS,
    ErrorKind.DENIED,
    ErrorKind.MISSING,
}
_RETRYABLE = {
    ErrorKind.RETRY,
    ErrorKind.DEADLOCK,
    ErrorKind.LOST,
    ErrorKind.NOT_IN_CLUSTER,
    ErrorKind.READ_ONLY,
}
_UNAVAILABLE = {
    ErrorKind.RETRY: "The rows are in use by others; nothing was stored.",
    ErrorKind.DEADLOCK: "The rows are in use by others; nothing was stored.",
    ErrorKind.LOST: "The connection to the database was lost; nothing was stored.",
    ErrorKind.NOT_IN_CLUSTER: "The database takes no writes now; nothing was stored.",
    ErrorKind.READ_ONLY: "The database takes no writes now; nothing was stored.",
    ErrorKind.TIMEOUT: "The database took too long; nothing was stored.",
    ErrorKind.STARTING: "The database cannot be reached; nothing was stored.",
    ErrorKind.NO_SLOTS: "The database cannot be reached; nothing was stored.",
    ErrorKind.DENIED: "The database cannot be reached; nothing was stored.",
    ErrorKind.MISSING: "The database cannot be reached; nothing was stored.",
    ErrorKind.DISK_FULL: "The database's disk is full; nothing was stored.",
    ErrorKind.EXHAUSTED: "The database lacks memory or another resource; nothing was stored.",
    ErrorKind.NO_TABLE: "The database lacks a table that the service needs; nothing was stored.",
    ErrorKind.NO_PRIVILEGE: "The database refuses the service's account; nothing was stored.",
}


def _problem(
    backend: Backend, kind: ErrorKind, error: BaseException, table: sa.Table | None
) -> Callable[[], ServiceError] | None:
    if kind in _UNAVAILABLE:
        return partial(Unavailable, _UNAVAILABLE[kind], reason=kind.name.lower())
    name = backend.constraint_name(error)
    if kind is ErrorKind.REQUIRED and table is not None and name not in table.columns:
        logger.error(
            "the database requires a value for %s, which %s: %s, or give the column a default",
            f"the column {table.name}.{name}" if name else f"another column of {table.name}",
            *(
                ("access.py does not declare", "declare it")
                if access_of(table)
                else ("this version of the service does not know", "run a version that knows it")
            ),
        )
        return partial(
            Unavailable,
            "The database expects another version of the service; nothing was stored.",
            reason="schema",
        )
    where = f" ({name})" if name else ""
    match kind:
        case ErrorKind.DUPLICATE:
            return partial(Conflict, f"Another row already has this value{where}.")
        case ErrorKind.REFERENCE:
            return partial(
                Conflict, f"The referenced row does not exist, or this row is still referenced{where}."
            )
        case ErrorKind.NOT_ITS_ROW:
            return partial(BadValue, "the row", "would not be one of those that this service may write")
        case ErrorKind.VALUE | ErrorKind.REQUIRED:
            return partial(BadValue, name or "the column", "does not accept this value")
    return None
