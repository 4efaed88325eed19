"""The column types: which Python values a column holds, how the API's JSON writes them, what is refused.

Nothing here knows an engine. How a type is declared and travels on PostgreSQL, MySQL, MariaDB or SQLite stands
in `engines/`, one file each, and arrives through `register`.
"""

import base64
import binascii
import copy
import datetime as dt
import math
import re
import uuid
from collections.abc import Callable
from decimal import ROUND_DOWN, Context, Decimal, Inexact, InvalidOperation
from typing import Any, Protocol

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import operators
from sqlalchemy.sql.expression import ColumnElement

INT32 = 2**31 - 1
INT64 = 2**63 - 1


class Dialect(Protocol):
    """What an engine says about the column types; implemented by each file of `engines/`."""

    def column_type(self, column: "ColumnType", dialect: sa.Dialect) -> sa.types.TypeEngine[Any]: ...
    def to_driver(self, column: "ColumnType") -> Callable[[Any], Any] | None: ...
    def from_driver(self, column: "ColumnType") -> Callable[[Any], Any] | None: ...
    def literal(self, column: "ColumnType", value: Any) -> str: ...
    def default(self, column: "ColumnType", value: Any) -> str: ...


_dialects: dict[str, Dialect] = {}


def register(name: str, dialect: Dialect) -> None:
    """Make SQLAlchemy's dialect `name` declare and convert our types as `dialect` says."""
    _dialects[name] = dialect


class ColumnType(sa.types.TypeDecorator[Any]):
    """A type of column. `check` takes Python values, `from_json` those of the API; both answer the one Python
    value that every engine holds exactly, or raise `ValueError` with a sentence."""

    impl: Any = sa.types.NullType
    name = None
    """Alembic asks types that bring a constraint for its name."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.cache_ok = False  # asked of each class; a key made of it would take two enums for one

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        if dialect.name not in _dialects:  # the default dialect: printing a statement
            return sa.types.String()
        return _dialects[dialect.name].column_type(self, dialect)

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        if value is None:
            return None
        encode = _dialects[dialect.name].to_driver(self)
        value = self.check(value)
        return encode(value) if encode else value

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
        decode = _dialects[dialect.name].from_driver(self)
        return value if value is None or decode is None else decode(value)

    def literal_processor(self, dialect: sa.Dialect) -> Callable[[Any], str]:
        engine = _dialects[dialect.name]
        return lambda value: "NULL" if value is None else engine.literal(self, self.check(value))

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        return self

    def check(self, value: Any) -> Any:
        """The one Python value every engine holds for `value`. Raises ValueError with a sentence."""
        raise NotImplementedError

    def parameter(self, value: Any) -> Any:
        """The same for a value that is only compared with the column's."""
        return self.check(value)

    def from_json(self, value: Any) -> Any:
        """The same for a value as the API's JSON writes it."""
        return self.check(value)

    def json_schema(self) -> dict[str, Any]:
        """JSON Schema of what `from_json` takes (OpenAPI 3.1)."""
        raise NotImplementedError

    def answer_schema(self) -> dict[str, Any]:
        """JSON Schema of what the API answers."""
        return self.json_schema()

    def example(self, number: int) -> Any:
        """The `number`-th example, as the API's JSON writes it; different numbers differ where the type can."""
        raise NotImplementedError

    def default(self, value: Any) -> "Default":
        """The column's DEFAULT in the server, from a value as the API's JSON writes it."""
        return Default(self, self.from_json(value), value)


class Default(ColumnElement[Any]):
    """A server default that each dialect writes in its own words; the parentheses let MySQL take it for every type."""

    inherit_cache = False

    def __init__(self, column: ColumnType, value: Any, written: Any) -> None:
        self.type = column
        self.column, self.value, self.written = column, value, written


@compiles(Default)
def _default(element: Default, compiler: Any, **_: Any) -> str:
    words = _dialects[compiler.dialect.name].default(element.column, element.value)
    return f"({words.replace('%', '%%') if compiler.preparer._double_percents else words})"


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string")
    text = str.__str__(value)  # str() of an enum's member would be its name
    if "\0" in text:
        raise ValueError("must not contain the character NUL (U+0000)")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain half of a surrogate pair") from None
    return text


