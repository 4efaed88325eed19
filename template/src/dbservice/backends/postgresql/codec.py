"""How column types are declared, encoded and decoded on PostgreSQL."""

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from ... import types as t
from ...types import ColumnType, type_of
from ..interface import Codec, Convert
from ..sql import quoted


class PostgreSQLCodec(Codec):
    """The codec of PostgreSQL; it has no state."""

    def column_type(self, column: ColumnType, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        match column:
            case t.String() | t.Enum():
                return pg.VARCHAR(column.length, collation="C")
            case t.Text():
                return pg.TEXT(collation="C")
            case t.Numeric():
                return pg.NUMERIC(column.precision, column.scale)
            case t.JSON():
                return _Json()
            case t.Uuid():
                return pg.UUID(as_uuid=True)
        return _PLAIN[type(column)]

    def to_driver(self, column: ColumnType) -> Convert | None:
        match column:
            case t.Date() | t.Timestamp():
                return lambda value: value.isoformat()
            case t.JSON():
                return t.JSON.dumps
        return None

    def from_driver(self, column: ColumnType) -> Convert | None:
        match column:
            case t.JSON():
                return t.JSON.loads
            case t.Uuid():
                return _plain_uuid
            case t.Numeric(scale=0):
                return lambda value: Decimal(int(value))  # asyncpg returns 1E+4
            case t.Numeric() if column.kind is not Decimal:
                return column.kind
        return None

    def from_sync_driver(self, column: ColumnType) -> Convert | None:
        match column:
            case t.Uuid():
                return uuid.UUID
            case t.Numeric() if column.kind is not Decimal:
                return column.kind
            case t.Binary():
                return bytes
            case t.Timestamp():
                return _utc
        return None

    def parameter(self, value: Any) -> Any:
        # the server knows the type and asyncpg its format
        if isinstance(value, list):
            return [self.parameter(each) for each in value]
        return None if value is None else type_of(value).check(value)

    def literal(self, column: ColumnType, value: Any) -> str:
        match column:
            case t.Boolean():
                return "true" if value else "false"
            case t.Integer() | t.BigInteger() | t.Id():
                return str(value)
            case t.Numeric():
                return format(value, "f")
            case t.Float():
                return f"'{value!r}'::float8"
            case t.Date():
                return f"'{value.isoformat()}'::date"
            case t.Time():
                return f"'{value.isoformat()}'::time"
            case t.Timestamp():
                return f"'{value.isoformat()}'::timestamptz"
            case t.JSON():
                return f"{quoted(t.JSON.dumps(value))}::json"
            case t.Uuid():
                return f"'{value}'::uuid"
            case t.Binary():
                return f"'\\x{value.hex()}'::bytea"
        return quoted(value)

    def byte_length(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        return sa.func.octet_length(sa.cast(column, pg.TEXT()) if isinstance(column.type, t.JSON) else column)


class _Json(sa.types.UserDefinedType[Any]):
    """JSON that is already encoded: SQLAlchemy's type would encode it twice."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "JSON"

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Convert:  # pyright: ignore[reportIncompatibleMethodOverride]
        return t.JSON.dumps  # psycopg2 decodes JSON, and our type expects text


class _AsText(sa.types.UserDefinedType[Any]):
    """A date or timestamp whose parameters are sent as text: asyncpg encodes Python's minimum and maximum as infinities,
    which equal no stored value."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        return self.name

    def bind_expression(self, bindvalue: sa.BindParameter[Any]) -> sa.ColumnElement[Any]:
        return sa.cast(sa.cast(bindvalue, pg.TEXT()), self)


_PLAIN: dict[type[ColumnType], sa.types.TypeEngine[Any]] = {
    t.Id: pg.BIGINT(),
    t.Integer: pg.INTEGER(),
    t.BigInteger: pg.BIGINT(),
    t.Boolean: pg.BOOLEAN(),
    t.Float: pg.DOUBLE_PRECISION(),
    t.Date: _AsText("DATE"),
    t.Time: pg.TIME(),
    t.Timestamp: _AsText("TIMESTAMP WITH TIME ZONE"),
    t.Binary: pg.BYTEA(),
}


def _plain_uuid(value: Any) -> uuid.UUID:
    return uuid.UUID(int=value.int)  # asyncpg returns a subclass


def _utc(value: dt.datetime) -> dt.datetime:
    return value.astimezone(dt.UTC)


t.register("postgresql", PostgreSQLCodec())
