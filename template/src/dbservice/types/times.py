"""Dates, times of day and timestamps."""

import datetime as dt
import re
from typing import Any

import sqlalchemy as sa

from .base import ColumnType

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
# 24:00:00 is not allowed: only newer Python versions accept it, as the next day
_CLOCK = r"((?:[01]\d|2[0-3]):\d\d:\d\d)(?:\.(\d+))?"
_TIME = re.compile(_CLOCK, re.ASCII)
_TIMESTAMP = re.compile(rf"(\d{{4}}-\d\d-\d\d)[Tt ]{_CLOCK}([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _microseconds(fraction: str | None) -> str:
    digits = (fraction or "").rstrip("0")
    if len(digits) > 6:
        raise ValueError("must not be finer than a microsecond")
    return digits.ljust(6, "0")


class Date(ColumnType[dt.date]):
    """A date in the years 1 to 9999."""

    impl = sa.Date

    def check(self, value: Any) -> dt.date:
        if not isinstance(value, dt.date) or isinstance(value, dt.datetime):
            raise ValueError("must be a date")
        return dt.date(value.year, value.month, value.day)

    def from_json(self, value: Any) -> dt.date:
        if not isinstance(value, str) or not _DATE.fullmatch(value):
            raise ValueError('must be a date like "2024-01-31"')
        try:
            return dt.date.fromisoformat(value)
        except ValueError:
            raise ValueError("must be a day of the calendar, in the years 1 to 9999") from None

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "date"}

    def example(self, number: int) -> str:
        return (dt.date(2024, 1, 1) + dt.timedelta(days=number % 365)).isoformat()


class Time(ColumnType[dt.time]):
    """A time of day without a time zone, with microseconds."""

    impl = sa.Time

    def check(self, value: Any) -> dt.time:
        if not isinstance(value, dt.time) or value.tzinfo is not None:
            raise ValueError("must be a time of day without an offset")
        return dt.time(value.hour, value.minute, value.second, value.microsecond)

    def from_json(self, value: Any) -> dt.time:
        if not isinstance(value, str) or not (found := _TIME.fullmatch(value)):
            raise ValueError('must be a time of day like "13:45:00" or "13:45:00.000001", without an offset')
        fraction = _microseconds(found[2])
        try:
            return dt.time.fromisoformat(f"{found[1]}.{fraction}")
        except ValueError:
            raise ValueError("must be a time between 00:00:00 and 23:59:59.999999") from None

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": r"^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?$"}

    def example(self, number: int) -> str:
        return f"13:45:{number % 60:02}"


class Timestamp(ColumnType[dt.datetime]):
    """A timestamp, stored and returned in UTC, with microseconds."""

    impl = sa.DateTime

    def check(self, value: Any) -> dt.datetime:
        if not isinstance(value, dt.datetime):
            raise ValueError("must be a timestamp")
        if type(value) is dt.datetime and value.tzinfo is dt.UTC and not value.fold:
            return value
        if value.utcoffset() is None:
            raise ValueError("must have an offset from UTC")
        plain = dt.datetime.combine(value.date(), value.timetz())
        if plain != value:  # a subclass with nanoseconds
            raise ValueError("must not be finer than a microsecond")
        if plain.tzinfo is dt.UTC:
            return plain.replace(fold=0)
        try:
            return plain.astimezone(dt.UTC)
        except OverflowError:
            raise ValueError("must lie in the years 1 to 9999 in UTC") from None

    def from_json(self, value: Any) -> dt.datetime:
        if not isinstance(value, str) or not (found := _TIMESTAMP.fullmatch(value)):
            raise ValueError('must be a timestamp with an offset (RFC 3339), like "2024-01-31T13:45:00Z"')
        fraction = _microseconds(found[3])
        offset = "+00:00" if found[4] in "Zz" else found[4]
        try:
            return self.check(dt.datetime.fromisoformat(f"{found[1]}T{found[2]}.{fraction}{offset}"))
        except ValueError as error:
            if "UTC" in str(error):
                raise
            raise ValueError("must be a point in time of the calendar, in the years 1 to 9999") from None

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "date-time"}

    def example(self, number: int) -> str:
        return f"2024-01-31T13:45:{number % 60:02}.000001Z"
