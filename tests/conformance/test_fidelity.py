"""A value written through the API is read unchanged by the API, the plain drivers and PyDAL, on every
engine; a value that one engine cannot store is refused on all."""

import datetime as dt
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as examples

from dbservice import DAL
from dbservice.service import Running

from ..assertions import identical, kind
from ..boundary_values import BOUNDARY_VALUES, COLUMNS, INVALID_VALUES, ROWS
from ..sample_service import values
from ..subclass_values import SUBCLASSES
from .reading import answered, body, by_reads, by_the_api, everywhere

# --- the edges


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
async def test_a_boundary_value_reads_the_same_everywhere(
    client: httpx.AsyncClient, running: Running, column: sa.Column[Any]
) -> None:
    name = column.name
    edges = [*BOUNDARY_VALUES[name], (None, None, None)]
    created = [
        await answered(await client.post("/v1/values", **body({name: sent})), 201) for sent, _, _ in edges
    ]
    for (sent, _, answer), row in zip(edges, created, strict=True):
        assert identical(row[name], answer), sent
        assert {k for k, v in row.items() if v is not None} <= {"id", name, "created_at", "updated_at"}
    assert await by_the_api(client) == created
    for (sent, python, _), row in zip(edges, await everywhere(running), strict=True):
        held = python if python is None else kind(column).check(python)
        assert held == python and identical(row[name], held), sent


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
async def test_a_boundary_value_reads_the_same_after_an_update(
    client: httpx.AsyncClient, running: Running, column: sa.Column[Any]
) -> None:
    name = column.name
    first, last = (
        next(e for e in edges if e[0] not in ("", None))
        for edges in (BOUNDARY_VALUES[name], BOUNDARY_VALUES[name][::-1])
    )
    row = await answered(await client.post("/v1/values", **body({name: last[0], "enum": "a"})), 201)
    path = f"/v1/values/{row['id']}"
    before = row["updated_at"]
    for sent, python, answer in [*BOUNDARY_VALUES[name], (None, None, None), first]:
        row = await answered(await client.patch(path, **body({name: sent})), 200)
        assert identical(row[name], answer), sent
        assert (await client.get(path)).json() == row and row["updated_at"] > before
        assert name == "enum" or row["enum"] == "a"
        before = row["updated_at"]
        if python is not None and len(str(sent)) < 1000:
            (held,) = await by_reads(running)
            assert identical(held[name], kind(column).check(python)), sent
    await everywhere(running)


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
async def test_an_invalid_value_is_refused_everywhere(
    client: httpx.AsyncClient, running: Running, column: sa.Column[Any]
) -> None:
    name = column.name
    sent, _, answer = BOUNDARY_VALUES[name][0]
    row = await answered(await client.post("/v1/values", **body({name: sent})), 201)
    for wrong in INVALID_VALUES[name]:
        for response in (
            await client.post("/v1/values", **body({name: wrong})),
            await client.patch(
                f"/v1/values/{row['id']}",
                **body({name: wrong, "boolean" if name != "boolean" else "string": None}),
            ),
        ):
            assert response.status_code == 422, (wrong, response.text)
            assert response.headers["content-type"] == "application/problem+json"
            problem = response.json()
            assert problem["detail"].endswith(".") and len(problem["detail"]) < 200
            (error,) = problem["errors"]
            assert error["field"] in (name, "body") and error["message"], wrong
    assert await by_the_api(client) == [row] and identical(row[name], answer)


@examples(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(rows=ROWS)
async def test_any_row_reads_the_same_everywhere(
    client: httpx.AsyncClient, running: Running, rows: Any
) -> None:
    await running.writes.run(lambda db: db(db[values].id > 0).delete())
    created = []
    for row in rows:
        sent = {name: pair[0] for name, pair in row.items()}
        created.append(await answered(await client.post("/v1/values", **body(sent)), 201))
    assert await by_the_api(client) == created
    for row, held in zip(rows, await everywhere(running), strict=True):
        for name in BOUNDARY_VALUES:
            python = row[name][1] if name in row else None
            assert held[name] == python
            assert python is None or identical(held[name], kind(values.c[name]).check(python))


@pytest.mark.parametrize(("name", "value", "meant"), SUBCLASSES)
async def test_a_subclass_is_stored_as_what_it_holds(
    running: Running, name: str, value: Any, meant: Any
) -> None:
    field = values.c[name].name

    def write(db: DAL) -> Any:
        table = db[values]
        row = table.insert_row({name: value})
        table.insert(**{table.column(field).name: value})
        changed = table.insert_row({})
        return row[name], table.update_row(changed["id"], {name: value})[name]

    for held in (*await running.writes.run(write), *(row[name] for row in await everywhere(running))):
        assert identical(held, meant)


async def test_a_value_that_a_migration_inserts_reads_the_same_everywhere(
    client: httpx.AsyncClient, running: Running
) -> None:
    """Alembic's bulk_insert goes through SQLAlchemy and the synchronous driver."""
    rows = [
        {
            name: python
            for name, edges in BOUNDARY_VALUES.items()
            for _, python, _ in edges[number : number + 1]
        }
        for number in range(max(map(len, BOUNDARY_VALUES.values())))
    ]
    now = dt.datetime.now(dt.UTC)
    engine = running.backend.migrations.engine()
    with engine.begin() as connection:
        for row in rows:
            connection.execute(values.insert().values(**row, created_at=now, updated_at=now))
    engine.dispose()
    for row, held in zip(rows, await everywhere(running), strict=True):
        for name, python in row.items():
            assert identical(held[name], kind(values.c[name]).check(python)), name
