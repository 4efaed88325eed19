"""Example request bodies for a table, for tests in which the values do not matter."""

import itertools
from collections.abc import Callable
from typing import Any

import httpx
import sqlalchemy as sa

from ..schema import access_of, is_managed
from ..types import ColumnType

_numbers = itertools.count(1)


def example(table: sa.Table, **values: Any) -> dict[str, Any]:
    """A body that creates a row: a value for each column except foreign keys, a different one in each call if possible.

    `values` override the examples."""
    number = next(_numbers)
    body: dict[str, Any] = {}
    for column in table.columns:
        if not is_managed(column) and not column.foreign_keys and isinstance(column.type, ColumnType):
            body[column.name] = column.info.get("only", column.type.example(number))
    return {**body, **values}


insert_of_others: Callable[[sa.Table], dict[str, Any]] | None = None
"""Inserts a row into a table of another service; the plugin sets it while the service runs."""


async def make(client: httpx.AsyncClient, table: sa.Table, **values: Any) -> dict[str, Any]:
    """Create a row of `table` through the API, and before it the rows it must reference; returns the response body."""
    body = example(table, **values)
    for column in table.columns:
        for key in column.foreign_keys:
            if column.name not in body and not column.nullable:
                body[column.name] = (await _make_referenced(client, key.column.table))[key.column.name]
    response = await client.post(f"/v1/{table.name}", json=body)
    assert response.status_code == 201, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def _make_referenced(client: httpx.AsyncClient, table: sa.Table) -> dict[str, Any]:
    if access_of(table) is not None and insert_of_others is not None:
        return insert_of_others(table)
    return await make(client, table)
