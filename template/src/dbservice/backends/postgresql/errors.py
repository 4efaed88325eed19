"""What the exceptions of psycopg2 and asyncpg mean."""

import asyncpg
import psycopg2
from psycopg2 import errorcodes

from ..interface import ErrorKind

_ERROR_KINDS = {
    errorcodes.UNIQUE_VIOLATION: ErrorKind.DUPLICATE,
    errorcodes.FOREIGN_KEY_VIOLATION: ErrorKind.REFERENCE,
    errorcodes.RESTRICT_VIOLATION: ErrorKind.REFERENCE,
    errorcodes.NOT_NULL_VIOLATION: ErrorKind.REQUIRED,
    errorcodes.CHECK_VIOLATION: ErrorKind.VALUE,
    errorcodes.PROGRAM_LIMIT_EXCEEDED: ErrorKind.VALUE,  # longer than its index takes
    errorcodes.SERIALIZATION_FAILURE: ErrorKind.RETRY,
    errorcodes.DEADLOCK_DETECTED: ErrorKind.RETRY,
    errorcodes.LOCK_NOT_AVAILABLE: ErrorKind.RETRY,
    errorcodes.READ_ONLY_SQL_TRANSACTION: ErrorKind.READ_ONLY,
    errorcodes.QUERY_CANCELED: ErrorKind.TIMEOUT,
    errorcodes.INVALID_PASSWORD: ErrorKind.DENIED,
    errorcodes.INVALID_AUTHORIZATION_SPECIFICATION: ErrorKind.DENIED,
    errorcodes.INVALID_CATALOG_NAME: ErrorKind.MISSING,
    errorcodes.CANNOT_CONNECT_NOW: ErrorKind.STARTING,
    errorcodes.TOO_MANY_CONNECTIONS: ErrorKind.STARTING,
    errorcodes.ADMIN_SHUTDOWN: ErrorKind.LOST,
    errorcodes.CRASH_SHUTDOWN: ErrorKind.LOST,
    errorcodes.IDLE_SESSION_TIMEOUT: ErrorKind.LOST,
    errorcodes.IDLE_IN_TRANSACTION_SESSION_TIMEOUT: ErrorKind.LOST,
}

# psycopg2 gives no SQLSTATE for an error of the connection attempt: only libpq's text
_CONNECTING = (
    ("password authentication failed", ErrorKind.DENIED),
    ("no password supplied", ErrorKind.DENIED),
    ("no pg_hba.conf entry", ErrorKind.DENIED),
    ("role ", ErrorKind.DENIED),
    ("database ", ErrorKind.MISSING),
    ("server does not support SSL", ErrorKind.OTHER),
    ("certificate", ErrorKind.OTHER),
    ("root certificate file", ErrorKind.OTHER),
)


def classify_error(error: BaseException) -> ErrorKind:
    """What a driver's exception means."""
    code = getattr(error, "pgcode", None) or getattr(error, "sqlstate", None)
    if code in _ERROR_KINDS:
        return _ERROR_KINDS[code]
    if code:
        return {"08": ErrorKind.LOST, "22": ErrorKind.VALUE, "28": ErrorKind.DENIED}.get(
            code[:2], ErrorKind.OTHER
        )
    if isinstance(error, psycopg2.OperationalError):
        text = str(error)
        if "connection to server" in text or "could not" in text:
            for words, classify_error in _CONNECTING:
                if f"FATAL:  {words}" in text or (classify_error is ErrorKind.OTHER and words in text):
                    return classify_error
            if "the database system is" not in text and "FATAL" in text and "too many" not in text:
                return ErrorKind.DENIED
            return ErrorKind.STARTING
        return ErrorKind.LOST
    lost = OSError, psycopg2.InterfaceError, asyncpg.InterfaceError, asyncpg.InternalClientError
    if isinstance(error, lost):
        return ErrorKind.LOST
    return ErrorKind.OTHER


def constraint_name(error: BaseException) -> str:
    """The constraint or column that `error` names; empty when it does not say."""
    diagnostics = getattr(error, "diag", None)
    return (diagnostics.constraint_name or diagnostics.column_name or "") if diagnostics else ""
