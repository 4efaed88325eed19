"""Defines the table of a table class: validates its columns and binds them to one table."""

import keyword
import re
from collections.abc import Sequence
from types import NoneType
from typing import Any

import msgspec
import sqlalchemy as sa
from pydantic import BaseModel

from ..types import JSON, Binary, ColumnType, Enum, Id, String, Text, Timestamp
from .bodies import Create, Patch
from .columns import ColumnDescriptor, Declared, KeyColumn, ManagedColumn, is_secret
from .rows import Row

RESERVED_ATTRIBUTES = frozenset(
    list(keyword.kwlist)
    + [
        name
        for kind in (BaseModel, msgspec.Struct, Row, Create, Patch)
        for name in (*dir(kind), *dir(type(kind)))
        if name[0] != "_"
    ]
)
"""Attribute names that no column can have, because rows and bodies use them. Names in the database are not limited."""

_MANAGED: dict[str, type[Any]] = {"id": Id, "created_at": Timestamp, "updated_at": Timestamp}


def check_base(cls: type[Declared]) -> None:
    """Raises ValueError for a class without a table name that cannot be a base of tables."""
    if hasattr(cls, "__table__"):
        raise ValueError(
            f"{cls.__name__}: {cls.__table__.name} is a table already; inherit from Row, Create or Patch too, for rows"
            " and bodies of it, or put shared columns into a base without a name"
        )
    if "__table_args__" in vars(cls):
        raise ValueError(f"{cls.__name__}: __table_args__ belong to a class with a table; give it a name")


def package_metadata(cls: type[Any], default: sa.MetaData) -> sa.MetaData:
    """The MetaData of a class with a table: that of its bases, or instead of `default` one for its package, so that several
    services can be in one process."""
    given: sa.MetaData = cls.__metadata__
    if given is not default:
        return given
    package = cls.__module__.partition(".")[0]
    found: sa.MetaData = default.info.setdefault(
        package, sa.MetaData(naming_convention=default.naming_convention)
    )
    return found


def new_table(
    cls: type[Declared], name: str, metadata: sa.MetaData, items: Sequence[Any], **options: Any
) -> sa.Table:
    if not re.fullmatch("[a-z][a-z0-9_]{0,59}", name):
        raise ValueError(
            f"{cls.__name__}: write the table's name in a to z, 0 to 9 and _, from a letter on, 60 characters at most, not {name!r}"
        )
    if name in metadata.tables:
        raise ValueError(f"{cls.__name__}: there is a table {name} already; give one of them another name")
    return sa.Table(name, metadata, *items, info={"class": cls.__name__}, **options)


def bound_columns(cls: type[Declared]) -> dict[str, ColumnDescriptor[Any]]:
    """The columns of a class with a table, including those of its bases, in table order."""
    found: dict[str, ColumnDescriptor[Any]] = {}
    for base in reversed(cls.__mro__):
        if base is not cls and "__table__" in vars(base):
            raise ValueError(
                f"{cls.__name__}: {base.__name__} has a table of its own; put shared columns into a base without a name"
            )
        for attribute, value in vars(base).items():
            if not isinstance(value, ColumnDescriptor):
                continue
            label = f"{cls.__name__}.{attribute}"
            if attribute in found:
                raise ValueError(f"{label}: a base has this column already; leave it out")
            if any(value.name == other.name for other in found.values()):
                raise ValueError(f"{label}: another attribute has the column {value.name} already")
            found[attribute] = _bound(label, value)
    last = ("created_at", "updated_at")
    managed = {name for name, each in found.items() if isinstance(each, ManagedColumn)}
    order = [*(managed - set(last)), *(name for name in found if name not in managed)]
    order += [name for name in last if name in managed]
    for attribute in order:
        setattr(cls, attribute, found[attribute])
    return {attribute: found[attribute] for attribute in order}


def _bound(label: str, written: ColumnDescriptor[Any]) -> ColumnDescriptor[Any]:
    """A copy of a column for one table. Raises ValueError if it is invalid."""
    attribute = written.attribute
    if attribute in RESERVED_ATTRIBUTES:
        raise ValueError(
            f'{label}: this attribute name is reserved; write {attribute}_ = Column(..., name="{written.name}")'
        )
    if attribute.startswith("_"):
        raise ValueError(f"{label}: write an attribute name that begins with a letter")
    if not re.fullmatch("[a-z][a-z0-9_]{0,59}", written.name):
        raise ValueError(
            f"{label}: write the column's name in a to z, 0 to 9 and _, from a letter on, 60 characters at most, not {written.name!r}"
        )
    if not isinstance(written.type, ColumnType):
        raise ValueError(f"{label}: use a type of dbservice.types, not {written.type!r}")
    bound = written.bound()
    column = bound.column
    if isinstance(bound, KeyColumn) and (column.nullable or is_secret(column)):
        raise ValueError(
            f"{label}: a column of the primary key is neither nullable nor secret; leave these out"
        )
    if isinstance(bound, ManagedColumn) and not isinstance(column.type, _MANAGED.get(written.name, NoneType)):
        raise ValueError(
            f"{label}: managed are a whole number id with primary_key=True, and Timestamp() created_at and updated_at"
        )
    if "default" in written.options:
        if "default_factory" in column.info or callable(written.options["default"]):
            raise ValueError(f"{label}: write a value as default, or a callable as default_factory")
        column.info["default"] = value_of(f"{label}: the default", column, written.options["default"])
        column.server_default = sa.DefaultClause(written.type.default(written.options["default"]))
    return bound


def value_of(label: str, column: sa.Column[Any], written: Any) -> Any:
    """The Python value of `written`, in the format of the API's JSON. Raises ValueError, with `label`."""
    assert isinstance(column.type, ColumnType)
    try:
        return column.type.from_json(written)
    except ValueError as error:
        raise ValueError(f"{label} {error}") from None


def check_of(column: sa.Column[Any]) -> sa.CheckConstraint:
    assert isinstance(column.type, Enum)
    return column.type.check_constraint(column.name, name=column.name)


def mark_indexed(table: sa.Table) -> None:
    """Enable the size check of indexed strings. Raises ValueError for a column that some engine cannot index."""
    indexed: list[Any] = [*table.indexes]
    kinds = (sa.UniqueConstraint, sa.PrimaryKeyConstraint, sa.ForeignKeyConstraint)
    indexed += [each for each in table.constraints if isinstance(each, kinds)]
    for column in (column for each in indexed for column in each.columns):
        length = column.type.length if isinstance(column.type, String) else 0
        if isinstance(column.type, Text | JSON | Binary) or length > 700:
            raise ValueError(
                f"not every engine can have {column.name}, {column.type!r}, in an index or key; use String(700) or less"
            )
        if isinstance(column.type, String):
            column.type.indexed = True
