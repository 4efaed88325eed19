"""Runs Alembic under the migration lock: retries what met a lock, checks before each statement that it may go on."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.migration import MigrationContext

from ..backends.interface import UNCHECKED, Backend, ErrorKind
from ..errors import StartupError
from .cancellation import CancelToken
from .environment import Owner, alembic_config, connected, one_sentence, script_directory
from .locking import MigrationLock, acquire_lock

logger = logging.getLogger("alembic.runtime.migration")


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

    def run(self, work: Callable[[Config], None]) -> None:
        """Run one of Alembic's commands. Raises StartupError with a sentence."""
        script_directory(self._service)
        config = alembic_config(self._service)
        config.attributes["connection"] = self.connection
        try:
            with one_sentence(self._service), self._checked_statements():
                self._run_with_retries(lambda: work(config))
        except StartupError as error:
            if self._lock.lost:
                raise StartupError(self._lock.lost) from error
            if self._half_done():
                raise StartupError(
                    f"{error} What it did before stays done: mend the cause and migrate again, which goes on from there."
                ) from error.__cause__
            raise
        if self._half_done():  # the end of each revision forgets it, so that none has run
            logger.warning(
                "a revision stopped half-way and is not there any more: what it did stands in %s_half",
                self._service.version_table,
            )

    def _run_with_retries(self, work: Callable[[], None]) -> None:
        for left in reversed(range(self._backend.limits.attempts)):
            try:
                return work()
            except sa.exc.DBAPIError as error:
                kind = self._backend.classify_error(error.orig) if error.orig else ErrorKind.OTHER
                if not left or kind is not ErrorKind.RETRY:
                    raise
                self.connection.rollback()
                logger.warning("tried again: the tables are in use by others")
                self._token.sleep(1)

    @contextmanager
    def _checked_statements(self) -> Iterator[None]:
        """Before each statement: the migration is not cancelled, and still holds the lock."""

        def before(_: Any, cursor: Any, __: Any, ___: Any, context: Any, ____: Any) -> None:
            if UNCHECKED.items() <= context.execution_options.items():
                return
            self._token.check()
            self._lock.check()
            self._token.statement_starts(partial(self._backend.migrations.cancel, cursor.connection))

        def after(*_: Any) -> None:
            self._token.statement_ends()

        listeners = {"before_cursor_execute": before, "after_cursor_execute": after, "handle_error": after}
        for event, listener in listeners.items():
            sa.event.listen(self.connection.engine, event, listener)
        try:
            yield
        finally:
            for event, listener in listeners.items():
                sa.event.remove(self.connection.engine, event, listener)

    def _half_done(self) -> bool:
        """Whether a revision stopped half-way, on an engine that takes back no DDL."""
        options = {"version_table": self._service.version_table}
        impl = MigrationContext.configure(self.connection, opts=options).impl
        try:
            return hasattr(impl, "half_done") and impl.half_done()
        except sa.exc.DBAPIError:  # the connection is lost: nobody can say
            return False


@contextmanager
def migration(service: Owner, backend: Backend, token: CancelToken | None) -> Iterator[Migration]:
    """Begin a migration: wait for the lock, connect. Raises StartupError with a sentence."""
    token = token or CancelToken()
    try:
        with (
            acquire_lock(service.name, backend, token) as lock,
            connected(service, backend) as connection,
        ):
            yield Migration(service, backend, connection, lock, token)
    finally:
        token.migration_ends()
