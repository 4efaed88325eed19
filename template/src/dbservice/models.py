"""The API's models, derived from the tables: rows that go out, bodies that come in.

A class names its table and has its columns: `class UserRow(Row, table=users)`. A column whose name Python or pydantic
keeps for itself (`class`, `json`, `copy`) is the attribute with `_` after it; in JSON it keeps its name."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import msgspec
import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic._internal._model_construction import ModelMetaclass
from pydantic_core import PydanticCustomError, core_schema

from .schema import AUTOMATIC, default_of, has_default, public, python_name
from .types import ColumnType


class _RowMeta(msgspec.StructMeta):
    def __new__(
        mcs,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        table: sa.Table | None = None,
        **options: Any,
    ) -> type:
        if table is not None:
            names = {column.name: python_name(column.name, bases[0]) for column in public(table)}
            namespace["__annotations__"] = dict.fromkeys(names.values(), Any) | namespace.get(
                "__annotations__", {}
            )
            options["rename"] = {attribute: str(column) for column, attribute in names.items()}
        cls: Any = super().__new__(mcs, name, bases, namespace, frozen=True, **options)
        if table is not None:
            cls.__table__ = table
        return cls  # type: ignore[no-any-return]


class Row(msgspec.Struct, metaclass=_RowMeta):
    """A row as the API answers it. With `table=`, every column of the table but the secret ones; without, the fields
    that the class declares, for a query of its own."""

    __table__: ClassVar[sa.Table | None] = None

    if TYPE_CHECKING:

        def __init__(self, *values: Any, **columns: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...
        def __init_subclass__(cls, *, table: sa.Table | None = None) -> None: ...

    @classmethod
    def columns(cls) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return cls.__struct_encode_fields__

    @classmethod
    def of(cls: "type[R]", values: Mapping[str, Any]) -> "R":
        """The row that holds `values`, a mapping by column; what is not a column of the row is left out."""
        return cls(*[values[column] for column in cls.columns()])

    @classmethod
    def documented(cls) -> type[BaseModel]:
        """A pydantic model of the same shape, for OpenAPI only."""
        fields: dict[str, Any] = {}
        if cls.__table__ is not None:
            for column, attribute in zip(cls.columns(), cls.__struct_fields__, strict=True):
                shape = _Shape(cls.__table__.columns[column])
                kind = Any if not shape.column.nullable else Any | None
                fields[_field(attribute)] = (_annotated(kind, shape), Field(alias=column))
        else:
            hints = msgspec.structs.fields(cls)
            fields = {_field(f.name): (f.type, Field(alias=f.encode_name)) for f in hints}
        config = ConfigDict(protected_namespaces=())
        return create_model(cls.__name__, __doc__=cls.__doc__, __config__=config, **fields)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        from .http.openapi import row_core_schema  # pydantic asks for it where a row stands in a model

        return row_core_schema(cls)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        from .http.openapi import row_json_schema

        return row_json_schema(cls, handler)


R = TypeVar("R", bound=Row)


class Page(msgspec.Struct, Generic[R]):
    """A page of a list: its rows, and the id to give as `after` for the next page (None at the end)."""

    items: list[R]
    next: int | None


class _Shape:
    """What pydantic knows of a column: how to take its value out of JSON, and its JSON Schema."""

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


def _annotated(kind: Any, shape: _Shape) -> Any:
    from typing import Annotated

    return Annotated[kind, shape]


def _field(attribute: str) -> str:
    return (
        attribute if not hasattr(BaseModel, attribute) and not attribute.startswith("_") else f"{attribute}_"
    )


class _BodyMeta(ModelMetaclass):
    def __new__(
        mcs,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        table: sa.Table | None = None,
        **options: Any,
    ) -> type:
        if table is not None:
            base: Any = bases[0]
            annotations = namespace.setdefault("__annotations__", {})
            written = [column for column in table.columns if column.name not in AUTOMATIC]
            names = {column.name: python_name(column.name, base) for column in written}
            for column in written:
                attribute = names[column.name]
                annotations.setdefault(attribute, _annotated(Any, _Shape(column)))
                namespace.setdefault(attribute, base._field_of(column))
            namespace["_columns"] = tuple((attribute, column) for column, attribute in names.items())
        return super().__new__(mcs, name, bases, namespace, **options)


class _Body(BaseModel, metaclass=_BodyMeta):
    model_config = ConfigDict(
        extra="forbid", protected_namespaces=(), populate_by_name=False, hide_input_in_errors=True
    )
    _columns: ClassVar[tuple[tuple[str, str], ...]] = ()

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...
        def __init_subclass__(cls, *, table: sa.Table | None = None) -> None: ...

    def sent(self) -> dict[str, Any]:
        """What the client named, by column."""
        named, held = self.model_fields_set, self.__dict__
        return {column: held[attribute] for attribute, column in self._columns if attribute in named}

    def __repr_args__(self) -> Any:
        return ()  # a body may hold secrets: no log shows it by accident

    @staticmethod
    def _field_of(column: sa.Column[Any]) -> Any:
        raise NotImplementedError


class Create(_Body):
    """What a client sends to create a row. `sent()` is what it named, defaults are filled in by the write."""

    @staticmethod
    def _field_of(column: sa.Column[Any]) -> Any:
        about: dict[str, Any] = {"alias": column.name}
        if column.info.get("secret"):
            about["json_schema_extra"] = {"writeOnly": True}
        elif has_default(column):
            about["json_schema_extra"] = {"default": getattr(column.default, "arg", None)}
        if has_default(column):
            return Field(default_factory=lambda: default_of(column), **about)
        return Field(default=None, **about) if column.nullable else Field(**about)


class Patch(_Body):
    """What a client sends to change a row: only what it names."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 0})

    @staticmethod
    def _field_of(column: sa.Column[Any]) -> Any:
        about: dict[str, Any] = {"alias": column.name}
        if column.info.get("secret"):
            about["json_schema_extra"] = {"writeOnly": True}
        return Field(default=None, **about)
