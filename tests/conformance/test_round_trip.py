"""Each table of the sample service, created, read, listed, changed and deleted through the API, on every engine."""

import httpx
import pytest
import sqlalchemy as sa

from dbservice.testing import make

from ..sample_service import metadata


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=lambda table: table.name)
async def test_a_row_comes_back_as_it_was_created(client: httpx.AsyncClient, table: sa.Table) -> None:
    row = await make(client, table)
    path = f"/v1/{table.name}/{row['id']}"
    assert (await client.get(path)).json() == row
    assert (await client.get(f"/v1/{table.name}")).json() == {"items": [row], "next": None}
    changed = (await client.patch(path, json={})).json()
    assert {**changed, "updated_at": row["updated_at"]} == row and changed["updated_at"] > row["updated_at"]
    assert (await client.get(path)).json() == changed
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404
