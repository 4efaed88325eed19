"""Whether writes fail for a reason that stays: the disk is full, the account lost a privilege, the server is read-only."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..backends.interface import Backend, ErrorKind
from ..redaction import describe, failed_statement, log_fields

if TYPE_CHECKING:
    from .pydal.dal import DAL

logger = logging.getLogger(__name__)


class WriteHealth:
    """What the last writes say. The threads tell it; `/readyz` asks."""

    def __init__(self, backend: Backend) -> None:
        self.failing: _Failing | None = None
        """The last failure of this kind, if no write has succeeded since."""
        self._backend = backend
        self._probe: asyncio.Task[Any] | None = None

    def failed(self, kind: ErrorKind, error: BaseException) -> None:
        """The driver raised `error` in a unit of work."""
        if kind not in _SENTENCES:
            return
        last, found = self.failing, failed_statement(error)
        statement = found.statement.removeprefix(_EXPLAIN) if found else ""
        self.failing = _Failing(kind, statement, time.monotonic())
        if last is None or last.kind is not kind:
            advice = _ADVICE[kind].format(account=self._backend.settings.db_user)
            logger.error("writes fail: %s (%s)", advice, describe(error), extra=log_fields(error))

    def succeeded(self) -> None:
        """A write was stored."""
        if self.failing is not None:
            self.failing = None
            logger.info("writes succeed again")

    async def problem(self, run: Callable[..., Awaitable[Any]]) -> str:
        """Why writes fail, in a sentence; empty when they do not, or did not for `limits.unready` seconds. With `run`, which
        runs a unit of work, it asks the server whether a lost privilege has come back. Takes no longer than
        `limits.connect`."""
        failing = self.failing
        if failing is None:
            return ""
        if failing.kind is ErrorKind.NO_PRIVILEGE and failing.statement:
            if self._probe is None or self._probe.done():
                self._probe = asyncio.ensure_future(self._ask(run, failing))
            await asyncio.wait({self._probe}, timeout=self._backend.limits.connect)
            failing = self.failing
        if failing is None or failing.at + self._backend.limits.unready < time.monotonic():
            return ""
        return _SENTENCES[failing.kind]

    async def _ask(self, run: Callable[..., Awaitable[Any]], failing: "_Failing") -> None:
        try:
            await run(_explain, failing.statement)
        except Exception:
            return  # still refused, which `failed` knows by now; or nothing is known
        if self.failing is failing:
            self.succeeded()


class _Failing(NamedTuple):
    kind: ErrorKind
    statement: str
    """What failed, with `?` for each value."""
    at: float


_SENTENCES = {
    ErrorKind.DISK_FULL: "The database's disk is full.",
    ErrorKind.NO_PRIVILEGE: "The database refuses the service's account.",
    ErrorKind.READ_ONLY: "The database takes no writes now.",
}
_ADVICE = {
    ErrorKind.DISK_FULL: "the disk of the database is full: free space on it or enlarge it; the service needs no restart",
    ErrorKind.NO_PRIVILEGE: "the account {account} lacks a privilege that a unit of work needs: grant it again; the service"
    " needs no restart",
    ErrorKind.READ_ONLY: "the database is read-only: let DB_HOST lead to the server that takes writes, or end its read-only"
    " mode",
}
_EXPLAIN = "EXPLAIN "


def _explain(db: "DAL", statement: str) -> None:
    """A unit of work: EXPLAIN needs the privileges of the statement, and stores nothing. NULL stands for the values."""
    db._adapter.execute(_EXPLAIN + statement.replace("?", "NULL"))
    db._adapter.cursor.fetchall()
