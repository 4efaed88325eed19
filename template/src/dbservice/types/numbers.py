"""Whole numbers, truth values, exact decimals and doubles."""

import math
import re
from decimal import ROUND_DOWN, Context, Decimal, Inexact, InvalidOperation
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import operators

from .base import INT32, INT64, ColumnType


class _Whole(ColumnType[int]):
    limit = INT64

    def check(self, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError("must be a whole number")
        if not -self.limit - 1 <= value <= self.limit:
            raise ValueError(f"must be between {-self.limit - 1} and {self.limit}")
        return int(value)

    def json_schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": -self.limit - 1, "maximum": self.limit}

    def example(self, number: int) -> int:
        return number


class Integer(_Whole):
    """A whole number of 32 bits."""

    impl = sa.Integer

    limit = INT32


class BigInteger(_Whole):
    """A whole number of 64 bits."""

    impl = sa.BigInteger


class Id(_Whole):
    """The identity key that every owned table has: 64 bits, given by the database, never used twice."""

    impl = sa.BigInteger

    def json_schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": 1, "maximum": INT64}


class _Truth(sa.types.TypeDecorator.Comparator[Any]):
    def operate(self, op: Any, *other: Any, **kwargs: Any) -> Any:
        if op in (operators.is_, operators.is_not) and isinstance(other[0], bool):
            other = (sa.true() if other[0] else sa.false(),)  # words of SQL: after IS stands no parameter
        return super().operate(op, *other, **kwargs)


class Boolean(ColumnType[bool]):
    """True or False, nothing that merely looks like it."""

    impl = sa.Boolean
    comparator_factory = _Truth

    def check(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError("must be true or false")
        return value

    def json_schema(self) -> dict[str, Any]:
        return {"type": "boolean"}

    def example(self, number: int) -> bool:
        return number % 2 == 0


class PlainDecimal(Decimal):
    """A decimal that is written in plain digits; Python writes one of more than six places as 1E-8."""

    def __str__(self) -> str:
        return format(self, "f")


class Numeric(ColumnType[Decimal]):
    """An exact decimal of `precision` digits, `scale` of them after the point; a string in JSON."""

    impl = sa.Numeric

    def __init__(self, precision: int, scale: int) -> None:
        super().__init__()
        self.precision, self.scale = precision, scale
        self.kind = PlainDecimal if scale > 6 else Decimal
        self._unit = Decimal((0, (1,), -scale))
        self._exact = Context(prec=precision, rounding=ROUND_DOWN, traps=[Inexact, InvalidOperation])
        self._written = re.compile(r"-?[0-9]{1,99}(\.[0-9]{1,99})?")

    def __repr__(self) -> str:
        return f"Numeric({self.precision}, {self.scale})"

    def check(self, value: Any) -> Decimal:
        if isinstance(value, bool) or not isinstance(value, Decimal | int):
            raise ValueError("must be a decimal")
        number = Decimal(value)
        if not number.is_finite():
            raise ValueError("must be a finite decimal")
        if not number:
            return self.of_minor_units(0)  # minus zero too
        try:
            return self.kind(number.quantize(self._unit, context=self._exact))
        except Inexact:
            raise ValueError(f"must have at most {self.scale} digits after the point") from None
        except InvalidOperation:
            raise ValueError(
                f"must have at most {self.precision - self.scale} digits before the point"
            ) from None

    def of_minor_units(self, minor: int) -> Decimal:
        """The decimal with `minor` units of the last place, exact whatever the decimal context says."""
        return self.kind((minor < 0, tuple(map(int, str(abs(minor)))), -self.scale))

    def from_json(self, value: Any) -> Decimal:
        if isinstance(value, str):
            if not self._written.fullmatch(value):
                raise ValueError('must be a decimal in plain digits, like "12.34"')
            return self.check(Decimal(value))
        if isinstance(value, float) and math.isfinite(value):
            return self.check(Decimal(repr(value)))
        return self.check(value)

    def answer_schema(self) -> dict[str, Any]:
        whole = self.precision - self.scale
        fraction = rf"\.[0-9]{{{self.scale}}}" if self.scale else ""
        return {"type": "string", "pattern": rf"^-?[0-9]{{1,{max(1, whole)}}}{fraction}$"}

    def json_schema(self) -> dict[str, Any]:
        whole = self.precision - self.scale
        fraction = rf"(\.[0-9]{{1,{self.scale}}})?" if self.scale else ""
        pattern = rf"^-?[0-9]{{1,{whole}}}{fraction}$" if whole else rf"^-?0{fraction}$"
        return {"anyOf": [{"type": "string", "pattern": pattern}, {"type": "number"}]}

    def example(self, number: int) -> str:
        return format(self.of_minor_units(number % 10**self.precision), "f")


class Float(ColumnType[float]):
    """A finite IEEE double. Minus zero is refused: SQLite cannot hold it."""

    impl = sa.Double

    def check(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, float | int):
            raise ValueError("must be a number")
        try:
            number = float(value)
        except OverflowError:
            raise ValueError("must be a number that a double holds") from None
        if not math.isfinite(number):
            raise ValueError("must be a finite number")
        if number != value:
            raise ValueError("must be a number that a double holds exactly")
        if number == 0 and math.copysign(1, number) < 0:
            raise ValueError("must not be minus zero: write 0")
        return number

    def json_schema(self) -> dict[str, Any]:
        return {"type": "number"}

    def example(self, number: int) -> float:
        return number + 0.5
