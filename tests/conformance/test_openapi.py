"""The API does what its OpenAPI document says, on every engine."""

import asyncio
import json
import os
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
import sqlalchemy as sa
import uvicorn

from dbservice.service import Service
from dbservice.settings import Settings
from dbservice.testing import example, make, servers
from dbservice.types import INT64

from ..openapi import TABLES, answer_schema, body_schema
from ..sample_service import client_of, sample_service, started, values


def valid(document: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    root = {**schema, "components": document["components"]}
    jsonschema_rs.Draft202012Validator(root, validate_formats=True).validate(json.loads(json.dumps(value)))


@pytest.mark.parametrize("table", TABLES, ids=str)
async def test_answers_are_as_documented(
    client: httpx.AsyncClient, document: dict[str, Any], table: sa.Table
) -> None:
    row = await make(client, table)
    path = f"/v1/{table.name}"
    bodies = [
        (path, "get", "200", (await client.get(path)).json()),
        (path, "post", "201", row),
        (path + "/{id}", "get", "200", (await client.get(f"{path}/{row['id']}")).json()),
        (path + "/{id}", "patch", "200", (await client.patch(f"{path}/{row['id']}", json={})).json()),
    ]
    if table is values:
        empty = {column.name: None for column in table.columns if column.nullable}
        bodies.append((path, "post", "201", (await client.post(path, json=empty)).json()))
    for where, method, status, body in bodies:
        valid(document, answer_schema(document, where, method, status), body)
    body = example(table, **{key: row[key] for key in row if key.endswith("_id") and row[key]})
    valid(document, body_schema(document, table, "post"), body)
    problem = document["components"]["schemas"]["Problem"]
    for answer in (
        await client.get(f"{path}/{INT64}"),
        await client.get(f"{path}/x"),
        await client.post(path, json={"no": 1}),
    ):
        valid(document, problem, answer.json())


@asynccontextmanager
async def listening(service: Service) -> AsyncIterator[str]:
    """The service, which is running, on a port."""
    config = uvicorn.Config(service.app, port=0, lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110, it tells nobody
        await asyncio.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await serving


@pytest.mark.engines("sqlite")  # a stamped service is asked on PostgreSQL
@pytest.mark.parametrize("seed", [1])
async def test_schemathesis_finds_nothing(
    private_database: servers.Database, tmp_path: Path, seed: int
) -> None:
    """Examples, edges of the schema, what hypothesis makes up, and operations in a row: no 500, no status, header or
    body that is not documented, nothing that is wrong and taken, nothing right and refused, no method but the documented
    ones."""
    service = sample_service(tmp_path)
    settings = Settings.load({**private_database.environ(), "DB_POOL_SIZE": "4", "DB_MAX_RETRIES": "0"})
    await asyncio.to_thread(service.tables.create_all, service.backend(settings).migrations.engine())
    async with service.running(settings), listening(service) as url:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
            *("--max-examples", "8", "--seed", str(seed), "--checks", "all"),
            cwd=tmp_path,
            env={**os.environ, "NO_COLOR": "1"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said
    assert "Operations:       23 selected / 23 total" in said
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert f"✅ {phase}" in said.replace("  ", " ")


async def test_other_requests_are_served_while_the_document_is_made(migrated: Settings) -> None:
    async with started(migrated) as running, client_of(running) as client:
        app, go = running.service.app, threading.Event()
        make_document = app.openapi

        def slow_document() -> dict[str, Any]:
            assert go.wait(60)
            return make_document()

        app.openapi = slow_document  # type: ignore[method-assign]
        document = asyncio.ensure_future(client.get("/openapi.json"))
        assert (await client.get("/healthz")).status_code == 200
        go.set()
        assert (await document).json()["openapi"] == "3.1.0"
