"""The columns of a table class, and the type of each on the table, on a row and on a body.

|               | table class  | row   | create | patch      |
| PublicColumn  | sa.Column[T] | T     | T      | T or UNSET |
| SecretColumn  | sa.Column[T] | error | T      | T or UNSET |
| KeyColumn     | sa.Column[T] | T     | T      | error      |
| ManagedColumn | sa.Column[T] | T     | error  | error      |
"""

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, overload

import sqlalchemy as sa
from msgspec import UnsetType

from ..types import BigInteger, ColumnType, Id, Integer, copy_default

if TYPE_CHECKING:
    from .bodies import Create, Patch
    from .rows import Row

    NotATable = type[Row] | type[Create] | type[Patch]

T = TypeVar("T")


class ColumnDescriptor(Generic[T]):
    """A column of a table class. `column` is the SQLAlchemy column; only a class with a table has one."""

    on_rows: ClassVar[bool] = True
    on_creates: ClassVar[bool] = True
    on_patches: ClassVar[bool] = True

    column: sa.Column[T]

    def __init__(self, type_: ColumnType[Any], *items: Any, name: str | None = None, **options: Any) -> None:
        self.type, self.items, self.options = type_, items, options
        self.name = name or ""
        self.attribute = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.attribute = name
        self.name = self.name or name

    if not TYPE_CHECKING:

        def __get__(self, instance: object, owner: type) -> Any:
            try:
                return self.column
            except AttributeError:
                raise AttributeError(f"{owner.__name__} has no table: it was given no name") from None

    def bound(self) -> "ColumnDescriptor[T]":
        """A copy with a new SQLAlchemy column: tables must not share types or foreign keys."""
        bound = copy.copy(self)
        items = [item._copy() for item in self.items]
        bound.column = sa.Column(self.name, self.type.copy(), *items, **self.options)
        return bound


class InstanceAttribute:
    """The type of a column on a row or body class, for type checkers: it cannot be used in a statement."""


class PublicColumn(ColumnDescriptor[T]):
    """A column that the API accepts and returns."""

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: NotATable) -> InstanceAttribute: ...
        @overload
        def __get__(self, instance: None, owner: type[Any]) -> sa.Column[T]: ...
        @overload
        def __get__(self, instance: Patch, owner: type[Any]) -> T | UnsetType: ...
        @overload
        def __get__(self, instance: Create | Row, owner: type[Any]) -> T: ...
        def __get__(self, instance: Any, owner: type[Any]) -> Any: ...
        @overload
        def __set__(self, instance: Patch, value: T | UnsetType) -> None: ...
        @overload
        def __set__(self, instance: Create, value: T) -> None: ...
        def __set__(self, instance: Any, value: Any) -> None: ...


class SecretColumn(ColumnDescriptor[T]):
    """A column that the API accepts and never returns."""

    on_rows = False

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: NotATable) -> InstanceAttribute: ...
        @overload
        def __get__(self, instance: None, owner: type[Any]) -> sa.Column[T]: ...
        @overload
        def __get__(self, instance: Patch, owner: type[Any]) -> T | UnsetType: ...
        @overload
        def __get__(self, instance: Create, owner: type[Any]) -> T: ...
        def __get__(self, instance: Any, owner: type[Any]) -> Any: ...
        @overload
        def __set__(self, instance: Patch, value: T | UnsetType) -> None: ...
        @overload
        def __set__(self, instance: Create, value: T) -> None: ...
        def __set__(self, instance: Any, value: Any) -> None: ...


class KeyColumn(ColumnDescriptor[T]):
    """A primary key column that the client sends in a create and that cannot be changed."""

    on_patches = False

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: NotATable) -> InstanceAttribute: ...
        @overload
        def __get__(self, instance: None, owner: type[Any]) -> sa.Column[T]: ...
        @overload
        def __get__(self, instance: Create | Row, owner: type[Any]) -> T: ...
        def __get__(self, instance: Any, owner: type[Any]) -> Any: ...
        def __set__(self, instance: Create, value: T) -> None: ...


class ManagedColumn(ColumnDescriptor[T]):
    """A column that no client writes: `id`, `created_at`, `updated_at`."""

    on_creates = on_patches = False

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: NotATable) -> InstanceAttribute: ...
        @overload
        def __get__(self, instance: None, owner: type[Any]) -> sa.Column[T]: ...
        @overload
        def __get__(self, instance: Row, owner: type[Any]) -> T: ...
        def __get__(self, instance: Any, owner: type[Any]) -> Any: ...


