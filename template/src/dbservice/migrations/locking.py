"""The migration lock: one migration of a service at a time, and none that goes on after its lock was lost."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ..backends.interface import Backend, Lock
from ..errors import StartupError
from .cancellation import CancelToken

CHECK_INTERVAL = 5.0
"""Seconds between two checks during a long statement. They also keep the lock's connection in use, which a proxy may close."""


class MigrationLock:
    """The lock of a running migration. Thread-safe."""

    def __init__(self, lock: Lock, service_name: str) -> None:
        self._lock, self._service_name = lock, service_name
        self._mutex = threading.Lock()
        self.lost = ""
        """A sentence, once a check has found that the lock is not held any more."""

    def check(self) -> None:
        """Raise StartupError once the lock is not held any more."""
        with self._mutex:
            if not self.lost and not self._is_held():
                self.lost = (
                    f"The migration lock of {self._service_name} was lost, because its connection ended or its file was"
                    " removed: another migration may have started. Run the migration again."
                )
        if self.lost:
            raise StartupError(self.lost)

    @contextmanager
    def checked_regularly(self, token: CancelToken) -> Iterator[None]:
        """Check the lock from another thread, which cancels the migration when the lock is lost."""
        released = threading.Event()

        def check_until_released() -> None:
            while not released.wait(CHECK_INTERVAL):
                try:
                    self.check()
                except StartupError:
                    token.cancel()
                    return

        thread = threading.Thread(target=check_until_released, name="check migration lock", daemon=True)
        thread.start()
        try:
            yield
        finally:
            released.set()
            thread.join(CHECK_INTERVAL)

    def _is_held(self) -> bool:
        try:
            return self._lock.is_held()
        except Exception:  # any error of the driver: without its connection the lock is gone
            return False


@contextmanager
def acquire_lock(service_name: str, backend: Backend, token: CancelToken) -> Iterator[MigrationLock]:
    """Hold the migration lock of a service. Raises StartupError when MIGRATE_LOCK_TIMEOUT seconds were not enough."""
    timeout = backend.settings.migrate_lock_timeout
    with ExitStack() as stack:
        try:
            acquired = stack.enter_context(
                backend.migrations.lock(f"migrate {service_name}", timeout, sleep=token.sleep)
            )
        except TimeoutError:
            raise StartupError(
                f"Another migration of {service_name} has held the lock for {timeout:g} seconds: wait until it has ended, or"
                " set MIGRATE_LOCK_TIMEOUT to wait longer."
            ) from None
        lock = MigrationLock(acquired, service_name)
        with lock.checked_regularly(token):
            yield lock
