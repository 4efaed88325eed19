"""Startup: wait for a database that does not answer yet, stop at once where a retry cannot help."""

import asyncio
import logging
import time

from . import migrations
from .backends import WORTH_WAITING_FOR, Backend
from .errors import StartupError
from .reads import ReadPool

logger = logging.getLogger(__name__)


def wait_for_database(backend: Backend) -> None:
    """Connect once. Retries `DB_MAX_RETRIES` times, `DB_RETRY_DELAY` seconds apart, while the server cannot be reached or
    has no free connection.

    Raises StartupError with a sentence: at once for a wrong password, a missing database or what else a retry cannot fix."""
    settings = backend.settings
    for left in range(settings.db_max_retries, -1, -1):
        try:
            _connect_once(backend)
            return
        except Exception as error:
            _warn_or_raise(backend, settings.target, backend.connect_error(error), left)
        time.sleep(settings.db_retry_delay)


def _connect_once(backend: Backend) -> None:
    connection = backend.connect()
    try:
        cursor = connection.cursor()
        cursor.execute(backend.health_statement)
        backend.check_health(cursor.fetchall())
    finally:
        connection.close()


async def start_reads(reads: ReadPool) -> None:
    """Start the reads. A replica that they go to is waited for as the database is. Raises StartupError."""
    backend, settings = reads.backend, reads.backend.settings
    for left in range(settings.db_max_retries, -1, -1):
        try:
            await reads.start()
            return
        except Exception as error:
            _warn_or_raise(backend, settings.read_target, error, left)
        await asyncio.sleep(settings.db_retry_delay)


def _warn_or_raise(backend: Backend, target: str, error: Exception, left: int) -> None:
    sentence = backend.explain(error)
    if backend.classify_error(error) not in WORTH_WAITING_FOR:
        raise StartupError(f"Cannot use {target}: {sentence}") from error
    if not left:
        retries = backend.settings.db_max_retries
        after = f" after {retries + 1} attempts" if retries else ""
        raise StartupError(f"Cannot use {target}{after}: {sentence}") from error
    logger.warning("waiting for %s, %d more attempts: %s", target, left, sentence)


def checked_revision(service: migrations.Owner, backend: Backend) -> str | None:
    """The revision of the service's tables in the database. Raises StartupError unless the code was written for it."""
    if migrations.head(service) is None:
        return None
    connection = backend.connect()
    try:
        found = migrations.read_version(service, backend, connection)
    finally:
        connection.close()
    if sentence := migrations.describe_mismatch(service, found):
        raise StartupError(sentence)
    return found
