"""Cancelling a migration from another thread: the statement that runs is cancelled in the server, and no other one begins."""

import threading
from collections.abc import Callable
from contextlib import suppress

from ..errors import StartupError


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
