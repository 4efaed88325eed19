"""The start: wait for a database that is not there yet, stop at once for one that will never answer."""

import asyncio
import logging
import time

from . import migrations
from .engines import Engine, Fault
from .errors import StartupError
from .reads import ReadPool

logger = logging.getLogger(__name__)


def wait_for_database(engine: Engine) -> None:
    """Connect once, trying again `DB_MAX_RETRIES` times, `DB_RETRY_DELAY` seconds apart, while nobody answers.

    Raises StartupError with a sentence: at once for a wrong password, a missing database or what waiting cannot mend."""
    settings = engine.settings
    for left in range(settings.db_max_retries, -1, -1):
        try:
            engine.connect().close()
            return
        except Exception as error:
            _say_or_raise(engine, settings.target, error, left)
        time.sleep(settings.db_retry_delay)


async def start_reads(reads: ReadPool) -> None:
    """Start the reads; where they go to a replica, it is waited for as the database is. Raises StartupError."""
    engine, settings = reads.engine, reads.engine.settings
    for left in range(settings.db_max_retries, -1, -1):
        try:
            await reads.start()
            return
        except Exception as error:
            _say_or_raise(engine, settings.read_target, error, left)
        await asyncio.sleep(settings.db_retry_delay)


def _say_or_raise(engine: Engine, target: str, error: Exception, left: int) -> None:
    if engine.fault(error) not in (Fault.STARTING, Fault.LOST):
        raise StartupError(f"Cannot use {target}: {sentence(engine, error)}") from error
    if not left:
        tries = engine.settings.db_max_retries + 1
        raise StartupError(
            f"Nobody answers at {target} after {tries} attempts: {sentence(engine, error)}"
        ) from error
    logger.warning("waiting for %s, %d more attempts: %s", target, left, sentence(engine, error))


def checked_revision(service: migrations.Owner, engine: Engine) -> str | None:
    """The revision of the service's tables in the database. Raises StartupError unless the code was written for it."""
    if migrations.expected(service) is None:
        return None
    connection = engine.connect()
    try:
        found = migrations.current(service, connection)
    finally:
        connection.close()
    if sentence := migrations.why_not(service, found):
        raise StartupError(sentence)
    return found


def sentence(engine: Engine, error: BaseException) -> str:
    """What a driver's exception says, in one line, with what to do. Drivers never put a password into it."""
    settings = engine.settings
    match engine.fault(error):
        case Fault.DENIED:
            prefix = "MIGRATE_" if settings.db_user == settings.migrate_db_user else ""
            return (
                f"the account {settings.db_user} or its password is refused:"
                f" check {prefix}DB_USER and {prefix}DB_PASS."
            )
        case Fault.MISSING if settings.db_type == "sqlite":
            return "the file cannot be opened or made: check DB_NAME."
        case Fault.MISSING:
            return f"there is no database {settings.db_name} that {settings.db_user} may use: check DB_NAME."
        case Fault.STARTING | Fault.LOST:
            return f"{_words(error)}."
    return f"{_words(error)}."


def _words(error: BaseException) -> str:
    text = str(error.args[-1]) if error.args else type(error).__name__
    if isinstance(error.__cause__, OSError):  # aiomysql says nothing of it
        text = f"{text} ({error.__cause__})"
    return " ".join(text.split()).rstrip(".")
