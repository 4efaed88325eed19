"""How SQLite holds decimals: up to 18 digits as whole numbers of the last place, longer ones as text that sorts as they do."""

from decimal import Decimal
from typing import Any

from ... import types as t

_DIGITS = 18
"""A decimal of so many digits fits into SQLite's 64-bit integer."""

_WIDTH = 80
"""Digits of a longer one: as many for every column, so that a sum compares with what it is the sum of."""


def encode_decimal(column: t.Numeric, value: Decimal) -> int | str:
    sign, digits, _ = value.as_tuple()
    minor = int("".join(map(str, digits))) * (-1 if sign else 1)
    return minor if column.precision <= _DIGITS else sortable(minor)


def decode_decimal(column: t.Numeric, value: Any) -> Decimal:
    if isinstance(value, float):
        raise TypeError("SQLite adds and compares decimals; what else it makes of them is wrong")
    return column.of_minor_units(minor_units(value) if isinstance(value, str) else value)


def sortable(minor: int) -> str:
    # p and n keep SQLite from reading a number; the nines' complement makes -2 sort before -1
    return f"p{minor:0{_WIDTH}}" if minor >= 0 else f"n{10**_WIDTH - 1 + minor:0{_WIDTH}}"


def minor_units(text: str) -> int:
    return int(text[1:]) if text[0] == "p" else int(text[1:]) - (10 ** (len(text) - 1) - 1)
