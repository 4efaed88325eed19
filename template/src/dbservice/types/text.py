"""Strings, text and enums."""

import re
from typing import Any

import sqlalchemy as sa

from .base import ColumnType


def checked_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string")
    text = str.__str__(value)  # str() of an enum member would be its name
    if "\0" in text:
        raise ValueError("must not contain the character NUL (U+0000)")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain half of a surrogate pair") from None
    return text


class String(ColumnType[str]):
    """Text of at most `length` code points; compared, sorted and unique by code point."""

    impl = sa.String
    indexed = False
    """Whether an index contains the column: PostgreSQL limits index entries to 2700 bytes (a third of a page)."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length

    def __repr__(self) -> str:
        return f"String({self.length})"

    def check(self, value: Any) -> str:
        text = checked_text(value)
        if len(text) > self.length:
            raise ValueError(f"must have at most {self.length} characters, has {len(text)}")
        if self.indexed and len(text) > 675 and len(text.encode()) > 2700:
            raise ValueError("must have at most 2700 bytes in UTF-8, for its index")
        return text

    def parameter(self, value: Any) -> str:
        return checked_text(value)  # a LIKE pattern may be longer than the column

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "maxLength": self.length}

    def example(self, number: int) -> str:
        return f"example {number}"[-self.length :]


class Text(ColumnType[str]):
    """Text of any length."""

    impl = sa.Text

    def check(self, value: Any) -> str:
        return checked_text(value)

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string"}

    def example(self, number: int) -> str:
        return f"A longer example, number {number}."


class Enum(ColumnType[str]):
    """One of the given strings; a CHECK constraint enforces it in the database (see `check_constraint`)."""

    impl = sa.String

    def __init__(self, *values: str) -> None:
        super().__init__()
        for value in values:
            if not re.fullmatch(r"[ !#-&(-\[\]-~]{1,255}", value):
                raise ValueError(
                    f"the enum value {value!r} must be 1 to 255 ASCII characters without quotes or backslash"
                )
        self.values = values
        self.length = max(map(len, values))

    def __repr__(self) -> str:
        return f"Enum({', '.join(map(repr, self.values))})"

    def check(self, value: Any) -> str:
        if not isinstance(value, str) or (text := str.__str__(value)) not in self.values:
            raise ValueError(f"must be one of {', '.join(self.values)}")
        return text

    def parameter(self, value: Any) -> str:
        return checked_text(value)

    def check_constraint(self, column: str, name: Any = None) -> sa.CheckConstraint:
        """The CHECK constraint that `column` contains one of the values."""
        return EnumCheck(self, column, name)

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.values)}

    def example(self, number: int) -> str:
        return self.values[number % len(self.values)]


class EnumCheck(sa.CheckConstraint):
    """The CHECK constraint of an enum column, rendered in revisions as `types.Enum(...).check_constraint(...)`."""

    def __init__(self, column_type: Enum, column: str, name: Any) -> None:
        super().__init__(sa.column(column, column_type).in_(column_type.values), name=name)
        self.column_type, self.column_name = column_type, column

    def _copy(self, **options: Any) -> "EnumCheck":
        # Alembic copies constraints, and SQLAlchemy's copy would be a plain CheckConstraint
        return self._schema_item_copy(EnumCheck(self.column_type, self.column_name, self.name))
