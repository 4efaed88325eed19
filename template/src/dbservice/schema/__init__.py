"""Declarations for `tables.py` and the routes: tables, columns, rows and request bodies."""

from msgspec import UNSET, UnsetType
from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint

from .bodies import Create, Patch
from .columns import (
    Column,
    Declared,
    KeyColumn,
    ManagedColumn,
    PublicColumn,
    SecretColumn,
    default_of,
    has_default,
    is_managed,
    is_secret,
    public_columns,
)
from .declaring import RESERVED_ATTRIBUTES
from .naming import NAMING_CONVENTION, constraint_name
from .rows import ColumnSchema, Page, Row, decode_column
from .shared import Access, SharedTable, access_of, only_value
from .tables import (
    MANAGED_COLUMNS,
    BareTable,
    Identity,
    Table,
    Timestamps,
)

__all__ = [
    "MANAGED_COLUMNS",
    "NAMING_CONVENTION",
    "RESERVED_ATTRIBUTES",
    "UNSET",
    "Access",
    "BareTable",
    "CheckConstraint",
    "Column",
    "ColumnSchema",
    "Create",
    "Declared",
    "ForeignKey",
    "ForeignKeyConstraint",
    "Identity",
    "Index",
    "KeyColumn",
    "ManagedColumn",
    "Page",
    "Patch",
    "PublicColumn",
    "Row",
    "SecretColumn",
    "SharedTable",
    "Table",
    "Timestamps",
    "UniqueConstraint",
    "UnsetType",
    "access_of",
    "constraint_name",
    "decode_column",
    "default_of",
    "has_default",
    "is_managed",
    "is_secret",
    "only_value",
    "public_columns",
]
