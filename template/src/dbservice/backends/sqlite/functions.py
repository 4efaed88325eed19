"""A SQLite connection with SQL functions for the column types, for reads and writes."""

import sqlite3
import struct
from typing import Any

from .decimals import minor_units, sortable


class Connection(sqlite3.Connection):
    """A SQLite connection with SQL functions for the column types."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # not every SQLite version parses doubles exactly: they are passed as their bits
        self.create_function("double_of", 1, lambda bits: struct.unpack(">d", bits)[0], deterministic=True)
        self.create_function("whole_number", 3, _whole_number, deterministic=True)
        self.create_window_function("sum", 1, _Sum)


def _whole_number(value: Any, least: int, most: int) -> int | None:
    # SQLite converts an integer to a double on overflow
    if value is not None and not (isinstance(value, int) and least <= value <= most):
        raise ValueError("not a whole number that the column takes")
    return value


class _Sum:
    """SUM, also of long decimals, which are stored as text."""

    def __init__(self) -> None:
        self.total: Any = 0
        self.count = 0
        self.long = False

    def step(self, value: Any, sign: int = 1) -> None:
        if isinstance(value, str):
            self.long, value = True, minor_units(value)
        if value is not None:
            self.total += sign * value
            self.count += sign

    def inverse(self, value: Any) -> None:
        self.step(value, -1)

    def value(self) -> Any:
        if not self.count:
            return None
        if self.long or (isinstance(self.total, int) and not -(2**63) <= self.total < 2**63):
            return sortable(self.total)
        return self.total

    finalize = value
