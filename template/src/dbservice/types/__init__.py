"""The column types: their Python values, the JSON format of these in the API, and which values are rejected.

They do not depend on an engine. How a type is declared and encoded on PostgreSQL, MySQL, MariaDB or SQLite is
in `backends/`, one folder each, which call `register`.
"""

from .base import INT32, INT64, Codec, ColumnType, Default, copy_default, register
from .numbers import BigInteger, Boolean, Float, Id, Integer, Numeric, PlainDecimal
from .python_types import type_of
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
    "type_of",
]
