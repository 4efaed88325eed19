"""The migration lock: one migration of a service at a time, and none that goes on after its lock was lost."""

import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ..backends.interface import Backend, ErrorKind, Lock
from ..errors import StartupError
from .cancellation import CancelToken

logger = logging.getLogger(__name__)

CHECK_INTERVAL = 3.0
"""Seconds between two checks during a long statement. They also keep the lock's connection in use, which a proxy may close,
and renew the lock on a Galera cluster."""


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
                    f"The migration lock of {self._service_name} was lost, because its connection ended, its file was"
                    " removed or another migration took it over. Run the migration again."
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
    timeout, waiting = backend.settings.migrate_lock_timeout, False

    def wait(seconds: float) -> None:
        nonlocal waiting
        if not waiting:
            logger.info("waiting: another migration of %s holds the lock", service_name)
        waiting = True
        token.sleep(seconds)

    with ExitStack() as stack:
        try:
            acquired = stack.enter_context(backend.migrations.lock(service_name, timeout, sleep=wait))
        except TimeoutError as error:
            hint = f" If it hangs, end it: {error}." if str(error) else ""
            raise StartupError(
                f"Another migration of {service_name} has held the lock for {timeout:g} seconds: wait until it has ended, or"
                f" set MIGRATE_LOCK_TIMEOUT to wait longer.{hint}"
            ) from None
        except StartupError:
            raise
        except Exception as error:
            if backend.classify_error(error) is ErrorKind.OTHER and not backend.error_details(error)[0]:
                raise  # a programming error
            raise StartupError(
                f"Cannot acquire the migration lock of {service_name}: {backend.explain(error)}"
            ) from error
        lock = MigrationLock(acquired, service_name)
        with lock.checked_regularly(token):
            yield lock
