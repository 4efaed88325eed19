"""How column types are declared, encoded and decoded on MySQL and MariaDB."""

import datetime as dt
import re
import uuid
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql as my

from ... import types as t
from ...types import ColumnType
from ..interface import Codec, Convert
from ..sql import quoted
from .driver import HexBytes


class MySQLCodec(Codec):
    """The codec of MySQL and MariaDB; it has no state."""

    def column_type(self, column: ColumnType, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        # compares by code point, without padding; the servers use different names
        collation = "utf8mb4_nopad_bin" if getattr(dialect, "is_mariadb", False) else "utf8mb4_0900_bin"
        match column:
            case t.String() | t.Enum():
                return my.VARCHAR(column.length, charset="utf8mb4", collation=collation)
            case t.Text() | t.JSON():
                return my.LONGTEXT(charset="utf8mb4", collation=collation)
            case t.Numeric():
                return my.DECIMAL(column.precision, column.scale)
        return _PLAIN[type(column)]

    def to_driver(self, column: ColumnType) -> Convert | None:
        match column:
            case t.Timestamp():
                return lambda value: value.replace(tzinfo=None)
            case t.JSON():
                return t.JSON.dumps
            case t.Uuid():
                return lambda value: value.hex
            case t.Binary():
                return HexBytes
        return None

    def from_driver(self, column: ColumnType) -> Convert | None:
        match column:
            case t.Boolean():
                return bool
            case t.Numeric() if column.kind is not Decimal:
                return column.kind
            case t.Date():
                return _date
            case t.Time():
                return _time_of_day
            case t.Timestamp():
                return _timestamp
            case t.JSON():
                return t.JSON.loads
            case t.Uuid():
                return uuid.UUID
        return None

    def literal(self, column: ColumnType, value: Any) -> str:
        match column:
            case t.Boolean():
                return "1" if value else "0"
            case t.Integer() | t.BigInteger() | t.Id():
                return str(value)
            case t.Numeric():
                return format(value, "f")
            case t.Float():
                return (
                    text if "e" in (text := repr(value)) else f"{text}e0"
                )  # without an exponent, the literal is a DECIMAL
            case t.Date():
                return f"'{value.isoformat()}'"
            case t.Time():
                return f"'{value.isoformat('microseconds')}'"
            case t.Timestamp():
                return f"'{value.replace(tzinfo=None).isoformat(' ', 'microseconds')}'"
            case t.JSON():
                return quoted(t.JSON.dumps(value))
            case t.Uuid():
                return f"'{value.hex}'"
            case t.Binary():
                return f"x'{value.hex()}'"
        return quoted(value)

    def default(self, column: ColumnType, value: Any) -> str:
        # MySQL prints the quotes of a default with backslashes, and cannot parse them in a session without backslash escapes
        text = t.JSON.dumps(value) if isinstance(column, t.JSON) else value
        if isinstance(text, str) and not re.fullmatch(r"[ -&(-\[\]-~]*", text):
            return f"(CONVERT(x'{text.encode().hex()}' USING utf8mb4))"
        literal = self.literal(column, value)
        if isinstance(column, t.Text | t.JSON | t.Binary):
            return f"({literal})"  # these take an expression only
        # a new column with an expression makes MySQL copy the table, and SQLAlchemy takes for one what has no quotes
        return literal if literal.startswith("'") else f"'{literal}'"


_PLAIN: dict[type[ColumnType], sa.types.TypeEngine[Any]] = {
    t.Id: my.BIGINT(),
    t.Integer: my.INTEGER(),
    t.BigInteger: my.BIGINT(),
    t.Boolean: my.TINYINT(1),
    t.Float: my.DOUBLE(asdecimal=False),
    t.Date: my.DATE(),
    t.Time: my.TIME(fsp=6),
    t.Timestamp: my.DATETIME(fsp=6),
    t.Uuid: my.CHAR(32, charset="ascii", collation="ascii_bin"),
    t.Binary: my.LONGBLOB(),
}


def _date(value: dt.date | str) -> dt.date:
    return dt.date.fromisoformat(value) if isinstance(value, str) else value


def _time_of_day(value: dt.timedelta | dt.time | str) -> dt.time:
    if isinstance(value, str):
        return dt.time.fromisoformat(value)
    return (
        value if isinstance(value, dt.time) else (dt.datetime.min + value).time()
    )  # converted by SQLAlchemy


def _timestamp(value: dt.datetime | str) -> dt.datetime:
    value = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
    return value.replace(tzinfo=dt.UTC)


t.register("mysql", MySQLCodec())
t.register("mariadb", MySQLCodec())