class String(ColumnType):
    """Text of up to `length` code points, compared, sorted and unique by code point."""

    impl = sa.String
    indexed = False
    """Whether an index holds it, which on PostgreSQL takes 2700 bytes at most (a third of a page)."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length

    def __repr__(self) -> str:
        return f"String({self.length})"

    def check(self, value: Any) -> str:
        text = _text(value)
        if len(text) > self.length:
            raise ValueError(f"must have at most {self.length} characters, has {len(text)}")
        if self.indexed and len(text) > 675 and len(text.encode()) > 2700:
            raise ValueError("must have at most 2700 bytes in UTF-8, for its index")
        return text

    def parameter(self, value: Any) -> str:
        return _text(value)  # a pattern may be longer than what it finds

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "maxLength": self.length}

    def example(self, number: int) -> str:
        return f"example {number}"[-self.length :]


class Text(ColumnType):
    """Text of any length."""

    impl = sa.Text

    def check(self, value: Any) -> str:
        return _text(value)

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string"}

    def example(self, number: int) -> str:
        return f"A longer example, number {number}."


class Enum(ColumnType):
    """One of the given strings; a CHECK constraint holds it in the database too (see `check_constraint`)."""

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
        return _text(value)

    def check_constraint(self, column: str, name: Any = None) -> sa.CheckConstraint:
        """CHECK that `column` holds one of the values, in the words of each engine."""
        return EnumCheck(self, column, name)

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.values)}

    def example(self, number: int) -> str:
        return self.values[number % len(self.values)]


class EnumCheck(sa.CheckConstraint):
    """The CHECK of an enum column, which Alembic writes as `types.Enum(...).check_constraint(...)`."""

    def __init__(self, column_type: Enum, column: str, name: Any) -> None:
        super().__init__(sa.column(column, column_type).in_(column_type.values), name=name)
        self.column_type, self.column_name = column_type, column

    def _copy(self, **options: Any) -> "EnumCheck":
        # Alembic works on copies, and SQLAlchemy's would be a plain CheckConstraint
        return self._schema_item_copy(EnumCheck(self.column_type, self.column_name, self.name))


class _Whole(ColumnType):
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


class Boolean(ColumnType):
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


class Numeric(ColumnType):
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


class Float(ColumnType):
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


_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
# 24:00:00 is a time of the next day, which newer Pythons take and older ones refuse
_CLOCK = r"((?:[01]\d|2[0-3]):\d\d:\d\d)(?:\.(\d+))?"
_TIME = re.compile(_CLOCK, re.ASCII)
_TIMESTAMP = re.compile(rf"(\d{{4}}-\d\d-\d\d)[Tt ]{_CLOCK}([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _microseconds(fraction: str | None) -> str:
    digits = (fraction or "").rstrip("0")
    if len(digits) > 6:
        raise ValueError("must not be finer than a microsecond")
    return digits.ljust(6, "0")


class Date(ColumnType):
    """A day of the years 1 to 9999."""

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


class Time(ColumnType):
    """A time of day without a zone, to the microsecond."""

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


class Timestamp(ColumnType):
    """A point in time, kept and answered in UTC, to the microsecond."""

    impl = sa.DateTime

    def check(self, value: Any) -> dt.datetime:
        if not isinstance(value, dt.datetime):
            raise ValueError("must be a timestamp")
        if type(value) is dt.datetime and value.tzinfo is dt.UTC and not value.fold:
            return value
        if value.utcoffset() is None:
            raise ValueError("must have an offset from UTC")
        plain = dt.datetime.combine(value.date(), value.timetz())
        if plain != value:  # a subclass that counts nanoseconds
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


class JSON(ColumnType):
    """Any JSON value but null at the top (that is the column's NULL). Numbers are 64-bit integers or doubles."""

    impl = sa.JSON

    def check(self, value: Any) -> Any:
        if value is None:
            raise ValueError("must not be null")
        return self._plain(value, 0)

    def _plain(self, value: Any, depth: int) -> Any:
        match value:
            case list() | tuple() | dict() if depth == 64:
                raise ValueError("must not be nested deeper than 64 levels")
            case None | bool():
                return value
            case str():
                return _text(value)
            case int():
                if not -INT64 - 1 <= value <= INT64:
                    raise ValueError("must hold whole numbers of at most 64 bits")
                return int(value)
            case float():
                if not math.isfinite(value):
                    raise ValueError("must hold finite numbers")
                return float(value)
            case list() | tuple():
                return [self._plain(item, depth + 1) for item in value]
            case dict():
                return {_text(key): self._plain(item, depth + 1) for key, item in value.items()}
        raise ValueError(f"must be JSON, not {type(value).__name__}")

    @staticmethod
    def dumps(value: Any) -> str:
        """The text every engine keeps to the letter."""
        return msgspec.json.encode(value).decode()

    @staticmethod
    def loads(text: str) -> Any:
        return msgspec.json.decode(text)

    def json_schema(self) -> dict[str, Any]:
        return {"type": ["object", "array", "string", "number", "boolean"]}

    def example(self, number: int) -> Any:
        return {"number": number, "nested": [1.5, "text", None, True]}


class Uuid(ColumnType):
    """A UUID."""

    impl = sa.Uuid

    def check(self, value: Any) -> uuid.UUID:
        if not isinstance(value, uuid.UUID):
            raise ValueError("must be a UUID")
        return uuid.UUID(int=value.int)

    def from_json(self, value: Any) -> uuid.UUID:
        if not isinstance(value, str) or not re.fullmatch(
            r"(?a:[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})", value
        ):
            raise ValueError('must be a UUID like "123e4567-e89b-12d3-a456-426614174000"')
        return uuid.UUID(value)

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "uuid"}

    def example(self, number: int) -> str:
        return str(uuid.UUID(int=0x123E4567E89B12D3A456 << 48 | number))


class Binary(ColumnType):
    """Bytes; base64 in JSON."""

    impl = sa.LargeBinary

    def check(self, value: Any) -> bytes:
        if not isinstance(value, bytes | bytearray | memoryview):
            raise ValueError("must be bytes")
        return bytes(value)

    def from_json(self, value: Any) -> bytes:
        try:
            data = base64.b64decode(value, validate=True) if isinstance(value, str) else None
        except (binascii.Error, ValueError):
            data = None
        if data is None or base64.b64encode(data).decode() != value:
            raise ValueError("must be a string of base64 (RFC 4648, with padding)")
        return data

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "contentEncoding": "base64"}

    def example(self, number: int) -> str:
        return base64.b64encode(f"example {number}".encode()).decode()


def fresh(value: Any) -> Any:
    """A default that may be handed out: JSON defaults are mutable, so each row gets its own."""
    return copy.deepcopy(value) if isinstance(value, dict | list) else value
