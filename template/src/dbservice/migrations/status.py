"""Which revision the database is at, and whether this code can work with it."""

from typing import Any

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext

from ..backends.interface import WORTH_WAITING_FOR, Backend, ErrorKind
from ..errors import StartupError
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


def checked_current(service: Owner, connection: sa.Connection) -> str | None:
    """The revision that the database is at. Raises StartupError when this code does not know it."""
    found = _current(service, connection)
    if found and found not in {each.revision for each in script_directory(service).walk_revisions()}:
        raise StartupError(describe_mismatch(service, found))
    return found


def describe_mismatch(service: Owner, found: str | None, *, started: bool = False) -> str:
    """Why this code cannot work with the database's revision `found`, in a sentence; empty when it can.

    A service that has `started` continues at a newer revision: a deployment migrates first, and the old version serves
    until the new one is ready."""
    script = script_directory(service)
    wanted = script.get_current_head()
    if found == wanted:
        return ""
    if found is None:
        return f"The database has no tables of {service.name} yet: run `make migrate` first."
    if found in {revision.revision for revision in script.walk_revisions()}:
        return f"The database is at revision {found}, this code needs {wanted}: run `make migrate` first."
    if started:
        return ""
    return f"The database is at revision {found}, which this code does not know: deploy the code that it belongs to."


def read_version(service: Owner, backend: Backend, connection: Any) -> str | None:
    """The revision in the version table, read over a DB-API connection in autocommit; None when there is no such table or
    no row.

    Raises VersionTableLocked when another session locks it, StartupError when it cannot be read for another reason; what the
    driver raises when the server does not answer."""
    cursor = connection.cursor()
    try:
        cursor.execute(version_statement(service))
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
        return None
    return str(row[0]) if row else None


def version_statement(service: Owner) -> str:
    """SQL that reads the version table."""
    return f"SELECT version_num FROM {service.version_table}"


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
