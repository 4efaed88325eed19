"""What the routes of a table answer, on every engine: create, read, list page by page, change, delete."""

import re
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from dbservice.testing import make

from ..assertions import problem
from ..sample_service import items, metadata, order, users, values

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")


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


async def test_create_answers_the_row_and_where_it_is(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/users", json={"email": "a@b"})
    row = answer.json()
    assert answer.status_code == 201 and answer.headers["content-type"] == "application/json"
    assert answer.headers["location"] == f"/v1/users/{row['id']}"
    assert (await client.get(answer.headers["location"])).json() == row
    assert row["active"] is True and row["balance"] == "0.00" and row["kind"] == "plain"
    assert row["created_at"] == row["updated_at"] and RFC3339.fullmatch(row["created_at"])
    assert list(row) == [column.name for column in users.columns if column.name != "password"]


async def test_times_are_answered_in_utc(client: httpx.AsyncClient) -> None:
    made = await make(client, values, timestamp="2024-03-31T01:59:59.5+05:30")
    assert made["timestamp"] == "2024-03-30T20:29:59.500000Z"
    assert (await client.get(f"/v1/values/{made['id']}")).json() == made


async def test_a_list_goes_page_by_page(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/users")).json() == {"items": [], "next": None}
    rows = [await make(client, users) for _ in range(5)]
    ids = [row["id"] for row in rows]
    assert (await client.get("/v1/users")).json() == {"items": rows, "next": None}
    first = (await client.get("/v1/users", params={"limit": 2})).json()
    assert first == {"items": rows[:2], "next": ids[1]}
    second = (await client.get("/v1/users", params={"limit": 2, "after": first["next"]})).json()
    assert second == {"items": rows[2:4], "next": ids[3]}
    third = (await client.get("/v1/users", params={"limit": 2, "after": second["next"]})).json()
    assert third == {"items": rows[4:], "next": None}
    for limit in (5, 6, 200):
        assert (await client.get("/v1/users", params={"limit": limit})).json()["next"] is None
    # a row that goes while somebody turns the pages makes none of the others appear twice or never
    await client.delete(f"/v1/users/{ids[1]}")
    rest = (await client.get("/v1/users", params={"limit": 200, "after": ids[1]})).json()
    assert rest == {"items": rows[2:], "next": None}
    beyond = await client.get("/v1/users", params={"after": 2**63 - 1})
    assert beyond.json() == {"items": [], "next": None}


async def test_a_page_has_fifty_rows_by_default(client: httpx.AsyncClient) -> None:
    for _ in range(51):
        await client.post("/v1/order", json={})
    page = (await client.get("/v1/order")).json()
    assert len(page["items"]) == 50 and page["next"] == page["items"][-1]["id"]


@pytest.mark.parametrize(
    "query",
    [
        *(
            "limit=0",
            "limit=-1",
            "limit=201",
            "limit=x",
            "limit=",
            "limit=1.0",
            "limit=%201",
            "limit=1_0",
            "limit=9e9",
        ),
        *("after=-1", "after=x", "after=1.0", f"after={2**63}", f"after={10**30}", "after=٣"),
    ],
)
async def test_invalid_page_parameters_are_refused(client: httpx.AsyncClient, query: str) -> None:
    body = problem(await client.get(f"/v1/users?{query}"), 422)
    assert [each["field"] for each in body["errors"]] == [query.partition("=")[0]]


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_an_id_is_a_positive_whole_number_of_64_bits(client: httpx.AsyncClient, method: str) -> None:
    body: Any = {"json": {}} if method == "PATCH" else {}
    for wrong in ("0", "-1", str(2**63), "9" * 40, "x", "1.0", "1e0", " 1", "+1", "1_0", "٣", "null"):
        found = problem(await client.request(method, f"/v1/users/{wrong}", **body), 422)
        assert found["errors"][0]["field"] == "id" and wrong not in found["detail"].replace("64", "")
    for missing in ("1", str(2**63 - 1)):
        problem(await client.request(method, f"/v1/users/{missing}", **body), 404)


async def test_a_patch_changes_what_it_names_and_the_time(client: httpx.AsyncClient) -> None:
    row = await make(client, users)
    path = f"/v1/users/{row['id']}"
    answer = await client.patch(path, json={"note": "new", "active": not row["active"]})
    changed = answer.json()
    assert answer.status_code == 200
    assert changed == {
        **row, "note": "new", "active": not row["active"], "updated_at": changed["updated_at"]
    }  # fmt: skip
    assert changed["updated_at"] > row["updated_at"]
    again = (await client.patch(path, json={})).json()
    assert again == {**changed, "updated_at": again["updated_at"]}
    assert again["updated_at"] > changed["updated_at"]
    assert (await client.get(path)).json() == again


async def test_a_patch_sets_null_only_where_the_column_is_nullable(client: httpx.AsyncClient) -> None:
    row = await make(client, values)
    path = f"/v1/values/{row['id']}"
    for column in values.columns:
        if column.name in row and column.nullable:
            assert (await client.patch(path, json={column.name: None})).json()[column.name] is None
    row = await make(client, users)
    for name in ("email", "active", "balance", "kind", "settings", "note", "since", "rate"):
        for answer in (
            await client.patch(f"/v1/users/{row['id']}", json={name: None}),
            await client.post("/v1/users", json={"email": "other", name: None}),
        ):
            errors = problem(answer, 422)["errors"]
            assert errors == [{"field": name, "message": "must not be null"}]
    assert (await client.get(f"/v1/users/{row['id']}")).json() == row


async def test_delete_answers_nothing(client: httpx.AsyncClient) -> None:
    row = await make(client, users)
    answer = await client.delete(f"/v1/users/{row['id']}")
    assert answer.status_code == 204 and answer.content == b"" and "content-type" not in answer.headers
    problem(await client.delete(f"/v1/users/{row['id']}"), 404)


@pytest.mark.parametrize("table", [users, items, order, values], ids=str)
async def test_every_list_has_items_and_next(client: httpx.AsyncClient, table: Any) -> None:
    await make(client, table)
    answer = await client.get(f"/v1/{table.name}")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json().keys() == {"items", "next"} and len(answer.json()["items"]) == 1
