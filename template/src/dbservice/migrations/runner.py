"""Runs Alembic under the migration lock: retries after lock timeouts, checks the lock before each statement."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import event, exc

from ..backends.interface import UNCHECKED, Backend, ErrorKind
from ..errors import StartupError
from .cancellation import CancelToken
from .environment import Owner, alembic_config, connected, script_directory, single_line, startup_errors
from .locking import MigrationLock, acquire_lock

logger = logging.getLogger("alembic.runtime.migration")

_LONGEST_PAUSE = 8.0
"""Seconds between two attempts, which begin at 1."""

_UNKNOWN_HOLDERS = "the server does not tell this account which sessions use them"


class Migration:
    """A migration that holds the lock of its service and a connection."""

    def __init__(
        self,
        service: Owner,
        backend: Backend,
        connection: sa.Connection,
        lock: MigrationLock,
        token: CancelToken,
    ) -> None:
        self.connection = connection
        self._service, self._backend, self._lock, self._token = service, backend, lock, token
        self._statement_began = time.monotonic()

    def run(self, work: Callable[[Config], None]) -> None:
        """Run one of Alembic's commands. Raises StartupError."""
        script_directory(self._service)
        config = alembic_config(self._service)
        config.attributes["connection"] = self.connection
        try:
            with startup_errors(self._service), self._checked_statements():
                self._run_with_retries(lambda: work(config))
        except StartupError as error:
            if self._lock.lost:
                raise StartupError(self._lock.lost) from error
            if interrupted_journal(self._service, self.connection):
                raise StartupError(
                    f"{error} The statements before it stay executed: fix the cause and migrate again, which continues"
                    " there."
                ) from error.__cause__
            raise
        if journal := interrupted_journal(
            self._service, self.connection
        ):  # each completed revision drops it, so none has run
            logger.warning(
                "a revision was interrupted and its file does not exist any more: %s lists the statements that it"
                " executed",
                journal,
            )

    def _run_with_retries(self, work: Callable[[], None]) -> None:
        """After a lock timeout, let the sessions pass that have queued behind the statement, and try again."""
        timeout, pause = self._backend.settings.migrate_lock_timeout, 0.5
        deadline = None
        while True:
            try:
                return work()
            except exc.DBAPIError as error:
                kind = self._backend.classify_error(error.orig) if error.orig else ErrorKind.OTHER
                if kind not in (ErrorKind.RETRY, ErrorKind.DEADLOCK):
                    raise
                holders = self._lock_holders()
                self.connection.rollback()
                pause = min(2 * pause, _LONGEST_PAUSE)
                deadline = deadline or self._statement_began + timeout
                if time.monotonic() + pause > deadline:
                    raise StartupError(
                        f"The migration waited {timeout:g} seconds for tables that are in use, as by a long transaction:"
                        f" {holders or _UNKNOWN_HOLDERS}. Wait until they are free, or end these sessions, and migrate again"
                        f" ({single_line(error.orig)})."
                    ) from error
                logger.warning(
                    "lock timeout: the tables are in use, retrying in %g s%s",
                    pause,
                    holders and f" ({holders})",
                )
                self._token.sleep(pause)

    def _lock_holders(self) -> str:
        """Which sessions use the tables of the service, as far as the server tells the account; empty if it does not."""
        try:
            return self._backend.migrations.lock_holders([*self._service.tables.tables])
        except Exception:  # the account may not know, or there is no connection left
            return ""

    @contextmanager
    def _checked_statements(self) -> Iterator[None]:
        """Before each statement: the migration is not cancelled, and still holds the lock."""

        def before(_: Any, cursor: Any, __: Any, ___: Any, context: Any, ____: Any) -> None:
            if UNCHECKED.items() <= context.execution_options.items():
                return
            self._token.check()
            self._lock.check()
            self._statement_began = time.monotonic()
            self._token.statement_starts(partial(self._backend.migrations.cancel, cursor.connection))

        def after(*_: Any) -> None:
            self._token.statement_ends()

        listeners = {"before_cursor_execute": before, "after_cursor_execute": after, "handle_error": after}
        for name, listener in listeners.items():
            event.listen(self.connection.engine, name, listener)
        try:
            yield
        finally:
            for name, listener in listeners.items():
                event.remove(self.connection.engine, name, listener)


@contextmanager
def migration(service: Owner, backend: Backend, token: CancelToken | None) -> Iterator[Migration]:
    """Begin a migration: wait for the lock, connect. Raises StartupError."""
    token = token or CancelToken()
    try:
        with (
            acquire_lock(service.name, backend, token) as lock,
            connected(service, backend) as connection,
        ):
            yield Migration(service, backend, connection, lock, token)
    finally:
        token.migration_ends()


def has_journal(service: Owner, connection: sa.Connection) -> bool:
    """Whether a journal of a running or interrupted revision exists."""
    impl = _alembic(service, connection)
    found = hasattr(impl, "journal_table") and sa.inspect(connection).has_table(impl.journal_table)
    connection.rollback()
    return found


def interrupted_journal(service: Owner, connection: sa.Connection) -> str:
    """The journal of an interrupted revision, on an engine that cannot roll back DDL; empty when there is none."""
    impl = _alembic(service, connection)
    try:
        return str(impl.journal_table) if hasattr(impl, "is_interrupted") and impl.is_interrupted() else ""
    except exc.DBAPIError:  # the connection is lost
        return ""


def _alembic(service: Owner, connection: sa.Connection) -> Any:
    options = {"version_table": service.version_table}
    return MigrationContext.configure(connection, opts=options).impl
