"""PyDAL's tables, with methods for whole rows by column name."""

import datetime as dt
import functools
import operator
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from pydal.objects import Expression, Field, Table

from ...errors import BadValue
from ...schema import default_of, has_default, is_managed
from ...types import Id
from .fields import Literal, checked


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
        now = dt.datetime.now(dt.UTC)
        row: dict[str, Any] = {}
        literals: list[str] = []
        for name, (column, literal) in self._written.items():
            if name in values:
                value = values[name]
            elif is_managed(column):
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
        generated = self._db._adapter.insert_row(self, self._columns, ",".join(literals))
        if self._identity is not None:
            row[self._identity.name] = generated
        return row

    def get_row(self, key: Any) -> dict[str, Any] | None:
        """The row with this primary key, or None. `key` is its value; where it has several columns, a mapping with all of
        them, by column name."""
        rows = self._db(self._has_key(key)).select(*self, cacheable=True)
        return {column: rows[0][field] for column, field in self._fields_by_column.items()} if rows else None

    def update_row(self, key: Any, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """Set the columns in `values` and `updated_at`, and return the whole row; None if there is no such row. `key` is as
        for `get_row`. Raises BadValue and Conflict; TypeError for an unknown column or one of the key."""
        names = self._fields_by_column
        if unknown := values.keys() - names.keys():
            self._refuse_unknown(unknown)
        for name, value in values.items():
            if value is None and not self._source.columns[name].nullable:
                raise BadValue(name, "must not be null")
        if not values and not self._has_update_time:
            return self.get_row(key)
        changed = self._db(self._has_key(key)).update(
            **{names[column]: value for column, value in values.items()}
        )
        return self.get_row(key) if changed else None

    def delete_row(self, key: Any) -> bool:
        """Delete the row, and return whether it existed. `key` is as for `get_row`. Raises Conflict."""
        return bool(self._db(self._has_key(key)).delete())

    def drop(self, *_: Any, **__: Any) -> None:
        raise TypeError("only migrations change the schema; delete() deletes rows")

    truncate = create_index = drop_index = drop

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, int) and self._identity is not None:  # PyDAL looks the id up as a string
            return self._db(self._id == int(key)).select().first()
        return super().__getitem__(key)

    def column(self, name: str) -> Field:
        """The PyDAL field of the column `name`."""
        return self._field_of[name]

    def _bind(self, source: sa.Table, names: dict[str, str]) -> None:
        self._source, self._fields_by_column = source, names
        self._field_of = {column: self[field] for column, field in names.items()}
        self._identity = next((each for each in source.columns if isinstance(each.type, Id)), None)
        self._has_update_time = any(each.name == "updated_at" and is_managed(each) for each in source.columns)
        self._key = [column.name for column in source.primary_key.columns]
        self._written: dict[str, tuple[Any, Literal]] = {
            column.name: (column, self._db._adapter.literal_for(column))
            for column in source.columns
            if column is not self._identity
        }
        self._self_references = [
            self._field_of[column.name]
            for column in source.columns
            if column.nullable and any(key.column.table is source for key in column.foreign_keys)
        ]
        self._columns = ",".join(self._field_of[name]._rname for name in self._written)

    def _fields_and_values_for_insert(self, fields: Mapping[str, Any]) -> Any:
        self._refuse_unwritable(fields)
        return super()._fields_and_values_for_insert(fields)

    def _fields_and_values_for_update(self, fields: Mapping[str, Any]) -> Any:
        self._refuse_unwritable(fields)
        if given := [name for name in self._key if self._fields_by_column[name] in fields]:
            raise TypeError(f"{self._source.name}: a primary key never changes: leave {', '.join(given)} out")
        return super()._fields_and_values_for_update(fields)

    def _refuse_unwritable(self, values: Mapping[str, Any]) -> None:
        self._refuse_unknown(values.keys() - set(self.fields))  # PyDAL silently drops an unknown name
        if self._identity is not None and self._identity.name in values:
            raise TypeError(f"{self._source.name}: the database generates ids, and they never change")

    def _has_key(self, key: Any) -> Any:
        """PyDAL's condition for the row with this primary key."""
        values = {self._key[0]: key} if len(self._key) == 1 else key
        if not isinstance(values, Mapping) or values.keys() != set(self._key):
            raise TypeError(f"{self._source.name}: give its key as a mapping with {', '.join(self._key)}")
        for name, value in values.items():
            if value is None:
                raise BadValue(name, "must not be null")
        conditions = [self._field_of[name] == values[name] for name in self._key]
        return functools.reduce(operator.and_, conditions)

    def _refuse_unknown(self, unknown: Any) -> None:
        if unknown:
            raise TypeError(f"{self._source.name} has no column {', '.join(sorted(unknown))}")
