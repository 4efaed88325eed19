"""Values of subclasses, each with its plain value: some override methods to return something else."""

import datetime as dt
import enum
import uuid
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from dbservice import types as t


class Colour(str, enum.Enum):  # noqa: UP042 what StrEnum does not do: str() of a member is its name
    RED = "a"


class Level(enum.IntEnum):
    HIGH = 1


class Liar(str):
    def __str__(self) -> str:
        return "'; DROP TABLE items; --"


class LyingDate(dt.date):
    def isoformat(self) -> str:
        return "'; DROP TABLE items; --"


class LyingTime(dt.time):
    def isoformat(self, *_: Any, **__: Any) -> str:
        return "'; DROP TABLE items; --"


class LyingTimestamp(dt.datetime):
    def isoformat(self, *_: Any, **__: Any) -> str:
        return "'; DROP TABLE items; --"


class Nanoseconds(dt.datetime):
    """As pandas has it."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Nanoseconds) and super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = dt.datetime.__hash__


class LyingUuid(uuid.UUID):
    def __str__(self) -> str:
        return "'; DROP TABLE items; --"

    hex = property(__str__)


class LyingDecimal(Decimal):
    def __str__(self) -> str:
        return "1); DROP TABLE items; --"

    def __format__(self, *_: Any) -> str:
        return str(self)


class LyingFloat(float):
    def __repr__(self) -> str:
        return "1); DROP TABLE items; --"


class LyingInt(int):
    def __str__(self) -> str:
        return "1); DROP TABLE items; --"


class LyingBytes(bytes):
    def hex(self, *_: Any, **__: Any) -> str:
        return "'; DROP TABLE items; --"


MOMENT = dt.datetime(2024, 1, 31, 13, 45, 0, 1, tzinfo=dt.UTC)


ID = uuid.UUID("123e4567-e89b-12d3-a456-426614174000")


SUBCLASSES: list[tuple[str, Any, Any]] = [
    ("string", Colour.RED, "a"),
    ("string", Liar("abc"), "abc"),
    ("text", Liar("abc"), "abc"),
    ("enum", Colour.RED, "a"),
    ("enum", Liar("b"), "b"),
    ("integer", Level.HIGH, 1),
    ("integer", LyingInt(5), 5),
    ("bigint", LyingInt(-5), -5),
    ("decimal", LyingDecimal("1.5"), Decimal("1.50")),
    ("decimal", LyingInt(5), Decimal("5.00")),
    ("long_decimal", LyingDecimal("-1.5"), t.PlainDecimal("-1.5000000000")),
    ("float", LyingFloat(1.5), 1.5),
    ("float", LyingInt(3), 3.0),
    ("date", LyingDate(2024, 1, 31), dt.date(2024, 1, 31)),
    ("time", LyingTime(13, 45, 0, 1), dt.time(13, 45, 0, 1)),
    ("time", dt.time(1, 30, fold=1), dt.time(1, 30)),
    ("timestamp", LyingTimestamp(2024, 1, 31, 13, 45, 0, 1, dt.UTC), MOMENT),
    ("timestamp", dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")), MOMENT.replace(2024, 10, 27, 1, 30, 0, 0)),
    ("timestamp", dt.datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")), MOMENT.replace(2024, 10, 27, 0, 30, 0, 0)),
    ("uuid", LyingUuid(str(ID)), ID),
    ("binary", LyingBytes(b"a'"), b"a'"),
    ("binary", bytearray(b"a'"), b"a'"),
    ("binary", memoryview(b"xa'x")[1:3], b"a'"),
    ("json", {Colour.RED: Colour.RED}, {"a": "a"}),
    ("json", (Level.HIGH, LyingFloat(1.5), Liar("abc")), [1, 1.5, "abc"]),
]  # fmt: skip
"""Column, value, what it is."""
