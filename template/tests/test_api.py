"""The API as its clients see it: every table of this service, on every engine. Add tests of your own beside it."""

import pytest
from httpx import AsyncClient
from sqlalchemy import Table

from dbservice.testing import tables
from dbservice.testing.examples import make

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("table", tables(), ids=str)]


async def test_a_row_is_created_read_listed_changed_and_deleted(client: AsyncClient, table: Table) -> None:
    row = await make(client, table)
    rows, path = f"/v1/{table.name}", f"/v1/{table.name}/{row['id']}"

    assert (await client.get(path)).json() == row
    page = await client.get(rows, params={"after": row["id"] - 1, "limit": 1})
    assert page.json() == {"items": [row], "next": None}

    changed = (await client.patch(path, json={})).json()
    if "updated_at" in row:
        assert changed.pop("updated_at") > row.pop("updated_at")
    assert changed == row

    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404


async def test_a_missing_row_is_404(client: AsyncClient, table: Table) -> None:
    path = f"/v1/{table.name}/{2**62}"
    for answer in [await client.get(path), await client.patch(path, json={}), await client.delete(path)]:
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_field_that_no_column_has_is_refused(client: AsyncClient, table: Table) -> None:
    answer = await client.post(f"/v1/{table.name}", json={"no_such_column": 1})
    assert answer.status_code == 422
    assert "no_such_column" in answer.text
