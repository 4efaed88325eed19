"""What a refused connection does: the password may be a new one by now, in the file of DB_PASS_FILE or in the server."""

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from .interface import Backend

T = TypeVar("T")
_PAUSE = 0.1


class Refusals:
    """The attempts at one connection. Make it before the first one; ask it after each that failed.

    A new password reaches the file and the server one after the other. A `patient` one waits for the second for
    `Limits.password` seconds, unless the last one did so in vain."""

    def __init__(self, backend: "Backend", *, patient: bool) -> None:
        self._backend, self._used = backend, backend.settings
        self._deadline = time.monotonic() + backend.limits.password
        self._patient = patient and not backend.refuses_password

    def pause_after(self, error: Exception) -> float | None:
        """Seconds until the next attempt, after one failed with `error`; None if there should be none."""
        from .interface import ErrorKind

        used, backend = self._used, self._backend
        if not used.password_may_change:
            return None
        if backend.settings is used:
            refused = backend.classify_error(backend.connect_error(error)) is ErrorKind.DENIED
            if refused and (new := used.with_new_password()):
                backend.settings = new  # other threads may have done so, with the same
            elif not refused and backend.settings is used:
                return None
        self._used = backend.settings
        if self._used is not used:
            return 0.0
        if self._patient and time.monotonic() < self._deadline:
            return _PAUSE
        backend.refuses_password = True
        return None

    def end(self, connection: T) -> T:
        """The connection, which the server has accepted."""
        self._backend.refuses_password = False
        return connection
