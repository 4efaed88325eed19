"""Decimals on SQLite: up to 18 digits as integers in minor units, longer ones as text that sorts in numeric order."""

from decimal import Decimal
from typing import Any

from ... import types as t

_DIGITS = 18
"""The maximum number of digits that fits into SQLite's 64-bit integer."""

_WIDTH = 80
"""The digits of a decimal stored as text: the same for every column, so that sums and columns are comparable."""


def encode_decimal(column: t.Numeric, value: Decimal) -> int | str:
    sign, digits, _ = value.as_tuple()
    minor = int("".join(map(str, digits))) * (-1 if sign else 1)
    return minor if column.precision <= _DIGITS else sortable(minor)


def decode_decimal(column: t.Numeric, value: Any) -> Decimal:
    if isinstance(value, float):
        raise TypeError("SQLite adds and compares decimals; what else it makes of them is wrong")
    return column.of_minor_units(minor_units(value) if isinstance(value, str) else value)


def sortable(minor: int) -> str:
    # the prefix prevents conversion to a number; the nines' complement sorts -2 before -1
    return f"p{minor:0{_WIDTH}}" if minor >= 0 else f"n{10**_WIDTH - 1 + minor:0{_WIDTH}}"


def minor_units(text: str) -> int:
    return int(text[1:]) if text[0] == "p" else int(text[1:]) - (10 ** (len(text) - 1) - 1)
