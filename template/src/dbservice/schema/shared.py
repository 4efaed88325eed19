"""The tables of other services, as `access.py` declares them: columns, whether they are written, which rows."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import sqlalchemy as sa

from ..types import JSON, Binary, Float, Text
from .columns import Declared, is_managed, is_secret
from .declaring import bound_columns, check_base, new_table, package_metadata, value_of

Mode = Literal["read", "read-write"]


@dataclass(frozen=True)
class Access:
    """The access to a table of another service, limited to the rows in which these columns have these values."""

    mode: Mode
    rows: Mapping[str, Any]
    """By column name, in the format of the API's JSON; empty: all rows."""
    values: Mapping[str, Any]
    """The same as Python values."""

    @property
    def writes(self) -> bool:
        return self.mode == "read-write"

    def condition(self, table: Any) -> list[sa.ColumnElement[bool]]:
        """The condition on the rows, for a statement on `table`."""
        return [table.columns[name] == value for name, value in self.values.items()]


class SharedTable(Declared):
    """A table that another service owns, with the columns that this one uses. It is never created or altered.

    `access` is "read" or "read-write". With `rows`, values by column name in the format of the API's JSON, the service
    reads and writes only rows with these values: new rows get them, and a write of any other value raises BadValue.
    `managed=True` is for an `id` that the owner's database generates, and for `created_at` and `updated_at`, which
    every write sets. Raises ValueError like `BareTable`."""

    __metadata__: ClassVar[sa.MetaData] = sa.MetaData()
    __access__: ClassVar[Access]

    def __init_subclass__(
        cls,
        *,
        name: str | None = None,
        access: Mode = "read",
        rows: Mapping[str, Any] | None = None,
        metadata: sa.MetaData | None = None,
    ) -> None:
        super().__init_subclass__()
        cls.__metadata__ = cls.__metadata__ if metadata is None else metadata
        if name is None:
            check_base(cls)
            return
        cls.__metadata__ = package_metadata(cls, SharedTable.__metadata__)
        if access not in ("read", "read-write"):
            raise ValueError(f'{cls.__name__}: write access="read" or access="read-write", not {access!r}')
        columns = bound_columns(cls)
        by_name = {each.name: each.column for each in columns.values()}
        values: dict[str, Any] = {}
        for column, written in (rows or {}).items():
            label = f"{cls.__name__}: rows: {column}"
            if column not in by_name:
                raise ValueError(f"{cls.__name__}: rows names {column}, which is not among its columns")
            if is_secret(by_name[column]) or is_managed(by_name[column]):
                raise ValueError(f"{label} is secret or managed: it cannot select rows")
            if isinstance(by_name[column].type, Text | JSON | Binary | Float):
                raise ValueError(f"{label} is {by_name[column].type!r}, which cannot select rows")
            values[column] = value_of(label, by_name[column], written)
            by_name[column].info = {**by_name[column].info, "default": values[column], "only": written}
        cls.__access__ = Access(access, dict(rows or {}), values)
        cls.__table__ = new_table(cls, name, cls.__metadata__, list(by_name.values()))
        cls.__table__.info["access"] = cls.__access__
        cls.__columns__ = columns


def access_of(table: Any) -> Access | None:
    """What a service may do with the table of another one; None for a table of its own."""
    access: Access | None = getattr(table, "info", {}).get("access")
    return access


def only_value(column: sa.Column[Any], value: Any) -> str:
    """Why `value` cannot be written into `column`, of which the service has only rows with one value; empty if it can."""
    access = access_of(column.table)
    if access is None or column.name not in access.values or value == access.values[column.name]:
        return ""
    return f"must be {json.dumps(access.rows[column.name], ensure_ascii=False)}"
