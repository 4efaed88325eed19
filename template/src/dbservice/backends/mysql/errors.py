"""What the exceptions of PyMySQL and aiomysql mean."""

import re
import ssl

import pymysql
from pymysql.constants import CR, ER

from ..interface import ErrorKind

_ERROR_KINDS = {
    ER.DUP_ENTRY: ErrorKind.DUPLICATE,
    ER.NO_REFERENCED_ROW: ErrorKind.REFERENCE,
    ER.NO_REFERENCED_ROW_2: ErrorKind.REFERENCE,
    ER.ROW_IS_REFERENCED: ErrorKind.REFERENCE,
    ER.ROW_IS_REFERENCED_2: ErrorKind.REFERENCE,
    ER.BAD_NULL_ERROR: ErrorKind.REQUIRED,
    ER.NO_DEFAULT_FOR_FIELD: ErrorKind.REQUIRED,
    ER.DATA_TOO_LONG: ErrorKind.VALUE,
    ER.WARN_DATA_OUT_OF_RANGE: ErrorKind.VALUE,
    ER.WARN_DATA_TRUNCATED: ErrorKind.VALUE,
    ER.TRUNCATED_WRONG_VALUE: ErrorKind.VALUE,
    1690: ErrorKind.VALUE,  # DATA_OUT_OF_RANGE
    1366: ErrorKind.VALUE,  # TRUNCATED_WRONG_VALUE_FOR_FIELD
    3819: ErrorKind.VALUE,  # CHECK on MySQL
    4025: ErrorKind.VALUE,  # CHECK on MariaDB
    ER.LOCK_DEADLOCK: ErrorKind.DEADLOCK,  # also Galera's certification
    ER.LOCK_WAIT_TIMEOUT: ErrorKind.RETRY,
    1290: ErrorKind.READ_ONLY,  # the server runs with --read-only
    1792: ErrorKind.READ_ONLY,  # the transaction is
    1836: ErrorKind.READ_ONLY,  # the server is
    1317: ErrorKind.TIMEOUT,  # somebody ended the statement
    3024: ErrorKind.TIMEOUT,  # max_execution_time on MySQL
    1969: ErrorKind.TIMEOUT,  # max_statement_time on MariaDB
    ER.ACCESS_DENIED_ERROR: ErrorKind.DENIED,
    ER.DBACCESS_DENIED_ERROR: ErrorKind.MISSING,  # what an account that may not see every database is told
    1698: ErrorKind.DENIED,
    ER.BAD_DB_ERROR: ErrorKind.MISSING,
    ER.NO_SUCH_TABLE: ErrorKind.NO_TABLE,
    ER.TABLEACCESS_DENIED_ERROR: ErrorKind.NO_PRIVILEGE,
    ER.COLUMNACCESS_DENIED_ERROR: ErrorKind.NO_PRIVILEGE,
    1227: ErrorKind.NO_PRIVILEGE,  # a global one
    1370: ErrorKind.NO_PRIVILEGE,  # on a procedure
    1369: ErrorKind.VALUE,  # CHECK OPTION of a view
    1014: ErrorKind.DISK_FULL,
    ER.DISK_FULL: ErrorKind.DISK_FULL,
    ER.RECORD_FILE_FULL: ErrorKind.DISK_FULL,  # "the table is full"
    ER.OUTOFMEMORY: ErrorKind.EXHAUSTED,
    ER.OUT_OF_RESOURCES: ErrorKind.EXHAUSTED,
    ER.LOCK_TABLE_FULL: ErrorKind.EXHAUSTED,
    ER.CON_COUNT_ERROR: ErrorKind.NO_SLOTS,
    1203: ErrorKind.NO_SLOTS,  # the account has as many connections as it may have
    1226: ErrorKind.NO_SLOTS,
    1180: ErrorKind.LOST,  # an error in the middle of COMMIT: nobody can say whether it is stored
    ER.UNKNOWN_COM_ERROR: ErrorKind.NOT_IN_CLUSTER,  # what a Galera node without its cluster says to every statement
    1053: ErrorKind.LOST,  # server shutdown in progress
    1927: ErrorKind.LOST,  # connection was killed
    3159: ErrorKind.OTHER,  # the server wants TLS
    CR.CR_CONN_HOST_ERROR: ErrorKind.STARTING,
    CR.CR_CONNECTION_ERROR: ErrorKind.STARTING,
    CR.CR_SERVER_GONE_ERROR: ErrorKind.LOST,
    CR.CR_SERVER_LOST: ErrorKind.LOST,
}

_FILE_ERRORS = {3, ER.GET_ERRNO, ER.ERROR_ON_WRITE}
_NO_SPACE = re.compile(r"\b(?:errno:|error|Errcode:) 28\b")
"""The number of "no space left on device", in the texts of these."""


def classify_error(error: BaseException) -> ErrorKind:
    """What a driver's exception means."""
    code = error.args[0] if error.args and isinstance(error.args[0], int) else None
    if isinstance(error, pymysql.err.MySQLError):
        refused = isinstance(error.__cause__, ssl.SSLError) or "certificate" in str(error).lower()
        if code == CR.CR_CONN_HOST_ERROR and refused:
            return ErrorKind.OTHER
        if code in _FILE_ERRORS and _NO_SPACE.search(str(error)):
            return ErrorKind.DISK_FULL
        if code in _ERROR_KINDS:
            return _ERROR_KINDS[code]
        if isinstance(error, pymysql.err.DataError):
            return ErrorKind.VALUE
        return (
            ErrorKind.LOST if isinstance(error, pymysql.err.InterfaceError) or code == 0 else ErrorKind.OTHER
        )
    if isinstance(error, OSError | EOFError):
        return ErrorKind.LOST
    # aiomysql raises a bare RuntimeError when the connection is closed under it
    return ErrorKind.LOST if isinstance(error, RuntimeError) and "losed" in str(error) else ErrorKind.OTHER


def error_details(error: BaseException) -> tuple[str, str]:
    """Number and message."""
    if not isinstance(error, pymysql.err.MySQLError) or len(error.args) < 2:
        return "", str(error)
    reason = f" ({error.__cause__})" if isinstance(error.__cause__, OSError) else ""  # aiomysql leaves it out
    return str(error.args[0]), f"{error.args[1]}{reason}"


def constraint_name(error: BaseException) -> str:
    """The constraint or column that `error` names; empty when it does not say."""
    text = str(error.args[1]) if len(error.args) > 1 else ""
    # at its end: before that stands the value, which may say so too
    if found := re.search(r"for key '([^']*)'\Z", text):
        return found[1].rpartition(".")[2]
    for pattern in _NAMES:
        if found := re.search(pattern, text):
            return found[1]
    return ""


_NAMES = (
    r"CONSTRAINT `([^`]*)`",
    r"Check constraint '([^']*)' is violated",
    r"Column '([^']*)' cannot be null",
    r"Field '([^']*)' doesn't have a default value",
)
