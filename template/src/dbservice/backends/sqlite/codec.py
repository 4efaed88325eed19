"""How column types are declared, encoded and decoded on SQLite."""

import datetime as dt
import struct
import uuid
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from ... import types as t
from ...types import ColumnType
from ..interface import Codec, Convert
from ..sql import quoted
from .decimals import decode_decimal, encode_decimal, minor_units


class SQLiteCodec(Codec):
    """The codec of SQLite; it has no state."""

    def column_type(self, column: ColumnType, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        match column:
            case t.String() | t.Enum():
                return _Named(f"VARCHAR({column.length})")
            case t.Numeric():
                return _Named(f"NUMERIC({column.precision}, {column.scale})")
        return _PLAIN[type(column)]

    def to_driver(self, column: ColumnType) -> Convert | None:
        match column:
            case t.Boolean():
                return int
            case t.Numeric():
                return lambda value: encode_decimal(column, value)
            case t.Date():
                return dt.date.isoformat
            case t.Time():
                return lambda value: value.isoformat("microseconds")
            case t.Timestamp():
                return _timestamp
            case t.JSON():
                return t.JSON.dumps
            case t.Uuid():
                return lambda value: value.hex
        return None

    def from_driver(self, column: ColumnType) -> Convert | None:
        match column:
            case t.Integer() | t.BigInteger():
                return lambda value: minor_units(value) if isinstance(value, str) else value  # a large sum
            case t.Boolean():
                return bool
            case t.Numeric():
                return lambda value: decode_decimal(column, value)
            case t.Float():
                return float
            case t.Date():
                return dt.date.fromisoformat
            case t.Time():
                return dt.time.fromisoformat
            case t.Timestamp():
                return lambda value: dt.datetime.fromisoformat(value).replace(tzinfo=dt.UTC)
            case t.JSON():
                return t.JSON.loads
            case t.Uuid():
                return uuid.UUID
        return None

    def byte_length(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        return sa.func.length(sa.cast(column, sa.BLOB()))  # octet_length() came with 3.43

    def literal(self, column: ColumnType, value: Any) -> str:
        if isinstance(column, t.Float):
            # DEFAULT allows no function, but SQLite parses short literals exactly
            return (
                repr(value) if len(repr(value)) <= 15 else f"double_of(X'{struct.pack('>d', value).hex()}')"
            )
        if isinstance(column, t.Binary):
            return f"X'{value.hex()}'"
        encode = self.to_driver(column)
        sent = encode(value) if encode else value
        return quoted(sent) if isinstance(sent, str) else str(sent)

    def parameter(self, value: Any) -> Any:
        if isinstance(value, Decimal):
            raise TypeError("SQLite stores a decimal by its column's scale: compare it with a column")
        return super().parameter(value)

    def computed(self, column: ColumnType, sql: str) -> str:
        assert isinstance(column, t.Integer | t.BigInteger)
        return f"whole_number({sql}, {-column.limit - 1}, {column.limit})"


class _Named(sa.types.UserDefinedType[Any]):
    """A declared type that only determines the affinity; the codec encodes the values."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        return self.name


_PLAIN: dict[type[ColumnType], sa.types.TypeEngine[Any]] = {
    t.Id: sa.INTEGER(),  # only INTEGER PRIMARY KEY generates values
    t.Integer: sa.INTEGER(),
    t.BigInteger: sa.BIGINT(),
    t.Boolean: _Named("BOOLEAN"),
    t.Float: _Named("DOUBLE"),
    t.Text: _Named("TEXT"),
    t.Date: _Named("DATE"),
    t.Time: _Named("TIME"),
    t.Timestamp: _Named("TIMESTAMP"),
    t.JSON: _Named("JSON_TEXT"),  # JSON would have numeric affinity
    t.Uuid: _Named("CHAR(32)"),
    t.Binary: _Named("BLOB"),
}


def _timestamp(value: dt.datetime) -> str:
    return value.replace(tzinfo=None).isoformat(" ", "microseconds")


t.register("sqlite", SQLiteCodec())
