"""The base class of the column types, and the interface by which an engine declares and converts them."""

import copy
from collections.abc import Callable
from typing import Any, Generic, Protocol

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ColumnElement
from typing_extensions import TypeVar

INT32 = 2**31 - 1
INT64 = 2**63 - 1

T = TypeVar("T", default=Any)


class Codec(Protocol):
    """How an engine declares and converts the column types; implemented by each backend."""

    def column_type(self, column: "ColumnType", dialect: sa.Dialect) -> sa.types.TypeEngine[Any]: ...
    def to_driver(self, column: "ColumnType") -> Callable[[Any], Any] | None: ...
    def from_driver(self, column: "ColumnType") -> Callable[[Any], Any] | None: ...
    def literal(self, column: "ColumnType", value: Any) -> str: ...
    def default(self, column: "ColumnType", value: Any) -> str: ...


_codecs: dict[str, Codec] = {}


def register(name: str, codec: Codec) -> None:
    """Use `codec` for the column types in SQLAlchemy's dialect `name`."""
    _codecs[name] = codec


class ColumnType(sa.types.TypeDecorator[T], Generic[T]):
    """A column type with Python values of type `T`. `check` validates Python values, `from_json` values of the API's JSON;
    both return the normalized value, which every engine stores exactly, or raise ValueError with a sentence."""

    impl: Any = sa.types.NullType
    name = None
    """Alembic reads it from types that have a constraint."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.cache_ok = False  # SQLAlchemy reads it per class; with caching, two enums would share a cache key

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        if dialect.name not in _codecs:  # the default dialect, for printing statements
            return sa.types.String()
        return _codecs[dialect.name].column_type(self, dialect)

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        if value is None:
            return None
        encode = _codecs[dialect.name].to_driver(self)
        value = self.check(value)
        return encode(value) if encode else value

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
        decode = _codecs[dialect.name].from_driver(self)
        return value if value is None or decode is None else decode(value)

    def literal_processor(self, dialect: sa.Dialect) -> Callable[[Any], str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        engine = _codecs[dialect.name]
        return lambda value: "NULL" if value is None else engine.literal(self, self.check(value))

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        return self

    def check(self, value: Any) -> T:
        """`value`, normalized to what every engine stores exactly. Raises ValueError with a sentence."""
        raise NotImplementedError

    def parameter(self, value: Any) -> T:
        """The same for a value that is only compared with the column."""
        return self.check(value)

    def from_json(self, value: Any) -> T:
        """The same for a value in the format of the API's JSON."""
        return self.check(value)

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of the values that `from_json` accepts (OpenAPI 3.1)."""
        raise NotImplementedError

    def answer_schema(self) -> dict[str, Any]:
        """The JSON Schema of the values in responses."""
        return self.json_schema()

    def example(self, number: int) -> Any:
        """Example `number`, in the format of the API's JSON; different for each number if the type allows it."""
        raise NotImplementedError

    def default(self, value: Any) -> "Default":
        """The server default of a column, from a value in the format of the API's JSON."""
        return Default(self, self.from_json(value), value)


class Default(ColumnElement[Any]):
    """A server default, rendered by each dialect."""

    inherit_cache = False

    def __init__(self, column: ColumnType, value: Any, written: Any) -> None:
        self.type = column
        self.column, self.value, self.written = column, value, written


@compiles(Default)
def _default(element: Default, compiler: Any, **_: Any) -> str:
    sql = _codecs[compiler.dialect.name].default(element.column, element.value)
    return sql.replace("%", "%%") if compiler.preparer._double_percents else sql


def copy_default(value: Any) -> Any:
    """A copy of a default if it is mutable (JSON), so that rows do not share it."""
    return copy.deepcopy(value) if isinstance(value, dict | list) else value
