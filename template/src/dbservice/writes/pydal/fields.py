"""The PyDAL type of a column: literals and Python values come from the backend."""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from pydal.helpers.classes import SQLCustomType

from ...backends.interface import Backend
from ...errors import BadValue
from ...types import BigInteger, ColumnType, Enum, Float, Id, Integer, String, Text

Literal = Callable[[ColumnType, Any], str]
"""What a statement has instead of a checked value of a column."""


class FieldType(SQLCustomType):  # type: ignore[misc]
    """The type of one column: values are checked, literals and Python values come from the backend."""

    def __init__(self, column: sa.Column[Any], backend: Backend, literal: Literal) -> None:
        column_type = column.type
        assert isinstance(column_type, ColumnType)
        name = column.name
        self.is_integer = isinstance(column_type, Integer | BigInteger)
        # drivers return a sum of integers as a decimal
        decode = backend.codec.from_sync_driver(column_type) or (int if self.is_integer else None)

        def encoder(value: Any) -> str:
            return "NULL" if value is None else literal(column_type, checked(name, column_type, value))

        def decoder(value: Any) -> Any:
            return value if value is None or decode is None else decode(value)

        super().__init__(type="dbservice", native="", encoder=encoder, decoder=decoder)
        self.column_type = column_type
        self.is_text = isinstance(column_type, String | Text | Enum)
        self.arithmetic_operators: tuple[str, ...] = ("add",) if self.is_text else ()
        if self.is_integer or isinstance(column_type, Float):
            self.arithmetic_operators = (
                ("add", "sub", "mul") if self.is_integer else ("add", "sub", "mul", "div")
            )

    def __eq__(self, other: object) -> bool:
        # PyDAL allows startswith(), contains() ... for a type that equals "string"
        return (self.is_text and other == "string") or self is other

    __hash__ = object.__hash__

    def startswith(self, text: str) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]
        # PyDAL writes `+` as || unless the type starts with "decimal("
        return "sub" in self.arithmetic_operators and text.startswith("decimal")

    def same_as(self, other: object) -> bool:
        return isinstance(other, FieldType) and repr(other.column_type) == repr(self.column_type)

    def comparable_with(self, other: object) -> bool:
        """Whether all engines compare the two alike."""
        if isinstance(other, FieldType):
            both = {type(self.column_type), type(other.column_type)}
            return both <= _INTEGERS or both <= _TEXTS or self.same_as(other)
        return self.is_integer or other not in ("id", "integer", "bigint")


ID, ANY_TEXT = Id(), Text()

_INTEGERS = {Integer, BigInteger}

_TEXTS = {String, Text, Enum}


def checked(name: str, column_type: ColumnType, value: Any) -> Any:
    """The value as the column holds it. Raises BadValue."""
    try:
        return column_type.check(value)
    except ValueError as error:
        raise BadValue(name, str(error)) from None
