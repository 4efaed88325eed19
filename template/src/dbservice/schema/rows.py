"""Rows of responses, with the columns of a table or with declared fields."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Generic, TypeVar, dataclass_transform

import msgspec
import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic_core import PydanticCustomError, core_schema

from ..types import ColumnType
from .columns import ColumnDescriptor, Declared


def split_bases(name: str, bases: tuple[type, ...]) -> tuple[type[Declared] | None, tuple[type, ...]]:
    """The table class among the bases of a row or body, and the other bases, without which it is created. Raises TypeError."""
    tables = [base for base in bases if issubclass(base, Declared)]
    if len(tables) > 1:
        raise TypeError(f"{name}: name one table, not {' and '.join(table.__name__ for table in tables)}")
    if tables and not hasattr(tables[0], "__table__"):
        raise TypeError(f"{name}: {tables[0].__name__} has no table: it was given no name")
    return (tables[0] if tables else None), tuple(base for base in bases if base not in tables)


class _AnyInstance(type):
    def __instancecheck__(cls, value: object) -> bool:
        return True


class _ColumnValue(metaclass=_AnyInstance):
    """The type of a column's attribute, for msgspec: any value of the column. msgspec decodes it with `decode_column`."""

    column: ClassVar[sa.Column[Any]]


def _column_value(column: ColumnDescriptor[Any]) -> type[_ColumnValue]:
    made: Any = _AnyInstance(column.name, (_ColumnValue,), {"column": column.column})
    return made  # type: ignore[no-any-return]


def decode_column(kind: type, value: Any) -> Any:
    """The `dec_hook` of msgspec for rows: a column's value in the format of the API. Raises ValueError."""
    if not issubclass(kind, _ColumnValue):
        raise NotImplementedError(f"a {kind.__name__} cannot be decoded")
    column_type: sa.types.TypeEngine[Any] = kind.column.type
    assert isinstance(column_type, ColumnType)
    return None if value is None and kind.column.nullable else column_type.from_json(value)


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class _RowMeta(msgspec.StructMeta):
    def __new__(
        mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any
    ) -> "_RowMeta":
        table, bases = split_bases(name, bases)
        if table is not None:
            columns = [each for each in table.__columns__.values() if each.on_rows]
            own = namespace.get("__annotations__", {})
            namespace["__annotations__"] = {each.attribute: _column_value(each) for each in columns} | own
            options["rename"] = {each.attribute: each.name for each in columns}
        cls: Any = super().__new__(mcs, name, bases, namespace, frozen=True, **options)
        if table is not None:
            cls.__source__ = table.__table__
        return cls  # type: ignore[no-any-return]


class Row(msgspec.Struct, metaclass=_RowMeta):
    """A row of a response. `class UserRow(Users, Row)` has every column of the table except secret ones; without a table it
    has the fields that the class declares."""

    __source__: ClassVar[sa.Table | None] = None

    @classmethod
    def columns(cls) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return cls.__struct_encode_fields__

    @classmethod
    def from_mapping(cls: "type[R]", values: Mapping[str, Any]) -> "R":
        """The row with `values`, a mapping by column name; other keys are ignored.

        Raises KeyError for a missing column."""
        return cls(*[values[column] for column in cls.columns()])

    @classmethod
    def openapi_model(cls) -> type[BaseModel]:
        """A pydantic model of the same shape, for OpenAPI only."""
        fields: dict[str, Any] = {}
        for field in msgspec.structs.fields(cls):
            kind = field.type
            if cls.__source__ is not None and field.encode_name in cls.__source__.columns:
                column = cls.__source__.columns[field.encode_name]
                kind = Annotated[Any | None if column.nullable else Any, ColumnSchema(column)]
            fields[_model_field(field.name)] = (kind, Field(alias=field.encode_name))
        config = ConfigDict(protected_namespaces=())
        return create_model(cls.__name__, __doc__=cls.__doc__, __config__=config, **fields)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        found: core_schema.CoreSchema = _in_models["core"](cls)
        return found

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        found: dict[str, Any] = _in_models["json"](cls, handler)
        return found


_in_models: dict[str, Callable[..., Any]] = {}


def register_row_schemas(core: Callable[..., Any], json: Callable[..., Any]) -> None:
    """Let pydantic use `core(row)` and `json(row, handler)` for rows that are parts of models: `http` registers how it
    encodes them."""
    _in_models.update(core=core, json=json)


R = TypeVar("R", bound=Row)


class Page(msgspec.Struct, Generic[R]):
    """A page of a list: its rows, and the id to pass as `after` for the next page (None at the end)."""

    items: list[R]
    next: int | None


class ColumnSchema:
    """A column for pydantic: its validation and its JSON Schema."""

    def __init__(self, column: sa.Column[Any]) -> None:
        self.column = column

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        column_type, nullable = self.column.type, self.column.nullable
        assert isinstance(column_type, ColumnType)
        convert = column_type.from_json

        def take(value: Any) -> Any:
            if value is None:
                if nullable:
                    return None
                raise PydanticCustomError("bad_value", "must not be null")
            try:
                return convert(value)
            except ValueError as error:
                raise PydanticCustomError("bad_value", "{sentence}", {"sentence": str(error)}) from None

        return core_schema.no_info_plain_validator_function(take)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        column_type = self.column.type
        assert isinstance(column_type, ColumnType)
        answer = handler.mode == "serialization"
        shape = column_type.answer_schema() if answer else column_type.json_schema()
        if not answer:
            shape = {**shape, "examples": [column_type.example(1)]}
        return {"anyOf": [shape, {"type": "null"}]} if self.column.nullable else shape


def _model_field(attribute: str) -> str:
    # only the alias is visible; a declared field may have a name that pydantic reserves
    return f"{attribute}_" if hasattr(BaseModel, attribute) or attribute.startswith("_") else attribute
