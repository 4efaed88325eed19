"""Request bodies for creating and changing rows."""

from typing import Annotated, Any, ClassVar

import sqlalchemy as sa
from msgspec import UnsetType
from pydantic import BaseModel, ConfigDict, Field
from pydantic._internal._model_construction import ModelMetaclass

from .columns import ColumnDescriptor, default_of, has_default, is_secret
from .rows import ColumnSchema, split_bases


class _BodyMeta(ModelMetaclass):
    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> type:
        table, bases = split_bases(name, bases)
        if table is not None:
            base: Any = next(base for base in bases if issubclass(base, Body))
            if (access := table.__table__.info.get("access")) is not None and not access.writes:
                raise TypeError(
                    f'{name}: {table.__name__} has access="{access.mode}" in access.py, so nothing writes it'
                )
            annotations = namespace.setdefault("__annotations__", {})
            taken = {each.attribute: each.column for each in table.__columns__.values() if base._takes(each)}
            for attribute, column in taken.items():
                annotations.setdefault(attribute, Annotated[Any, ColumnSchema(column)])
                namespace.setdefault(attribute, base._field_of(column))
            namespace["_columns"] = tuple((attribute, column.name) for attribute, column in taken.items())
            namespace["_generated"] = frozenset(
                attribute
                for attribute, column in taken.items()
                if base._fills_in and "default_factory" in column.info
            )
        return super().__new__(mcs, name, bases, namespace, **options)


class Body(BaseModel, metaclass=_BodyMeta):
    """A request body: unknown fields are rejected, and its repr shows no values, so that logs contain none."""

    model_config = ConfigDict(
        extra="forbid", protected_namespaces=(), populate_by_name=False, hide_input_in_errors=True
    )
    _columns: ClassVar[tuple[tuple[str, str], ...]] = ()
    _generated: ClassVar[frozenset[str]] = frozenset()
    _fills_in: ClassVar[bool] = False

    def changes(self) -> dict[str, Any]:
        """The values that the client sent, by column name; for a create, also those of a `default_factory`."""
        named, held = self.model_fields_set, self.__dict__
        if self._generated:
            named = named | self._generated
        return {column: held[attribute] for attribute, column in self._columns if attribute in named}

    def __repr_args__(self) -> Any:
        return ()

    @staticmethod
    def _takes(column: ColumnDescriptor[Any]) -> bool:
        raise NotImplementedError

    @staticmethod
    def _field_of(column: sa.Column[Any]) -> Any:
        raise NotImplementedError


class Create(Body):
    """The request body that creates a row. Omitted columns have their defaults, which the write fills in."""

    _fills_in: ClassVar[bool] = True

    @staticmethod
    def _takes(column: ColumnDescriptor[Any]) -> bool:
        return column.on_creates

    @staticmethod
    def _field_of(column: sa.Column[Any]) -> Any:
        about = _about(column)
        if "json_schema_extra" not in about and "default" in column.info:
            about["json_schema_extra"] = {"default": getattr(column.default, "arg", None)}
        if has_default(column):
            return Field(default_factory=lambda: default_of(column), **about)
        return Field(default=None, **about) if column.nullable else Field(**about)


class Patch(Body):
    """The request body that changes a row: an omitted column is UNSET."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 0})

    @staticmethod
    def _takes(column: ColumnDescriptor[Any]) -> bool:
        return column.on_patches

    @staticmethod
    def _field_of(column: sa.Column[Any]) -> Any:
        # UnsetType() returns UNSET; as a plain default, UNSET would have to be encoded in the JSON Schema
        return Field(default_factory=UnsetType, **_about(column))


def _about(column: sa.Column[Any]) -> dict[str, Any]:
    """What OpenAPI says of the field besides its type."""
    about: dict[str, Any] = {"alias": column.name}
    if is_secret(column):
        about["json_schema_extra"] = {"writeOnly": True}
    elif "only" in column.info:
        about["json_schema_extra"] = {"const": column.info["only"], "examples": [column.info["only"]]}
    return about
