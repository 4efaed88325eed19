"""What every column type is, and how an engine declares and converts it."""

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
    """What an engine says about the column types; implemented by the codec of each backend."""

    def column_type(self, column: "ColumnType", dialect: sa.Dialect) -> sa.types.TypeEngine[Any]: ...
    def to_driver(self, column: "ColumnType") -> Callable[[Any], Any] | None: ...
    def from_driver(self, column: "ColumnType") -> Callable[[Any], Any] | None: ...
    def literal(self, column: "ColumnType", value: Any) -> str: ...
    def default(self, column: "ColumnType", value: Any) -> str: ...


_codecs: dict[str, Codec] = {}


def register(name: str, codec: Codec) -> None:
    """Make SQLAlchemy's dialect `name` declare and convert our types as `codec` says."""
    _codecs[name] = codec


class ColumnType(sa.types.TypeDecorator[T], Generic[T]):
    """A type of column whose values are `T` in Python. `check` takes Python values, `from_json` those of the API; both
    answer the one Python value that every engine holds exactly, or raise `ValueError` with a sentence."""

    impl: Any = sa.types.NullType
    name = None
    """Alembic asks types that bring a constraint for its name."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.cache_ok = False  # asked of each class; a key made of it would take two enums for one

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        if dialect.name not in _codecs:  # the default dialect: printing a statement
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

    def literal_processor(self, dialect: sa.Dialect) -> Callable[[Any], str]:
        engine = _codecs[dialect.name]
        return lambda value: "NULL" if value is None else engine.literal(self, self.check(value))

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        return self

    def check(self, value: Any) -> T:
        """The one Python value every engine holds for `value`. Raises ValueError with a sentence."""
        raise NotImplementedError

    def parameter(self, value: Any) -> T:
        """The same for a value that is only compared with the column's."""
        return self.check(value)

    def from_json(self, value: Any) -> T:
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
    words = _codecs[compiler.dialect.name].default(element.column, element.value)
    return f"({words.replace('%', '%%') if compiler.preparer._double_percents else words})"


def copy_default(value: Any) -> Any:
    """A default that may be handed out: JSON defaults are mutable, so each row gets its own."""
    return copy.deepcopy(value) if isinstance(value, dict | list) else value
