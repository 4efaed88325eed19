"""Which revision the database is at, and whether this code can work with it."""

from typing import Any

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext

from ..backends.interface import WORTH_WAITING_FOR, Backend, ErrorKind
from ..errors import StartupError
from .compatibility import Version, version_of
from .environment import Owner, connected, script_directory


class VersionTableLocked(StartupError):
    """The version table cannot be read while another session has locked it."""


def head(service: Owner) -> str | None:
    """The revision this code was written for; None when there are no revisions."""
    versions = service.migrations / "versions"
    if not versions.is_dir() or not any(versions.glob("*.py")):
        return None
    return script_directory(service).get_current_head()


def current(service: Owner, backend: Backend) -> str | None:
    """The revision that the database is at; None when it holds none of the service's tables."""
    with connected(service, backend) as connection:
        return _current(service, connection)


def read_current(service: Owner, connection: sa.Connection) -> Version:
    """What the version table says, over a connection for migrations."""
    if _current(service, connection) is None:
        return Version(None)
    row = connection.exec_driver_sql(history_statement(service)).one()
    connection.rollback()
    return version_of(row)


def checked_current(service: Owner, connection: sa.Connection, *, newer: bool = False) -> Version:
    """What the version table says. Raises StartupError when this code does not know the revision; with `newer`, only if it also
    cannot run on it."""
    found = read_current(service, connection)
    if not knows(service, found.revision):
        if sentence := describe_mismatch(service, found):
            raise StartupError(sentence)
        if not newer:
            raise StartupError(
                f"The database is at revision {found.revision}, which this code does not know and can run on: a newer version"
                " can lead it to another revision."
            )
    return found


def knows(service: Owner, revision: str | None) -> bool:
    """Whether this code has the file of a revision; of no revision, yes."""
    return revision is None or revision in {
        each.revision for each in script_directory(service).walk_revisions()
    }


def describe_mismatch(service: Owner, found: Version, *, started: bool = False) -> str:
    """Why this code cannot work with the database's revision, in a sentence; empty when it can.

    Older code can work with a newer revision if the version table says so. Where it says nothing, because an earlier release of
    the platform has migrated, a service that has `started` continues: a deployment migrates first, and the old version serves
    until the new one is ready."""
    wanted = head(service)
    if found.revision == wanted or wanted in found.compatible:
        return ""
    if found.revision is None:
        return f"The database has no tables of {service.name} yet: run `make migrate` first."
    if knows(service, found.revision):
        return f"The database is at revision {found.revision}, this code needs {wanted}: run `make migrate` first."
    if found.compatible:
        return (
            f"The database is at revision {found.revision}, on which only the versions from revision {found.compatible[-1]} on"
            f" can run, and this code is of {wanted}: deploy a newer version."
        )
    if started:
        return ""
    return f"The database is at revision {found.revision}, which this code does not know: deploy the code that it belongs to."


def read_version(service: Owner, backend: Backend, connection: Any) -> Version:
    """What the version table says, read over a DB-API connection in autocommit.

    Raises VersionTableLocked when another session locks it, StartupError when it cannot be read for another reason; what the
    driver raises when the server does not answer."""
    cursor = connection.cursor()
    try:
        cursor.execute(version_statement(service))
        cursor.execute(history_statement(service))
        row = cursor.fetchone()
    except Exception as error:
        kind = backend.classify_error(error)
        if kind in WORTH_WAITING_FOR:
            raise
        if kind in (ErrorKind.TIMEOUT, ErrorKind.RETRY):
            raise VersionTableLocked(
                f"The table {service.version_table} is locked, as while a migration runs: start again once it has ended."
            ) from error
        if kind is not ErrorKind.NO_TABLE:
            raise StartupError(_unreadable(service, backend, error)) from error
        if backend.schema_statement:
            cursor.execute(backend.schema_statement)
            if sentence := backend.describe_schema(cursor.fetchall()):
                raise StartupError(sentence) from error
        return Version(None)
    return version_of(row)


def version_statement(service: Owner) -> str:
    """SQL that reads the current revision."""
    return f"SELECT version_num FROM {service.version_table}"


def history_statement(service: Owner) -> str:
    """SQL that reads the row for `version_of`, which has the second column or not."""
    return f"SELECT * FROM {service.version_table}"


def _unreadable(service: Owner, backend: Backend, error: Exception) -> str:
    sentence = f"Cannot read the table {service.version_table}: "
    if backend.classify_error(error) is not ErrorKind.NO_PRIVILEGE:
        return sentence + backend.explain(error)
    return f"{sentence}the account {backend.settings.db_user} needs SELECT on it."


def _current(service: Owner, connection: sa.Connection) -> str | None:
    options = {"version_table": service.version_table}
    found = MigrationContext.configure(connection, opts=options).get_current_revision()
    connection.rollback()
    return found
