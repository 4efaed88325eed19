"""Fixes for aiomysql: no plain-text password to a server without TLS, no warnings in the log, exact bytes."""

from typing import Any

import aiomysql
import pymysql
from pymysql.constants import CLIENT

from ...types import PlainDecimal


class HexBytes:
    """Bytes for aiomysql, whose encoder for bytes does not match the current PyMySQL."""

    def __init__(self, value: bytes) -> None:
        self.value = value

    def __bytes__(self) -> bytes:  # SQLAlchemy passes these to PyMySQL
        return self.value


class Cursor(aiomysql.Cursor):  # type: ignore[misc]
    """aiomysql's cursor without its logging of warnings, which contain values of columns."""

    async def _show_warnings(self, conn: Any) -> None:
        pass


class _Connection(aiomysql.Connection):  # type: ignore[misc]
    """aiomysql's connection, but it sends one statement at a time, and no password in plain text to a server without TLS."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.client_flag &= ~CLIENT.MULTI_STATEMENTS

    async def _request_authentication(self) -> None:
        if self._ssl_context and not self.server_capabilities & CLIENT.SSL:
            raise no_tls_error()
        await super()._request_authentication()


def no_tls_error() -> Exception:
    return pymysql.err.OperationalError(3159, "the server offers no TLS, and DB_SSL_MODE asks for it")


pymysql.converters.encoders[HexBytes] = lambda value, mapping=None: f"x'{value.value.hex()}'"
pymysql.converters.encoders[PlainDecimal] = lambda value, mapping=None: str(
    value
)  # no text, which MySQL rounds
aiomysql.connection.Connection = _Connection  # the class that its pool uses
