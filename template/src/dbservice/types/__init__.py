"""The column types: which Python values a column holds, how the API's JSON writes them, what is refused.

Nothing here knows an engine. How a type is declared and travels on PostgreSQL, MySQL, MariaDB or SQLite stands
in `backends/`, one folder each, and arrives through `register`.
"""

from .base import INT32, INT64, Codec, ColumnType, Default, copy_default, register
from .numbers import BigInteger, Boolean, Float, Id, Integer, Numeric, PlainDecimal
from .structured import JSON, Binary, Uuid
from .text import Enum, EnumCheck, String, Text
from .times import Date, Time, Timestamp

__all__ = [
    "INT32",
    "INT64",
    "JSON",
    "BigInteger",
    "Binary",
    "Boolean",
    "Codec",
    "ColumnType",
    "Date",
    "Default",
    "Enum",
    "EnumCheck",
    "Float",
    "Id",
    "Integer",
    "Numeric",
    "PlainDecimal",
    "String",
    "Text",
    "Time",
    "Timestamp",
    "Uuid",
    "copy_default",
    "register",
]
