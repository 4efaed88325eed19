"""The table classes: `class Users(Table, name="users")` defines one table and validates its names and constraints."""

import datetime as dt
from typing import Any, ClassVar

import sqlalchemy as sa

from ..types import Enum, Id, Timestamp
from .columns import MANAGED, Declared, ManagedColumn
from .declaring import bound_columns, check_base, check_of, mark_indexed, new_table, package_metadata
from .naming import NAMING_CONVENTION, refuse_same_names

MANAGED_COLUMNS = ("id", "created_at", "updated_at")
"""The columns that every `Table` has and no client writes."""


class BareTable(Declared):
    """A table this service owns, with the declared columns only; at least one must have `primary_key=True`.

    Without `name` the class is a base without a table: subclasses inherit its columns, and their tables are in
    `metadata`, by default one for each package. `__table_args__` are constraints and indexes of several columns. Raises ValueError for a declaration that
    some engine, Python or a library does not support."""

    __metadata__: ClassVar[sa.MetaData] = sa.MetaData(naming_convention=NAMING_CONVENTION)
    __table_args__: ClassVar[tuple[sa.schema.SchemaItem, ...]] = ()

    def __init_subclass__(cls, *, name: str | None = None, metadata: sa.MetaData | None = None) -> None:
        super().__init_subclass__()
        if metadata is not None:
            if metadata.naming_convention == sa.MetaData().naming_convention:
                metadata.naming_convention = NAMING_CONVENTION  # SQLAlchemy's default names only indexes
            cls.__metadata__ = metadata
        if name is None:
            check_base(cls)
            return
        cls.__metadata__ = package_metadata(cls, BareTable.__metadata__)
        columns = bound_columns(cls)
        if not any(each.column.primary_key for each in columns.values()):
            raise ValueError(
                f"{cls.__name__}: write primary_key=True on the columns of its key, or inherit from Table"
            )
        items: list[Any] = [each.column for each in columns.values()]
        items += [check_of(column) for column in items if isinstance(column.type, Enum)]
        items += cls.__dict__.get("__table_args__", ())
        # an id is never reused, on SQLite too
        options = {"sqlite_autoincrement": True} if isinstance(items[0].type, Id) else {}
        table = new_table(cls, name, cls.__metadata__, items, **options)
        try:
            refuse_same_names(table)
            mark_indexed(table)
        except ValueError as error:
            cls.__metadata__.remove(table)
            raise ValueError(f"{cls.__name__}: {error}") from None
        cls.__table__, cls.__columns__ = table, columns


class Identity(BareTable):
    """With an `id` that the database generates: 64 bits, never reused."""

    id = ManagedColumn[int](Id(), sa.Identity(), primary_key=True, info=MANAGED)


class Timestamps(BareTable):
    """With `created_at` and `updated_at`, which every write sets."""

    created_at = ManagedColumn[dt.datetime](Timestamp(), nullable=False, info=MANAGED)
    updated_at = ManagedColumn[dt.datetime](Timestamp(), nullable=False, info=MANAGED)


class Table(Identity, Timestamps):
    """A table this service owns, with the key `id`, the declared columns, `created_at` and `updated_at`."""
