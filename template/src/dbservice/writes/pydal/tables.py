"""PyDAL's tables, with methods for whole rows by column name."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from pydal.objects import Expression, Field, Table

from ...errors import BadValue
from ...schema import default_of, has_default
from .fields import checked

MANAGED_TIMES = ("created_at", "updated_at")


class ServiceTable(Table):  # type: ignore[misc]
    """The PyDAL table of one of the service's tables.

    `insert_row`, `get_row`, `update_row` and `delete_row` take and return whole rows as dicts, by column name; all else is
    PyDAL's, by field name."""

    _source: sa.Table
    _fields_by_column: dict[str, str]

    def insert_row(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Insert one row and return it whole, as a read would, without a second query: defaults and managed times are set
        here. Raises BadValue and Conflict; TypeError for an unknown column."""
        if not values.keys() <= self._written.keys():
            self._refuse_unknown(values.keys() - self._written.keys())
        now, literal = dt.datetime.now(dt.UTC), self._db._backend.codec.literal
        row: dict[str, Any] = {}
        literals: list[str] = []
        for name, column in self._written.items():
            if name in values:
                value = values[name]
            elif name in MANAGED_TIMES:
                value = now
            else:
                value = default_of(column) if has_default(column) else None
            if isinstance(value, Expression):
                raise TypeError(f"{name}: an insert takes values, not expressions")
            if value is not None:
                value = checked(name, column.type, value)
                literals.append(literal(column.type, value))
            elif column.nullable:
                literals.append("NULL")
            else:
                raise BadValue(name, "must not be null")
            row[name] = value
        row["id"] = self._db._adapter.insert_row(self, self._columns, ",".join(literals))
        return row

    def get_row(self, row_id: int) -> dict[str, Any] | None:
        """The row with this id, or None."""
        rows = self._db(self.id == row_id).select(*self, cacheable=True)
        return {column: rows[0][field] for column, field in self._fields_by_column.items()} if rows else None

    def update_row(self, row_id: int, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """Set the columns in `values` and `updated_at`, and return the whole row; None if there is no such row. Raises
        BadValue and Conflict; TypeError for an unknown column."""
        names = self._fields_by_column
        if unknown := values.keys() - names.keys():
            self._refuse_unknown(unknown)
        for name, value in values.items():
            if value is None and not self._source.columns[name].nullable:
                raise BadValue(name, "must not be null")
        changed = self._db(self.id == row_id).update(
            **{names[column]: value for column, value in values.items()}
        )
        return self.get_row(row_id) if changed else None

    def delete_row(self, row_id: int) -> bool:
        """Delete the row, and return whether it existed. Raises Conflict."""
        return bool(self._db(self.id == row_id).delete())

    def drop(self, *_: Any, **__: Any) -> None:
        raise TypeError("only migrations change the schema; delete() deletes rows")

    truncate = create_index = drop_index = drop

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, int):  # PyDAL looks the id up as a string
            return self._db(self.id == int(key)).select().first()
        return super().__getitem__(key)

    def column(self, name: str) -> Field:
        """The PyDAL field of the column `name`."""
        return self._field_of[name]

    def _bind(self, source: sa.Table, names: dict[str, str]) -> None:
        self._source, self._fields_by_column = source, names
        self._field_of = {column: self[field] for column, field in names.items()}
        self._written: dict[str, Any] = {
            column.name: column for column in source.columns if column.name != "id"
        }
        self._self_references = [
            self._field_of[column.name]
            for column in source.columns
            if column.nullable and any(key.column.table is source for key in column.foreign_keys)
        ]
        self._columns = ",".join(self._field_of[name]._rname for name in self._written)

    def _fields_and_values_for_insert(self, values: Mapping[str, Any]) -> Any:
        self._refuse_unwritable(values)
        return super()._fields_and_values_for_insert(values)

    def _fields_and_values_for_update(self, values: Mapping[str, Any]) -> Any:
        self._refuse_unwritable(values)
        return super()._fields_and_values_for_update(values)

    def _refuse_unwritable(self, values: Mapping[str, Any]) -> None:
        self._refuse_unknown(values.keys() - set(self.fields))  # PyDAL silently drops an unknown name
        if "id" in values:
            raise TypeError(f"{self._source.name}: the database generates ids, and they never change")

    def _refuse_unknown(self, unknown: Any) -> None:
        if unknown:
            raise TypeError(f"{self._source.name} has no column {', '.join(sorted(unknown))}")
