"""A SQLite connection with the SQL functions that our values need, for reads as for writes."""

import sqlite3
import struct
from typing import Any

from .decimals import minor_units, sortable


class Connection(sqlite3.Connection):
    """SQLite with the functions that our values need, for reads as for writes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # a double's text is not read back to the last bit by every SQLite: doubles travel as their bits
        self.create_function("double_of", 1, lambda bits: struct.unpack(">d", bits)[0], deterministic=True)
        self.create_function("whole_number", 3, _whole_number, deterministic=True)
        self.create_window_function("sum", 1, _Sum)


def _whole_number(value: Any, least: int, most: int) -> int | None:
    # SQLite turns a whole number that is too large into a double
    if value is not None and not (isinstance(value, int) and least <= value <= most):
        raise ValueError("not a whole number that the column takes")
    return value


class _Sum:
    """SUM, of long decimals too, which are text here."""

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
