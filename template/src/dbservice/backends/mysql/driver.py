"""Fixes for aiomysql: no plain-text password to a server without TLS, no warnings in the log, exact bytes, and one class of
errors for connections that the server ends while they open."""

import struct
from typing import Any

import aiomysql
import pymysql
from pymysql.charset import charset_by_name
from pymysql.constants import CLIENT, CR

from ...types import PlainDecimal

_MAX_PACKET = 2**24 - 1


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
    """aiomysql's connection, but it sends one statement at a time, and no password in plain text to a server without TLS; and
    it does not use a socket that the server has closed already."""

    _ssl_context: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.client_flag &= ~CLIENT.MULTI_STATEMENTS

    async def _connect(self) -> None:
        try:
            await super()._connect()
        except RuntimeError as error:
            if type(error) is not RuntimeError:  # RecursionError, NotImplementedError
                raise
            # "Transport does not expose socket instance": it has none any more
            raise _lost_error() from error

    async def _request_authentication(self) -> None:
        if self._ssl_context and not self.server_capabilities & CLIENT.SSL:
            raise no_tls_error()
        if self._ssl_context:
            await self._start_tls()
        tls, self._ssl_context = self._ssl_context, None
        try:
            await super()._request_authentication()
        finally:
            self._ssl_context = tls

    async def _start_tls(self) -> None:
        """As aiomysql does, which duplicates the socket for it: if the server has closed or resets it meanwhile, uvloop closes
        a file descriptor twice, which another connection may have by then."""
        writer: Any = self._writer
        reader: Any = self._reader
        if writer.transport.is_closing():
            raise _lost_error()
        charset: Any = charset_by_name(self.charset)
        self.write_packet(struct.pack("<iIB23s", self.client_flag, _MAX_PACKET, charset.id, b""))
        await writer.start_tls(self._ssl_context, server_hostname=self._host)
        if reader._buffer:  # not encrypted, so anybody between may have said it
            raise pymysql.err.OperationalError(
                CR.CR_SERVER_LOST, "the server sent data before it started TLS"
            )
        self._secure = True


def no_tls_error() -> Exception:
    return pymysql.err.OperationalError(3159, "the server offers no TLS, and DB_SSL_MODE asks for it")


def _lost_error() -> Exception:
    return pymysql.err.OperationalError(
        CR.CR_SERVER_LOST, "Lost connection to MySQL server while it was opened"
    )


pymysql.converters.encoders[HexBytes] = lambda value, mapping=None: f"x'{value.value.hex()}'"
pymysql.converters.encoders[PlainDecimal] = lambda value, mapping=None: str(
    value
)  # no text, which MySQL rounds
aiomysql.connection.Connection = _Connection  # the class that its pool uses
