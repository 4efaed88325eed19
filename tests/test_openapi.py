"""The OpenAPI document: it says what the API takes, answers and refuses, and the API does what it says."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
import schemathesis
import sqlalchemy as sa
import uvicorn

from dbservice.schema import MANAGED_COLUMNS, is_secret, public_columns
from dbservice.service import Service
from dbservice.settings import Settings
from dbservice.testing import example, make, servers
from dbservice.types import INT32, INT64

from .specimen import metadata, specimen, users, values
from .tiny import engines_of, only

TABLES = metadata.sorted_tables


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "private_database" in metafunc.fixturenames:
        metafunc.parametrize("private_database", engines_of(metafunc), indirect=True)


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    app = specimen(tmp_path_factory.mktemp("specimen")).app
    found: dict[str, Any] = json.loads(json.dumps(app.openapi()))
    return found


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        for part in ["", *schema["$ref"].split("/")[1:]]:
            schema = schema[part] if part else document
    return schema


def sent(document: dict[str, Any], table: sa.Table, method: str) -> dict[str, Any]:
    """The schema of a body."""
    path = f"/v1/{table.name}" + ("/{id}" if method == "patch" else "")
    content = document["paths"][path][method]["requestBody"]["content"]
    assert list(content) == ["application/json"]
    return resolved(document, content["application/json"]["schema"])


def answered(document: dict[str, Any], path: str, method: str, status: str) -> dict[str, Any]:
    content = document["paths"][path][method]["responses"][status]["content"]
    assert list(content) == ["application/json"]
    return resolved(document, content["application/json"]["schema"])


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


# --- what it says


def test_it_is_openapi_3_1_and_all_of_it_is_ours(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert document["info"] == {"title": "specimen", "description": "Every type of column.", "version": "1"}
    schema = schemathesis.openapi.from_dict(document)
    loaded: list[Any] = list(schema.get_all_operations())
    assert len({each.ok().label for each in loaded}) == len(loaded) == 3 + 5 * len(TABLES)
    schema.validate()
    text = json.dumps(document)
    assert "HTTPValidationError" not in text and "ValidationError" not in text
    for path in document["paths"]:
        assert path in ("/healthz", "/readyz", "/metrics") or path.startswith("/v1/")


def test_every_reference_leads_somewhere_and_every_schema_is_used(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    for reference in re.findall(r'"(#/[^"]+)"', text):
        assert resolved(document, {"$ref": reference})["type"] == "object"
    for name in document["components"]["schemas"]:
        assert f'"#/components/schemas/{name}"' in text, name
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))


STATUSES = {
    "get": {"200", "422", "503"},
    "post": {"201", "408", "409", "413", "422", "503"},
    "get {id}": {"200", "404", "422", "503"},
    "patch {id}": {"200", "404", "408", "409", "413", "422", "503"},
    "delete {id}": {"204", "404", "409", "422", "503"},
}


def test_every_operation_names_what_may_happen(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        responses = operation["responses"]
        if path.startswith("/v1/"):
            assert set(responses) == STATUSES[method + (" {id}" if "{id}" in path else "")], path
        for status, response in responses.items():
            assert response["description"]
            if status >= "400":
                assert response["content"] == {
                    "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
                }
            if status == "503":
                assert response["headers"]["Retry-After"]["schema"] == {"type": "integer"}
            if status == "204":
                assert "content" not in response
            if status == "201":
                assert response["headers"]["Location"]["schema"] == {"type": "string"}
    assert set(document["paths"]["/readyz"]["get"]["responses"]) == {"200", "503"}
    assert set(document["paths"]["/healthz"]["get"]["responses"]) == {"200"}


def test_a_problem_is_as_rfc_9457_says(document: dict[str, Any]) -> None:
    problem = document["components"]["schemas"]["Problem"]
    assert problem["required"] == ["type", "title", "status", "detail"]
    assert problem["properties"]["errors"]["items"]["required"] == ["field", "message"]


def test_a_page_has_limits(document: dict[str, Any]) -> None:
    for table in TABLES:
        found = {
            parameter["name"]: (parameter["in"], parameter["required"], parameter["schema"])
            for parameter in document["paths"][f"/v1/{table.name}"]["get"]["parameters"]
        }
        assert {name: (place, required) for name, (place, required, _) in found.items()} == {
            "limit": ("query", False),
            "after": ("query", False),
        }
        limit, after = found["limit"][2], found["after"][2]
        assert (limit["type"], limit["minimum"], limit["maximum"], limit["default"]) == (
            "integer",
            1,
            200,
            50,
        )
        assert (after["type"], after["minimum"], after["maximum"], after["default"]) == (
            "integer",
            0,
            INT64,
            0,
        )
        page = answered(document, f"/v1/{table.name}", "get", "200")
        assert page["required"] == ["items", "next"] and page["properties"]["items"]["type"] == "array"
        row = resolved(document, page["properties"]["items"]["items"])
        assert row == answered(document, f"/v1/{table.name}", "post", "201")
        for method in ("get", "patch", "delete"):
            (parameter,) = document["paths"][f"/v1/{table.name}/{{id}}"][method]["parameters"]
            schema = parameter["schema"]
            assert (parameter["name"], parameter["in"], schema["minimum"], schema["maximum"]) == (
                "id",
                "path",
                1,
                INT64,
            )


def test_every_column_is_there_under_its_name(document: dict[str, Any]) -> None:
    for table in TABLES:
        written = [column.name for column in table.columns if column.name not in MANAGED_COLUMNS]
        create, patch = sent(document, table, "post"), sent(document, table, "patch")
        assert list(create["properties"]) == list(patch["properties"]) == written
        assert create["additionalProperties"] is patch["additionalProperties"] is False
        required = [
            c.name for c in table.columns if c.name in written and not c.nullable and "default" not in c.info
        ]
        assert create.get("required", []) == required and "required" not in patch
        for path, method, status in (
            (f"/v1/{table.name}", "post", "201"),
            (f"/v1/{table.name}/{{id}}", "get", "200"),
            (f"/v1/{table.name}/{{id}}", "patch", "200"),
        ):
            row = answered(document, path, method, status)
            assert (
                list(row["properties"])
                == row["required"]
                == [column.name for column in public_columns(table)]
            )
            for column in public_columns(table):
                assert (
                    {"type": "null"} in row["properties"][column.name].get("anyOf", [])
                ) == column.nullable


LIMITS: dict[str, dict[str, Any]] = {
    "string": {"type": "string", "maxLength": 40},
    "text": {"type": "string"},
    "integer": {"type": "integer", "minimum": -INT32 - 1, "maximum": INT32},
    "bigint": {"type": "integer", "minimum": -INT64 - 1, "maximum": INT64},
    "boolean": {"type": "boolean"},
    "float": {"type": "number"},
    "date": {"type": "string", "format": "date"},
    "timestamp": {"type": "string", "format": "date-time"},
    "uuid": {"type": "string", "format": "uuid"},
    "binary": {"type": "string", "contentEncoding": "base64"},
    "enum": {"type": "string", "enum": ["a", "b", "long value"]},
}


def test_types_and_limits_are_named(document: dict[str, Any]) -> None:
    create = sent(document, values, "post")["properties"]
    row = answered(document, "/v1/values", "post", "201")["properties"]
    for name, expected in LIMITS.items():
        for schema in (create[name], row[name]):
            found, null = schema["anyOf"]
            assert expected.items() <= found.items() and null == {"type": "null"}, name
            for limit in ("minimum", "maximum"):
                assert isinstance(found.get(limit, 0), int)
    plain, number = create["decimal"]["anyOf"][0]["anyOf"]
    assert number == {"type": "number"}
    for schema, right, wrong in (
        (plain, ("0", "-1.5", "9999999999.99"), ("1.234", "12345678901", "1e5", "x", "+1", "NaN", "")),
        (row["decimal"]["anyOf"][0], ("0.00", "-9999999999.99"), ("1", "1.5", "1e5")),
        (create["time"]["anyOf"][0], ("00:00:00", "23:59:59.999999"), ("24:00:00", "1:00", "00:00:00Z")),
    ):
        assert all(jsonschema_rs.is_valid(schema, value) for value in right)
        assert not any(jsonschema_rs.is_valid(schema, value) for value in wrong)


def test_defaults_are_named(document: dict[str, Any]) -> None:
    create, patch = (sent(document, users, method)["properties"] for method in ("post", "patch"))
    for column in users.columns:
        if column.name not in MANAGED_COLUMNS and column.default is not None:
            assert create[column.name]["default"] == column.default.arg  # type: ignore[attr-defined]
        elif column.name in create:
            assert "default" not in create[column.name]
    assert not any("default" in each for each in patch.values())


def test_secrets_are_write_only(document: dict[str, Any]) -> None:
    for table in TABLES:
        for method in ("post", "patch"):
            for name, schema in sent(document, table, method)["properties"].items():
                assert schema.get("writeOnly", False) == is_secret(table.columns[name])
    row = answered(document, "/v1/users", "post", "201")
    assert "password" not in row["properties"]


def test_examples_are_right(document: dict[str, Any]) -> None:
    for table in TABLES:
        for name, schema in sent(document, table, "post")["properties"].items():
            for shape in schema.get("anyOf", [schema]):
                for value in shape.get("examples", ()):
                    assert jsonschema_rs.is_valid(schema, value), (table.name, name)


# --- it does what it says


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
        valid(document, answered(document, where, method, status), body)
    body = example(table, **{key: row[key] for key in row if key.endswith("_id") and row[key]})
    valid(document, sent(document, table, "post"), body)
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


@only("sqlite", "postgresql")
@pytest.mark.parametrize("seed", [1])
async def test_schemathesis_finds_nothing(
    private_database: servers.Database, tmp_path: Path, seed: int
) -> None:
    """Examples, edges of the schema, what hypothesis makes up, and operations in a row: no 500, no status, header or
    body that is not documented, nothing that is wrong and taken, no method but the documented ones."""
    service = specimen(tmp_path)
    settings = Settings.load({**private_database.environ(), "DB_POOL_SIZE": "4", "DB_MAX_RETRIES": "0"})
    await asyncio.to_thread(service.tables.create_all, service.engine(settings).sqlalchemy())
    async with service.running(settings), listening(service) as url:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
            *("--max-examples", "15", "--seed", str(seed), "--checks", "all"),
            *(
                "--exclude-checks",
                "positive_data_acceptance",
            ),  # JSON Schema cannot say all that is asked of a value
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
