"""The start: wait for a database that is not there yet, stop at once for one that will never answer."""

import asyncio
import logging
import time

from . import migrations
from .backends import Backend, ErrorKind
from .errors import StartupError
from .reads import ReadPool

logger = logging.getLogger(__name__)


def wait_for_database(backend: Backend) -> None:
    """Connect once, trying again `DB_MAX_RETRIES` times, `DB_RETRY_DELAY` seconds apart, while nobody answers.

    Raises StartupError with a sentence: at once for a wrong password, a missing database or what waiting cannot mend."""
    settings = backend.settings
    for left in range(settings.db_max_retries, -1, -1):
        try:
            backend.connect().close()
            return
        except Exception as error:
            _say_or_raise(backend, settings.target, error, left)
        time.sleep(settings.db_retry_delay)


async def start_reads(reads: ReadPool) -> None:
    """Start the reads; where they go to a replica, it is waited for as the database is. Raises StartupError."""
    backend, settings = reads.backend, reads.backend.settings
    for left in range(settings.db_max_retries, -1, -1):
        try:
            await reads.start()
            return
        except Exception as error:
            _say_or_raise(backend, settings.read_target, error, left)
        await asyncio.sleep(settings.db_retry_delay)


def _say_or_raise(backend: Backend, target: str, error: Exception, left: int) -> None:
    if backend.classify_error(error) not in (ErrorKind.STARTING, ErrorKind.LOST):
        raise StartupError(f"Cannot use {target}: {sentence(backend, error)}") from error
    if not left:
        tries = backend.settings.db_max_retries + 1
        raise StartupError(
            f"Nobody answers at {target} after {tries} attempts: {sentence(backend, error)}"
        ) from error
    logger.warning("waiting for %s, %d more attempts: %s", target, left, sentence(backend, error))


def checked_revision(service: migrations.Owner, backend: Backend) -> str | None:
    """The revision of the service's tables in the database. Raises StartupError unless the code was written for it."""
    if migrations.head(service) is None:
        return None
    connection = backend.connect()
    try:
        found = migrations.read_version(service, connection)
    finally:
        connection.close()
    if sentence := migrations.describe_mismatch(service, found):
        raise StartupError(sentence)
    return found


def sentence(backend: Backend, error: BaseException) -> str:
    """What a driver's exception says, in one line, with what to do. Drivers never put a password into it."""
    settings = backend.settings
    match backend.classify_error(error):
        case ErrorKind.DENIED:
            prefix = "MIGRATE_" if settings.db_user == settings.migrate_db_user else ""
            return (
                f"the account {settings.db_user} or its password is refused:"
                f" check {prefix}DB_USER and {prefix}DB_PASS."
            )
        case ErrorKind.MISSING if settings.db_type == "sqlite":
            return "the file cannot be opened or made: check DB_NAME."
        case ErrorKind.MISSING:
            return f"there is no database {settings.db_name} that {settings.db_user} may use: check DB_NAME."
        case ErrorKind.STARTING | ErrorKind.LOST:
            return f"{_words(error)}."
    return f"{_words(error)}."


def _words(error: BaseException) -> str:
    text = str(error.args[-1]) if error.args else type(error).__name__
    if isinstance(error.__cause__, OSError):  # aiomysql says nothing of it
        text = f"{text} ({error.__cause__})"
    return " ".join(text.split()).rstrip(".")
