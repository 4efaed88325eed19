"""Values of secret columns: parameters of a statement of their own, since the server logs the text of one that fails.

psycopg2 writes all values into the text. libpq, on whose connections it works, sends parameters apart from it: so the values
become a setting of the transaction, a JSON list, and the statement reads them from there."""

import ctypes
import json
from collections.abc import Sequence
from typing import Any

import psycopg2
from psycopg2 import _psycopg, errors

SETTING = "dbservice.secrets"


def send_secrets(connection: Any, texts: Sequence[str]) -> None:
    """Make `texts` the setting of psycopg2's `connection` until its transaction ends. Raises psycopg2.Error."""
    values = (ctypes.c_char_p * 1)(json.dumps(texts).encode())
    sql = f"SELECT set_config('{SETTING}', $1, true)".encode()
    result = _libpq.PQexecParams(connection.pgconn_ptr, sql, 1, None, values, None, None, 0)
    try:
        if _libpq.PQresultStatus(result) != _TUPLES_OK:
            code = _libpq.PQresultErrorField(result, _SQLSTATE)
            kind = (
                errors.lookup(code.decode()) if code else psycopg2.OperationalError
            )  # the connection is lost
            raise kind("a secret value could not be sent")
    finally:
        _libpq.PQclear(result)


def text_and_cast(literal: str, value: Any) -> tuple[str, str]:
    """The text of the SQL literal of `value`, and the type it is cast to; empty for a text."""
    if literal[0] != "'":
        return literal, {bool: "boolean", int: "bigint"}.get(type(value), "numeric")
    text, _, cast = literal[1:].rpartition("'")
    return text.replace("''", "'"), cast.removeprefix("::")


def secret_at(position: int, cast: str) -> str:
    """The SQL of a text that `send_secrets` has sent."""
    text = f"(current_setting('{SETTING}')::json->>{position})"
    return f"{text}::{cast}" if cast else text


_TUPLES_OK = 2
_SQLSTATE = ord("C")
_libpq: Any = ctypes.CDLL(_psycopg.__file__)  # finds the functions in libpq, with which psycopg2 is linked
_libpq.PQexecParams.restype = ctypes.c_void_p
_libpq.PQexecParams.argtypes = [
    *(ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p),
    *(ctypes.POINTER(ctypes.c_char_p), ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int),
]
_libpq.PQresultStatus.argtypes = [ctypes.c_void_p]
_libpq.PQresultErrorField.restype = ctypes.c_char_p
_libpq.PQresultErrorField.argtypes = [ctypes.c_void_p, ctypes.c_int]
_libpq.PQclear.argtypes = [ctypes.c_void_p]