@overload
def Column(
    type_: ColumnType[T],
    *foreign_keys: sa.ForeignKey,
    nullable: Literal[False] = ...,
    unique: bool = ...,
    index: bool = ...,
    default: Any = ...,
    default_factory: Callable[[], T] | None = ...,
    name: str | None = ...,
) -> PublicColumn[T]: ...
@overload
def Column(
    type_: ColumnType[T],
    *foreign_keys: sa.ForeignKey,
    nullable: Literal[True],
    unique: bool = ...,
    index: bool = ...,
    default: Any = ...,
    default_factory: Callable[[], T] | None = ...,
    name: str | None = ...,
) -> PublicColumn[T | None]: ...
@overload
def Column(
    type_: ColumnType[T],
    *foreign_keys: sa.ForeignKey,
    secret: Literal[True],
    nullable: Literal[False] = ...,
    unique: bool = ...,
    index: bool = ...,
    default: Any = ...,
    default_factory: Callable[[], T] | None = ...,
    name: str | None = ...,
) -> SecretColumn[T]: ...
@overload
def Column(
    type_: ColumnType[T],
    *foreign_keys: sa.ForeignKey,
    secret: Literal[True],
    nullable: Literal[True],
    unique: bool = ...,
    index: bool = ...,
    default: Any = ...,
    default_factory: Callable[[], T] | None = ...,
    name: str | None = ...,
) -> SecretColumn[T | None]: ...
@overload
def Column(
    type_: ColumnType[T],
    *foreign_keys: sa.ForeignKey,
    primary_key: Literal[True],
    unique: bool = ...,
    index: bool = ...,
    default: Any = ...,
    default_factory: Callable[[], T] | None = ...,
    name: str | None = ...,
) -> KeyColumn[T]: ...
@overload
def Column(
    type_: ColumnType[T], *, managed: Literal[True], primary_key: bool = ..., name: str | None = ...
) -> ManagedColumn[T]: ...
def Column(
    type_: ColumnType[Any],
    *items: Any,
    nullable: bool = False,
    unique: bool = False,
    index: bool = False,
    secret: bool = False,
    primary_key: bool = False,
    managed: bool = False,
    default: Any = None,
    default_factory: Callable[[], Any] | None = None,
    name: str | None = None,
) -> Any:
    """A column of a table class, named in the database like its attribute, unless `name` is given.

    `secret`: the API accepts it and never returns it, and logs do not contain it. `managed`, for tables of other services:
    an `id` that the database generates, or `created_at` and `updated_at`, which every write sets. `default` is in the format
    of the API's JSON, for creates and for the server's DEFAULT. `default_factory` returns a new value for each create. An
    invalid combination raises ValueError when the class is defined."""
    if managed:
        if primary_key and isinstance(type_, Integer | BigInteger):
            type_, items = Id(), (*items, sa.Identity())
        return ManagedColumn(type_, *items, name=name, nullable=False, primary_key=primary_key, info=MANAGED)
    kind: Any = KeyColumn if primary_key else SecretColumn if secret else PublicColumn
    options: dict[str, Any] = {"nullable": nullable, "primary_key": primary_key}
    options |= {
        "unique": unique or None,
        "index": index or None,
    }  # None: SQLAlchemy's default
    if default is not None:
        options["default"] = default
    info: dict[str, Any] = {"secret": True} if secret else {}
    if default_factory is not None:
        info["default_factory"] = default_factory
    return kind(type_, *items, name=name, info=info, **options)


MANAGED = {"managed": True}


class Declared:
    """The base of all table classes: its names begin and end with underscores, so that none clashes with a column."""

    __table__: ClassVar[sa.Table]
    __columns__: ClassVar[Mapping[str, ColumnDescriptor[Any]]] = {}
    """By attribute name, in table order."""

    @classmethod
    def __clause_element__(cls) -> sa.Table:
        """SQLAlchemy's hook that accepts the class in place of a table."""
        return cls.__table__


def public_columns(table: type[Declared] | sa.Table) -> list[sa.Column[Any]]:
    """The columns of `table` that the API may return: all except secret ones."""
    source = table if isinstance(table, sa.Table) else table.__table__
    return [column for column in source.columns if not is_secret(column)]


def is_secret(column: sa.Column[Any]) -> bool:
    return bool(column.info.get("secret"))


def is_managed(column: sa.Column[Any]) -> bool:
    """Whether the database or the platform sets `column`: a generated `id`, `created_at`, `updated_at`."""
    return bool(column.info.get("managed"))


def has_default(column: sa.Column[Any]) -> bool:
    """Whether a create fills in a value for `column`."""
    return "default" in column.info or "default_factory" in column.info


def default_of(column: sa.Column[Any]) -> Any:
    """The default of `column` for a create, as a new Python value."""
    factory = column.info.get("default_factory")
    return factory() if factory else copy_default(column.info["default"])
