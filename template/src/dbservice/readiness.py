"""Whether the service can work now, asked over connections of its own: reads that fill or block the pool do not make it
unready, and a check that fails drops its connection, so that the next one may reach a server that works.

Each connection is one more than `DB_POOL_SIZE`, held from the first check on: taken from the pool it would have to wait
there, or leave a small pool with nothing to read with."""

import asyncio
import logging
import time
from typing import Protocol

from . import migrations
from .accounts.commands import ask_privileges, lacking
from .accounts.declared import DeclaringService
from .backends import Backend, ErrorKind
from .errors import ServiceError
from .reads import ReadPool
from .settings import Settings

logger = logging.getLogger(__name__)

# for anybody who asks over HTTP, so without names; the log has the details
_SENTENCES = {
    ErrorKind.NOT_IN_CLUSTER: "The database node is not part of its cluster.",
    ErrorKind.NO_SLOTS: "The database has no free connection.",
    ErrorKind.DENIED: "The database refuses the service's account.",
    ErrorKind.MISSING: "The database refuses the service's account.",
    ErrorKind.NO_PRIVILEGE: "The database refuses the service's account.",
}
_NO_ANSWER = "The database does not answer."


class CheckedService(DeclaringService, migrations.Owner, Protocol):
    """What readiness must know of a service."""

    def backend(self, settings: Settings) -> Backend:
        """The backend for these settings."""
        ...


class Readiness:
    """Checks what the start has checked: each server answers, is part of its cluster, has the tables at `revision`, and lets
    the account use them."""

    def __init__(self, service: CheckedService, backend: Backend, revision: str | None) -> None:
        settings = backend.settings
        self._servers = [_Server(service, backend, revision)]
        if settings.has_replica:
            where = {"db_read_host": settings.db_host, "db_read_port": settings.db_port}
            writing = service.backend(settings.model_copy(update=where))
            self._servers.append(_Server(service, writing, revision))
        self._check: asyncio.Task[str] | None = None
        self.is_up = True
        """Whether the last check has found nothing."""

    async def problem(self) -> str:
        """Why the service cannot work now, in a sentence; empty when it can. Takes no longer than `limits.connect`, however
        many ask at once."""
        if self._check is None or self._check.done():
            self._check = asyncio.ensure_future(self._ask())
        return await asyncio.shield(self._check)

    async def stop(self) -> None:
        """Close the connections."""
        if self._check is not None:
            await asyncio.wait({self._check})
        await asyncio.gather(*(server.stop() for server in self._servers))

    async def _ask(self) -> str:
        problems = await asyncio.gather(*(server.problem() for server in self._servers))
        self.is_up = not any(problems)
        return next((problem for problem in problems if problem), "")


class _Server:
    """One server and the connection that asks it."""

    def __init__(self, service: CheckedService, backend: Backend, revision: str | None) -> None:
        self._service, self._backend, self._revision = service, backend, revision
        self._pool: ReadPool | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._last = ""
        self._ask_privileges = ask_privileges(service, backend)
        self._privileges_at = float("-inf")

    async def problem(self) -> str:
        """The same as of `Readiness`, for this server."""
        asking = asyncio.ensure_future(self._ask())
        done, _ = await asyncio.wait({asking}, timeout=self._backend.limits.connect)
        error = asking.exception() if done else TimeoutError()
        if error is None:
            sentence, details = asking.result()
        else:
            asking.cancel()
            sentence, details = self._describe(error)
        if sentence:
            self._drop(asking)
        if sentence != self._last:
            target = self._backend.settings.read_target
            level = logging.WARNING if sentence else logging.INFO
            logger.log(level, "%s: %s", target, f"not ready: {details or sentence}" if sentence else "ready")
        self._last = sentence
        return sentence

    async def stop(self) -> None:
        self._drop(None)
        if self._closing:
            await asyncio.wait(self._closing)

    async def _ask(self) -> tuple[str, str]:
        """Why the server cannot be used: for everybody, and for the log. Raises what the driver raises."""
        if self._pool is None:
            self._pool = ReadPool(self._backend, size=1)
            await self._pool.start()
        else:
            await self._pool.check_health()
        if details := await self._lacking():
            return _SENTENCES[ErrorKind.NO_PRIVILEGE], details
        if self._revision is None:
            return "", ""
        try:
            rows = await self._pool.fetch_raw(migrations.version_statement(self._service))
        except Exception as error:
            if self._backend.classify_error(error.__cause__ or error) is not ErrorKind.NO_TABLE:
                raise
            rows = []
            if self._backend.schema_statement:
                schema = await self._pool.fetch_raw(self._backend.schema_statement)
                if schema and (details := self._backend.describe_schema(schema)):
                    return _SENTENCES[ErrorKind.NO_PRIVILEGE], details
        if rows and rows[0][0] == self._revision:
            return "", ""
        rows = rows and await self._pool.fetch_raw(migrations.history_statement(self._service))
        found = migrations.version_of(rows[0] if rows else None)
        return await asyncio.to_thread(migrations.describe_mismatch, self._service, found, started=True), ""

    async def _lacking(self) -> str:
        """Which privileges the account lacks, for example after a table was dropped and made again, in a sentence."""
        now = time.monotonic()
        if self._ask_privileges is None or now < self._privileges_at + self._backend.limits.privileges:
            return ""
        assert self._pool is not None
        asking = self._ask_privileges()
        try:
            statement = next(asking)
            while True:
                statement = asking.send(await self._pool.fetch_raw(statement))
        except StopIteration as done:
            if done.value:
                return lacking(self._backend.settings.db_user, done.value)
        self._privileges_at = now
        return ""

    def _describe(self, error: BaseException) -> tuple[str, str]:
        if isinstance(error, ServiceError) and error.__cause__:
            error = error.__cause__
        if isinstance(error, TimeoutError):
            return _NO_ANSWER, f"no answer within {self._backend.limits.connect:g} seconds."
        kind = self._backend.classify_error(error)
        return _SENTENCES.get(kind, _NO_ANSWER), self._backend.explain(error)

    def _drop(self, asking: "asyncio.Future[tuple[str, str]] | None") -> None:
        """Close the connection, in the background: a server that hangs must not hold up the next check."""
        self._privileges_at = float("-inf")
        pool, self._pool = self._pool, None
        if pool is not None:
            closing = asyncio.ensure_future(_close(pool, asking))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)


async def _close(pool: ReadPool, asking: "asyncio.Future[tuple[str, str]] | None") -> None:
    if asking is not None:
        await asyncio.wait({asking})
    await pool.stop()
