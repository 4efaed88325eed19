"""The column types of Python values that belong to no column."""

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

from .base import ColumnType
from .numbers import BigInteger, Boolean, Float, Numeric
from .structured import Binary, Uuid
from .text import Text
from .times import Date, Time, Timestamp

_TYPES: dict[type, ColumnType] = {
    bool: Boolean(),
    int: BigInteger(),
    float: Float(),
    Decimal: Numeric(65, 30),
    str: Text(),
    bytes: Binary(),
    bytearray: Binary(),
    memoryview: Binary(),
    dt.datetime: Timestamp(),
    dt.date: Date(),
    dt.time: Time(),
    uuid.UUID: Uuid(),
}


def type_of(value: Any) -> ColumnType:
    """The column type that checks and encodes `value`, a parameter without a column. Raises TypeError: drivers send the
    str() of what they do not know, not always with its quotes escaped."""
    for each in type(value).__mro__:
        if each in _TYPES:
            return _TYPES[each]
    raise TypeError(
        f"a parameter cannot be {type(value).__name__}: give a str, int, float, Decimal, bool, bytes, date, time, datetime,"
        " UUID or None"
    )
