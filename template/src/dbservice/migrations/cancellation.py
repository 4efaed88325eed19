"""Cancelling a migration from another thread: the statement that runs is cancelled in the server, and no other one begins."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

from ..errors import StartupError

T = TypeVar("T")

logger = logging.getLogger(__name__)

CANCEL_TIMEOUT = 1.5
"""Seconds that a signal leaves to a migration before the process ends anyway."""


class CancelToken:
    """Asks one migration to stop. Thread-safe."""

    def __init__(self) -> None:
        self._cancelled, self._ended = threading.Event(), threading.Event()
        self._statement: Callable[[], None] | None = None

    def cancel(self) -> None:
        """Begin to stop the migration; returns at once."""
        if not self._cancelled.is_set():
            self._cancelled.set()
            threading.Thread(target=self._cancel_statements, name="cancel migration", daemon=True).start()

    def check(self) -> None:
        """Raise StartupError once the migration is cancelled."""
        if self._cancelled.is_set():
            raise StartupError("The migration was cancelled.")

    def sleep(self, seconds: float) -> None:
        """Wait so many seconds. Raises StartupError at once when the migration is cancelled."""
        self._cancelled.wait(seconds)
        self.check()

    def statement_starts(self, cancel: Callable[[], None]) -> None:
        """The migration is about to wait for a statement, which `cancel` ends. Raises StartupError as `check` does."""
        self._statement = cancel
        self.check()

    def statement_ends(self) -> None:
        self._statement = None

    def migration_ends(self) -> None:
        """There is nothing to cancel any more."""
        self._ended.set()

    def _cancel_statements(self) -> None:
        # again and again: a request that comes before the statement has reached the server cancels nothing
        while not self._ended.is_set():
            if (cancel := self._statement) is not None:
                with suppress(Exception):  # the statement has ended by itself, or the server is gone
                    cancel()
            self._ended.wait(0.2)


def run_cancellable(work: Callable[[CancelToken], T]) -> T:
    """What `work` answers, which runs in a thread: the drivers that wait in C would keep a signal's handler from running.

    What the handler raises (SystemExit, KeyboardInterrupt) cancels the work and is raised when the work has ended, or after
    CANCEL_TIMEOUT seconds."""
    token, result = CancelToken(), Future[T]()

    def run() -> None:
        try:
            result.set_result(work(token))
        except BaseException as error:
            result.set_exception(error)

    thread = threading.Thread(target=run, name="migration", daemon=True)
    thread.start()
    try:
        return result.result()
    except (SystemExit, KeyboardInterrupt):
        if not result.done():
            token.cancel()
            thread.join(CANCEL_TIMEOUT)
            _log_end(result)
        raise


def _log_end(result: "Future[T]") -> None:
    if not result.done():
        logger.warning("the migration did not stop within %s s: its connections are closed", CANCEL_TIMEOUT)
    elif isinstance(error := result.exception(), StartupError):
        logger.warning("%s", error)
