"""Pages of large values: fewer rows, `next` set, nothing left out, and never more fetched than is answered."""

from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from dbservice import Row, Statement, query
from dbservice.reads import ReadPool
from dbservice.settings import Settings

from ..faults import Proxy
from ..sample_service import Values, client_of, order, started, values

BUDGET = 100_000


async def add(client: httpx.AsyncClient, **row: Any) -> int:
    answer = await client.post("/v1/values", json=row)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


async def pages(client: httpx.AsyncClient, limit: int) -> list[list[dict[str, Any]]]:
    """The rows of each page, to the end."""
    found, after = [], 0
    while after is not None:
        answer = (await client.get("/v1/values", params={"limit": limit, "after": after})).json()
        found.append(answer["items"])
        assert answer["next"] in (None, answer["items"][-1]["id"] if answer["items"] else None)
        after = answer["next"]
    return found


async def test_a_page_of_large_rows_is_shorter(settings: Settings, migrated: Settings) -> None:
    async with started(settings, page_bytes=BUDGET) as running, client_of(running) as client:
        large: list[dict[str, Any]] = [
            {"text": "é" * 20_000},
            {"text": "x" * 150_000},  # more than a page may have: alone
            {"json": ["x" * 30_000]},
            {"binary": "AAAA" * 10_000},
            {"text": "x" * 49_000, "json": "x" * 49_000},
            *([{"text": "small"}] * 20),
            {"text": "x" * 99_000},
        ]
        before = sum(map(len, await pages(client, 200)))
        ids = [await add(client, **row) for row in large]
        for limit in (1, 4, 10, 200):
            found = [[row for row in page if row["id"] >= ids[0]] for page in await pages(client, limit)]
            assert [row["id"] for page in found for row in page] == ids
            assert all(size(page) <= BUDGET or len(page) == 1 for page in found)
            rows = [row for page in found for row in page]
            assert all(row.items() >= sent.items() for row, sent in zip(rows, large, strict=True))
        assert max(map(len, found)) >= 20  # small rows stand together
        assert sum(map(len, await pages(client, 200))) == before + len(large)


def size(page: list[dict[str, Any]]) -> int:
    """The bytes of the values of a page, as far as they are large."""
    return sum(len(str(row[name] or "").encode()) for row in page for name in ("text", "json"))


async def test_rows_that_are_not_answered_are_not_fetched(server_settings: Settings) -> None:
    with Proxy(server_settings) as proxy:
        async with started(proxy.settings, page_bytes=BUDGET) as running, client_of(running) as client:
            for _ in range(60):
                await add(client, text="x" * 40_000)
            before = proxy.received
            page = (await client.get("/v1/values?limit=200")).json()
            assert len(page["items"]) == 2 and page["next"] == page["items"][-1]["id"]
            assert proxy.received - before < 2 * BUDGET


class Joined(Row):
    """What a query computes of two tables."""

    id: int
    texts: str
    group: str | None


@query(Joined)
def joined(limit: int) -> Statement:
    texts = (Values.text.concat(values.c.string)).label("texts")
    statement = sa.select(values.c.id, texts, order.c.group).distinct()
    return statement.join(order, order.c.group == values.c.string).order_by(values.c.id).limit(limit)


@query(Joined)
def grouped(limit: int) -> Statement:
    texts = sa.func.max(values.c.text).label("texts")
    statement = sa.select(values.c.id, texts, values.c.string.label("group")).where(
        values.c.string == "computed"
    )
    return statement.group_by(values.c.id, values.c.string).order_by(values.c.id).limit(limit)


@pytest.mark.parametrize("statement", [joined, grouped], ids=["distinct", "grouped"])
async def test_computed_columns_count_too(settings: Settings, migrated: Settings, statement: Any) -> None:
    async with started(settings, page_bytes=BUDGET) as running, client_of(running) as client:
        await client.post("/v1/order", json={"group": "computed"})
        reads: ReadPool = running.reads
        for length in (10, 60_000):
            ids = [await add(client, text="x" * length, string="computed") for _ in range(2)]
            page = await reads.page(statement, limit=200)
            mine = [row.id for row in page.items if row.id in ids]
            assert mine == (ids if length == 10 else ids[:1])
            assert page.next == (None if length == 10 else ids[0])
            for row_id in ids:
                await client.delete(f"/v1/values/{row_id}")
