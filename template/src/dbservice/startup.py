"""Startup: wait for a database that does not answer yet, stop at once where a retry cannot help.

Whatever waits for a driver runs in a daemon thread with a time limit: drivers wait in C, where a process hears no signal."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from . import migrations
from .backends import WORTH_WAITING_FOR, Backend, ErrorKind
from .errors import StartupError
from .reads import ReadPool

T = TypeVar("T")
logger = logging.getLogger(__name__)

_RETRIED = WORTH_WAITING_FOR | {ErrorKind.TIMEOUT, ErrorKind.RETRY}


def wait_for_database(backend: Backend, stop: threading.Event | None = None) -> None:
    """Connect once. Retries `DB_MAX_RETRIES` times, `DB_RETRY_DELAY` seconds apart, while the server cannot be reached, does
    not answer or has no free connection; until `stop` is set.

    Raises StartupError with a sentence: at once for a wrong password, a missing database or what else a retry cannot fix."""

    def check(connection: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(backend.health_statement)
        backend.check_health(cursor.fetchall())

    _with_retries(backend, check, stop)


def checked_revision(
    service: migrations.Owner, backend: Backend, stop: threading.Event | None = None
) -> str | None:
    """The revision of the service's tables in the database. Retries as `wait_for_database` does, also while the version table
    is locked. Raises StartupError unless the code was written for the revision or can run on it, a newer one."""
    if migrations.head(service) is None:
        return None
    found = _with_retries(
        backend, lambda connection: migrations.read_version(service, backend, connection), stop
    )
    if sentence := migrations.describe_mismatch(service, found):
        raise StartupError(sentence)
    if found.revision != (head := migrations.head(service)):
        logger.info(
            "the database is at revision %s, newer than this code of %s, which can run on it",
            found.revision,
            head,
        )
    return found.revision


async def start_reads(reads: ReadPool) -> None:
    """Start the reads. They go to the database for writes while no replica of DB_READ_HOST answers. Raises StartupError."""
    backend, settings = reads.backend, reads.backend.settings
    for left in range(settings.db_max_retries, -1, -1):
        try:
            await reads.start()
            return
        except Exception as error:
            _warn_or_raise(backend, settings.read_target, error, left)
        await asyncio.sleep(settings.db_retry_delay)


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """What `function` answers or raises. A cancellation does not wait for it, nor does the end of the process; `stop`, an
    argument that `in_thread` adds, is set then."""
    stop = threading.Event()
    try:
        return await asyncio.wrap_future(_run(lambda: function(*arguments, stop)))
    finally:
        stop.set()


def _with_retries(backend: Backend, work: Callable[[Any], T], stop: threading.Event | None) -> T:
    settings, stop = backend.settings, stop or threading.Event()
    for left in range(settings.db_max_retries, -1, -1):
        try:
            return with_connection(backend, work)
        except Exception as error:
            _warn_or_raise(backend, settings.target, error, left)
        if stop.wait(settings.db_retry_delay):
            break
    raise StartupError("The start was cancelled.")


def with_connection(backend: Backend, work: Callable[[Any], T]) -> T:
    """What `work` answers for a new connection. Raises what the driver raises, and TimeoutError after three times
    `limits.connect`: for connecting, for asking why that failed, and for a statement; several hosts have longer."""
    opened: list[Any] = []

    def run() -> T:
        try:
            connection = backend.connect(statement_timeout=backend.limits.connect)
        except Exception as error:
            reason = backend.connect_error(error)
            if reason is error:
                raise
            raise reason from error
        opened.append(connection)
        try:
            return work(connection)
        finally:
            connection.close()

    hosts, connect = backend.hosts, backend.limits.connect
    result, seconds = _run(run), 2 * len(hosts.in_order()) * hosts.timeout(connect) + connect
    deadline = time.monotonic() + seconds
    try:
        return result.result(seconds)
    except TimeoutError:
        if time.monotonic() < deadline:
            raise  # the driver's own
        raise TimeoutError(f"no answer within {seconds:g} seconds") from None
    finally:
        if not result.done():
            for connection in opened:
                with suppress(Exception):
                    backend.interrupt(connection)


def _run(work: Callable[[], T]) -> "Future[T]":
    result: Future[T] = Future()
    result.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=run, name="startup", daemon=True).start()
    return result


def _warn_or_raise(backend: Backend, target: str, error: Exception, left: int) -> None:
    retried, sentence = isinstance(error, migrations.VersionTableLocked), str(error)
    if isinstance(error, StartupError) and not (retried and left):
        raise error
    if not isinstance(error, StartupError):
        kind = backend.classify_error(error)
        retried = isinstance(error, TimeoutError) or kind in _RETRIED
        retried |= kind is ErrorKind.READ_ONLY and backend.hosts.several  # none of them is the primary yet
        sentence = backend.explain(error if error.args else TimeoutError("no answer in time"))
    if not retried:
        raise StartupError(f"Cannot use {target}: {sentence}") from error
    if not left:
        retries = backend.settings.db_max_retries
        after = f" after {retries + 1} attempts" if retries else ""
        raise StartupError(f"Cannot use {target}{after}: {sentence}") from error
    logger.warning("waiting for %s, %d more attempts: %s", target, left, sentence)
