"""The other services, as far as a test needs them: they insert rows into the tables that `access.py` declares."""

import datetime as dt
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from ..backends import Backend
from ..http.encoding import to_builtins
from ..schema import is_managed, public_columns
from ..types import ColumnType
from .examples import example


class Others:
    """The services that own the tables of `access.py`: the account of `backend` owns them."""

    def __init__(self, backend: Backend) -> None:
        self._engine = backend.migrations.engine()

    def insert(self, table: sa.Table, **values: Any) -> dict[str, Any]:
        """Insert an example row, with these `values` in the format of the API's JSON; returns the row as a response has it."""
        row: dict[str, Any] = {
            column.name: dt.datetime.now(dt.UTC)
            for column in table.columns
            if is_managed(column) and not column.primary_key
        }
        for name, value in example(table, **values).items():
            column_type = table.columns[name].type
            assert isinstance(column_type, ColumnType)
            row[name] = None if value is None else column_type.from_json(value)
        with self._engine.begin() as connection:
            done = connection.execute(table.insert().values(row))
            for column, value in zip(table.primary_key.columns, done.inserted_primary_key or (), strict=True):
                row[column.name] = value
        answer: dict[str, Any] = to_builtins({each.name: row[each.name] for each in public_columns(table)})
        return answer

    def delete_all(self, tables: Iterable[sa.Table]) -> None:
        """Delete the rows of these tables."""
        with self._engine.begin() as connection:
            for table in tables:
                connection.execute(table.delete())

    def close(self) -> None:
        self._engine.dispose()
