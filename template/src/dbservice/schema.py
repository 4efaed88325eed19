"""What `tables.py` is written with: owned tables, secret columns, the names of constraints."""

import re
from typing import Any

import sqlalchemy as sa

from .types import ColumnType, Enum, Id, String, Timestamp, copy_default

SECRET = {"secret": True}
"""`info=SECRET` on a column: the API takes it, never answers it, and no log holds it."""

AUTOMATIC = ("id", "created_at", "updated_at")
"""The columns that every owned table has and no client writes."""

NAMES = {
    "pk": "pk_%(table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}


def service_metadata() -> sa.MetaData:
    """An empty MetaData whose constraints all get names, so that a later migration can find them."""
    return sa.MetaData(naming_convention=NAMES)


def owned(metadata: sa.MetaData, name: str, *columns: sa.Column[Any], **options: Any) -> sa.Table:
    """A table this service owns: `columns` between the identity key `id` and `created_at`, `updated_at`.

    A column's `default` is written as the API's JSON writes it; from it come the value a create fills in and the
    server's DEFAULT. Raises ValueError naming table and column when a default does not fit."""
    table = sa.Table(
        name,
        metadata,
        sa.Column("id", Id(), sa.Identity(), primary_key=True),
        *columns,
        sa.Column("created_at", Timestamp(), nullable=False),
        sa.Column("updated_at", Timestamp(), nullable=False),
        sqlite_autoincrement=True,
        **options,
    )
    keys: list[Any] = [*table.indexes]
    keys += [each for each in table.constraints if isinstance(each, sa.UniqueConstraint)]
    for column in (column for key in keys for column in key.columns):
        if isinstance(column.type, String):
            column.type.indexed = True
    for column in columns:
        column_type = column.type
        if not re.fullmatch("[a-z][a-z0-9_]*", column.name):
            raise ValueError(
                f"{name}.{column.name}: write its name in a to z, 0 to 9 and _, from a letter on"
            )
        if not isinstance(column_type, ColumnType):
            raise ValueError(f"{name}.{column.name}: use a type of dbservice.types, not {column_type!r}")
        if isinstance(column_type, Enum):
            table.append_constraint(column_type.check_constraint(column.name, name=column.name))
        if isinstance(column.default, sa.ColumnDefault) and column.default.is_scalar:
            try:
                value = column_type.from_json(column.default.arg)
            except ValueError as error:
                raise ValueError(f"{name}.{column.name}: the default {error}") from None
            column.info["default"] = value
            column.server_default = sa.DefaultClause(column_type.default(column.default.arg))
    return table


def has_default(column: sa.Column[Any]) -> bool:
    return "default" in column.info


def default_of(column: sa.Column[Any]) -> Any:
    """The Python value a create fills in for `column`; a fresh one each time."""
    return copy_default(column.info["default"])


def is_secret(column: sa.Column[Any]) -> bool:
    return bool(column.info.get("secret"))


def public(table: sa.Table) -> list[sa.Column[Any]]:
    """The columns of `table` that the API may answer: all but the secret ones."""
    return [column for column in table.columns if not is_secret(column)]


def python_name(column: str, taken: type | None = None) -> str:
    """The attribute that holds `column` in Python: the same name, with `_` after it where Python or `taken` keeps it."""
    import keyword

    kept = (
        keyword.iskeyword(column)
        or (taken is not None and hasattr(taken, column))
        or column.startswith("model_")
    )
    return f"{column}_" if kept else str(column)
