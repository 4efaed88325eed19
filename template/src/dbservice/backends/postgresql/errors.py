"""What the exceptions of psycopg2 and asyncpg mean."""

import asyncpg
import psycopg2
from psycopg2 import errorcodes

from ...addresses import Address
from ..interface import ErrorKind

_ERROR_KINDS = {
    errorcodes.UNIQUE_VIOLATION: ErrorKind.DUPLICATE,
    errorcodes.FOREIGN_KEY_VIOLATION: ErrorKind.REFERENCE,
    errorcodes.RESTRICT_VIOLATION: ErrorKind.REFERENCE,
    errorcodes.NOT_NULL_VIOLATION: ErrorKind.REQUIRED,
    errorcodes.CHECK_VIOLATION: ErrorKind.VALUE,
    errorcodes.PROGRAM_LIMIT_EXCEEDED: ErrorKind.VALUE,  # longer than its index takes
    errorcodes.SERIALIZATION_FAILURE: ErrorKind.RETRY,
    errorcodes.DEADLOCK_DETECTED: ErrorKind.DEADLOCK,
    errorcodes.LOCK_NOT_AVAILABLE: ErrorKind.RETRY,
    errorcodes.READ_ONLY_SQL_TRANSACTION: ErrorKind.READ_ONLY,
    errorcodes.QUERY_CANCELED: ErrorKind.TIMEOUT,
    errorcodes.INVALID_PASSWORD: ErrorKind.DENIED,
    errorcodes.INVALID_AUTHORIZATION_SPECIFICATION: ErrorKind.DENIED,
    errorcodes.INVALID_CATALOG_NAME: ErrorKind.MISSING,
    errorcodes.UNDEFINED_TABLE: ErrorKind.NO_TABLE,
    errorcodes.INSUFFICIENT_PRIVILEGE: ErrorKind.NO_PRIVILEGE,
    errorcodes.CANNOT_CONNECT_NOW: ErrorKind.STARTING,
    errorcodes.TOO_MANY_CONNECTIONS: ErrorKind.NO_SLOTS,
    errorcodes.DISK_FULL: ErrorKind.DISK_FULL,
    errorcodes.WITH_CHECK_OPTION_VIOLATION: ErrorKind.VALUE,
    errorcodes.ADMIN_SHUTDOWN: ErrorKind.LOST,
    errorcodes.CRASH_SHUTDOWN: ErrorKind.LOST,
    errorcodes.IDLE_SESSION_TIMEOUT: ErrorKind.LOST,
    errorcodes.IDLE_IN_TRANSACTION_SESSION_TIMEOUT: ErrorKind.LOST,
}

# PgBouncer has one code for most of what it says, and says it in English only
_PGBOUNCER = {
    "SASL authentication failed": ErrorKind.DENIED,
    "password authentication failed": ErrorKind.DENIED,
    "no such user": ErrorKind.DENIED,
    "no such database": ErrorKind.MISSING,
    "no more connections allowed": ErrorKind.NO_SLOTS,
}


class ConnectError(psycopg2.OperationalError):
    """A connection attempt of psycopg2 failed: it has libpq's text, in the language of the server, and no SQLSTATE."""

    address: Address | None = None
    """The server."""


class StandbyError(psycopg2.OperationalError):
    """The server takes no writes."""

    sqlstate = errorcodes.READ_ONLY_SQL_TRANSACTION


class StatementPoolingError(psycopg2.OperationalError):
    """The pooler takes no transactions."""


def classify_error(error: BaseException) -> ErrorKind:
    """What a driver's exception means."""
    if isinstance(error, StatementPoolingError):
        return ErrorKind.STATEMENT_POOLING
    if code := sqlstate(error):
        return _by_sqlstate(code, error)
    if isinstance(error, ConnectError):
        # these are libpq's own, not the server's
        tls = any(words in str(error) for words in ("certificate", "server does not support SSL"))
        return ErrorKind.OTHER if tls else ErrorKind.STARTING
    lost = (
        OSError,
        psycopg2.OperationalError,
        psycopg2.InterfaceError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
    )
    return ErrorKind.LOST if isinstance(error, lost) else ErrorKind.OTHER


def sqlstate(error: BaseException) -> str:
    """The server's code for the error; empty when the error is not the server's, or the driver leaves it out."""
    return getattr(error, "pgcode", None) or getattr(error, "sqlstate", None) or ""


def _by_sqlstate(code: str, error: BaseException) -> ErrorKind:
    if code == errorcodes.INSUFFICIENT_PRIVILEGE and _is_row_security(error):
        return ErrorKind.NOT_ITS_ROW
    if code in _ERROR_KINDS:
        return _ERROR_KINDS[code]
    if code == errorcodes.PROTOCOL_VIOLATION:
        said = str(error.args[0]) if error.args else ""
        return next((kind for words, kind in _PGBOUNCER.items() if said.startswith(words)), ErrorKind.LOST)
    by_class = {
        "08": ErrorKind.LOST,
        "22": ErrorKind.VALUE,
        "28": ErrorKind.DENIED,
        "53": ErrorKind.EXHAUSTED,
    }
    unknown = ErrorKind.LOST if _severity(error) in ("FATAL", "PANIC") else ErrorKind.OTHER
    return by_class.get(code[:2], unknown)


def _severity(error: BaseException) -> str | None:
    """ERROR, FATAL, PANIC: in English whatever language the server speaks. PgBouncer speaks no other."""
    if isinstance(error, psycopg2.Error):
        return error.diag.severity_nonlocalized or error.diag.severity
    return getattr(error, "severity_en", None) or getattr(error, "severity", None)


def _is_row_security(error: BaseException) -> bool:
    # by the function of the server, since its sentences are in its language
    return isinstance(error, psycopg2.Error) and error.diag.source_function == "ExecWithCheckOptions"


def error_details(error: BaseException) -> tuple[str, str]:
    """SQLSTATE and message, without DETAIL, HINT and the line of the statement."""
    if isinstance(error, psycopg2.Error) and error.diag.message_primary:
        return sqlstate(error), error.diag.message_primary
    if isinstance(error, asyncpg.PostgresError) and error.args:
        return sqlstate(error), str(error.args[0])
    return "", str(error)


def constraint_name(error: BaseException) -> str:
    """The constraint or column that `error` names; empty when it does not say."""
    diagnostics = getattr(error, "diag", None)
    return (diagnostics.constraint_name or diagnostics.column_name or "") if diagnostics else ""
