"""What the exceptions of sqlite3 and aiosqlite mean."""

import sqlite3

from ..interface import ErrorKind


def classify_error(error: BaseException) -> ErrorKind:
    """What a driver's exception means."""
    code = getattr(error, "sqlite_errorcode", None)
    if code in (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY):
        return ErrorKind.DUPLICATE
    if code == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
        return ErrorKind.REFERENCE
    if code == sqlite3.SQLITE_CONSTRAINT_NOTNULL:
        return ErrorKind.REQUIRED
    if code is not None and code & 0xFF == sqlite3.SQLITE_CONSTRAINT:
        return ErrorKind.VALUE
    if code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return ErrorKind.RETRY
    if code is not None and code & 0xFF == sqlite3.SQLITE_READONLY:
        return ErrorKind.READ_ONLY
    if code == sqlite3.SQLITE_FULL:
        return ErrorKind.DISK_FULL
    if code == sqlite3.SQLITE_INTERRUPT:
        return ErrorKind.TIMEOUT
    # one code stands for most of what follows, and only the text tells it apart
    text = str(error)
    if "unable to open database file" in text:
        return ErrorKind.MISSING
    if text.startswith("no such table: "):
        return ErrorKind.NO_TABLE
    if "user-defined function raised exception" in text:
        return ErrorKind.VALUE
    closed = isinstance(error, ValueError) and "no active connection" in text
    return ErrorKind.LOST if closed else ErrorKind.OTHER


def error_details(error: BaseException) -> tuple[str, str]:
    """The name of SQLite's code and the message."""
    return getattr(error, "sqlite_errorname", ""), str(error)


def constraint_name(error: BaseException) -> str:
    """The constraint or column that `error` names; empty when it does not say."""
    _, _, columns = str(error).partition("constraint failed: ")
    return columns.partition(".")[2].partition(",")[0] if "." in columns else columns
